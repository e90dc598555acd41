//! Looks values up without waiting: what may be served, or what must happen first.

use std::sync::Arc;

use super::Broker;
use crate::domain::reference::FieldRef;
use crate::domain::secret::{SecretValue, Wanted};
use crate::host::clock::BootTime;
use crate::host::pauses::Paused;
use crate::ipc::{Class, Failure};
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::asker::Asker;
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::store::freshness::{Absence, Moment, ServeDecision, judge};
use crate::provider::store::{Held, Slot, Snapshot, StoredField};

/// A value that may be served, by its position in a snapshot.
#[derive(Debug)]
pub struct Ready {
    /// The snapshot that contains it.
    pub snapshot: Arc<Snapshot>,
    offset: u64,
    len: usize,
    /// Why it is older than allowed, if it is.
    pub stale: Option<Failure>,
}

/// The result of a look-up.
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
    pub(super) step: ServeDecision,
    pub(super) key: ItemKey,
    /// The value that is served if the source does not answer.
    pub older: Option<Ready>,
}

impl Ready {
    /// The value of a field in a snapshot.
    fn of(snapshot: Arc<Snapshot>, field: &FieldRef) -> Option<Self> {
        let Some(&StoredField::Value { offset, len, .. }) = snapshot.entry(field) else { return None };
        Some(Self { snapshot, offset, len, stale: None })
    }

    /// Marks the value as older than allowed.
    pub(super) fn stale(self, why: Failure) -> Self {
        Self { stale: Some(why), ..self }
    }

    /// Reads the value.
    pub fn read(&self) -> Result<SecretValue, Refusal> {
        self.snapshot.read(self.offset, self.len).map_err(Refusal::Unreadable)
    }
}

/// A request to the broker.
#[derive(Debug, Clone)]
pub struct Order {
    /// What to get.
    pub wanted: Arc<Wanted>,
    /// The process that asks.
    pub process: ProcessId,
    /// When the request arrived.
    pub arrived: BootTime,
    /// On whose behalf it is made.
    pub asker: Asker,
}

impl Broker {
    /// Why a field is not fetched now: it failed for a lasting reason, its pause has not ended, and its item
    /// is not known to have changed.
    pub(super) fn absence(&self, wanted: &Wanted) -> Option<Failure> {
        let (field, active) = (&wanted.reference.field, self.config());
        let slot = self.slot(&ItemKey::new(&wanted.source, &wanted.reference.item))?;
        let Paused { what: failure, ago, left } = self.paused(Some(&slot), field, BootTime::now())?;
        let absence = Absence { failure: &failure, ago, left, at_once: &at_once(&active, wanted) };
        (!slot.changed).then(|| absence.explain())
    }

    fn paused(&self, slot: Option<&Slot>, field: &FieldRef, now: BootTime) -> Option<Paused<Failure>> {
        let snapshot = &slot?.snapshot;
        match snapshot.entry(field) {
            Some(StoredField::Value { .. }) => None,
            // an entry of another unit's field that failed is not kept for long
            Some(StoredField::Failed(_)) | None => {
                self.absent.present(&snapshot.key, field, snapshot.version, now)
            }
        }
    }

    /// Looks a value up without waiting. Returns it, or what must happen first. Pins the process to the
    /// generation of the item.
    pub fn look_up(&self, order: &Order) -> LookUp {
        let (wanted, now) = (&order.wanted, BootTime::now());
        if let Some(Held { snapshot, offset, len, .. }) = self.held(wanted) {
            return LookUp::Ready(Ready { snapshot, offset, len, stale: None });
        }
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        let field = &wanted.reference.field;
        let active = self.config();
        // values from another source that had this name do not count
        let print = active.print(&wanted.source);
        let pinned = self.pins.get(order.process, &key).filter(|pinned| pinned.source_print == print);
        if let Some(ready) = pinned.as_ref().and_then(|snapshot| Ready::of(Arc::clone(snapshot), field)) {
            return LookUp::Ready(ready);
        }
        let slot = self.store.slot(&key).filter(|slot| slot.snapshot.source_print == print);
        let doubt = || slot.as_ref().and_then(|slot| slot.doubt(now).cloned());
        let trouble =
            self.troubles.present(&wanted.source, print).or_else(doubt).or_else(|| self.limited(order, now));
        let paused = self.paused(slot.as_ref(), field, now);
        let at_once = paused.as_ref().map(|_| at_once(&active, wanted)).unwrap_or_default();
        let absence = paused.as_ref().map(|Paused { what: failure, ago, left }| Absence {
            failure,
            ago: *ago,
            left: *left,
            at_once: &at_once,
        });
        let moment = Moment { now, arrived: order.arrived, troubled: trouble.is_some(), absence };
        let is_of_generation =
            |slot: &Slot| pinned.as_ref().is_none_or(|pinned| pinned.version == slot.snapshot.version);
        match (judge(slot.as_ref(), field, wanted.max_age, moment), slot) {
            (ServeDecision::Serve { .. }, Some(slot)) if !is_of_generation(&slot) => {
                LookUp::Pending(Pending { step: ServeDecision::Refuse(torn()), key, older: None })
            }
            (ServeDecision::Serve { offset, len, stale }, Some(Slot { snapshot, .. })) => {
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

/// The command with which an administrator has it looked up at once.
fn at_once(active: &ActiveConfig, wanted: &Wanted) -> String {
    match active.secret(&wanted.label) {
        Some(secret) => format!("onecred refresh {}", secret.name),
        None => "onecred reload".to_owned(),
    }
}

fn torn() -> Failure {
    let cause =
        "the item changed while the unit was starting, so that its credentials would not belong together";
    Failure::new(Class::Several, cause, "start the unit again")
}
