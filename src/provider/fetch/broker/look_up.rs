//! Looks values up without a wait: what may be served, or what must happen first.

use std::sync::Arc;

use super::Broker;
use crate::domain::reference::FieldRef;
use crate::domain::secret::{SecretValue, Wanted};
use crate::host::clock::BootTime;
use crate::ipc::{Class, Failure};
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::store::freshness::{Moment, Step, judge};
use crate::provider::store::{Entry, Held, Slot, Snapshot};

/// A value that may be served: where it is in its snapshot.
#[derive(Debug)]
pub struct Ready {
    /// The snapshot it is in.
    pub snapshot: Arc<Snapshot>,
    offset: u64,
    len: usize,
    /// Why it is older than it should be, if it is.
    pub stale: Option<Failure>,
}

/// What a look-up yields.
#[derive(Debug)]
pub enum LookUp {
    /// A value that may be served.
    Ready(Ready),
    /// Something must happen first.
    Pending(Pending),
}

/// What must happen before a value can be served.
#[derive(Debug)]
pub struct Pending {
    pub(super) step: Step,
    pub(super) key: ItemKey,
    /// The value that is served if the source does not answer.
    pub older: Option<Ready>,
}

impl Ready {
    /// The value of a field in a snapshot.
    fn of(snapshot: Arc<Snapshot>, field: &FieldRef) -> Option<Self> {
        let Some(&Entry::Value { offset, len, .. }) = snapshot.entry(field) else { return None };
        Some(Self { snapshot, offset, len, stale: None })
    }

    /// The same, older than it should be.
    pub(super) fn stale(self, why: Failure) -> Self {
        Self { stale: Some(why), ..self }
    }

    /// Reads it.
    pub fn read(&self) -> Result<SecretValue, Refusal> {
        self.snapshot.read(self.offset, self.len).map_err(Refusal::Unreadable)
    }
}

/// What is asked of the broker.
#[derive(Debug, Clone)]
pub struct Order {
    /// What to get.
    pub wanted: Arc<Wanted>,
    /// The process that asks.
    pub process: ProcessId,
    /// When it came.
    pub arrived: BootTime,
}

impl Broker {
    /// Looks a value up without a wait: yields it, or what must happen first. The process then has its generation of the item.
    pub fn look_up(&self, order: &Order) -> LookUp {
        let (wanted, now) = (&order.wanted, BootTime::now());
        if let Some(Held { snapshot, offset, len, .. }) = self.held(wanted) {
            return LookUp::Ready(Ready { snapshot, offset, len, stale: None });
        }
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        let field = &wanted.reference.field;
        let active = self.config();
        // what comes from another source of this name is not of this one
        let print = active.print(&wanted.source);
        let pinned = self.pins.get(order.process, &key).filter(|pinned| pinned.source_print == print);
        if let Some(ready) = pinned.as_ref().and_then(|snapshot| Ready::of(Arc::clone(snapshot), field)) {
            return LookUp::Ready(ready);
        }
        let slot = self.store.slot(&key).filter(|slot| slot.snapshot.source_print == print);
        let doubt = || slot.as_ref().and_then(|slot| slot.doubt(now).cloned());
        let trouble = self.troubles.present(&wanted.source, print).or_else(doubt);
        let moment = Moment { now, arrived: order.arrived, troubled: trouble.is_some() };
        let is_of_generation =
            |slot: &Slot| pinned.as_ref().is_none_or(|pinned| pinned.version == slot.snapshot.version);
        match (judge(slot.as_ref(), field, wanted.max_age, moment), slot) {
            (Step::Serve { .. }, Some(slot)) if !is_of_generation(&slot) => {
                LookUp::Pending(Pending { step: Step::Refuse(torn()), key, older: None })
            }
            (Step::Serve { offset, len, stale }, Some(Slot { snapshot, .. })) => {
                self.pins.set(order.process, &snapshot, now);
                LookUp::Ready(Ready { snapshot, offset, len, stale: trouble.filter(|_| stale) })
            }
            (step, slot) => {
                let older = slot.filter(|slot| !slot.changed && is_of_generation(slot));
                let older = older.and_then(|slot| Ready::of(slot.snapshot, field));
                LookUp::Pending(Pending { step, key, older })
            }
        }
    }
}

fn torn() -> Failure {
    let cause =
        "the item changed while the unit was starting, so that its credentials would not belong together";
    Failure::new(Class::Several, cause, "start the unit again")
}
