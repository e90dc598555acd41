//! Gets what a request is allowed: from the store while it is fresh, else by the resolver, one flight per item, until the deadline.

mod flight;
mod refresh;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::domain::name::{CredentialId, SourceName};
use crate::domain::reference::FieldRef;
use crate::domain::secret::{SecretValue, Wanted};
use crate::host::clock::BootTime;
use crate::host::pause::{Growing, varied};
use crate::ipc::{Class, Declarations, Failure, Resolve, Status};
use crate::provider::base::active_config::Active;
use crate::provider::base::events::{Event, Events};
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::fetch::outages::Troubles;
use crate::provider::fetch::single_flight::Flights;
use crate::provider::observe::secret_status::{Condition, Seen};
use crate::provider::store::freshness::{Moment, Step, judge};
use crate::provider::store::start_pins::Pins;
use crate::provider::store::{Entry, Held, Slot, Snapshot, Store};

pub use refresh::{Asked, Refreshed, Thoroughness};

/// How long the resolver may take for one try; within the deadline another follows.
const FETCH_PATIENCE: Duration = Duration::from_secs(20);
/// How long a check may hold up a value that is there.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);

/// How many items are fetched ahead at once: enough for one batch, not so many that a unit that asks has to wait behind all.
const AHEAD_AT_ONCE: usize = 128;
/// How long the resolver may take for what is fetched ahead.
const AHEAD_PATIENCE: Duration = Duration::from_secs(60);
/// How many fetches that succeed, and still leave nothing to serve, one request makes.
const MOST_FETCHES: u32 = 3;

/// Gets what is wanted.
pub struct Broker {
    resolver: Arc<dyn Resolve>,
    store: Store,
    active: RwLock<Arc<Active>>,
    pins: Pins,
    fetches: Flights<ItemKey>,
    /// Fields that somebody waits for, and that the next flight of their item brings.
    awaited: Mutex<HashMap<ItemKey, BTreeSet<FieldRef>>>,
    checks: Flights<SourceName>,
    troubles: Troubles,
    /// How many items are fetched ahead at once.
    turns_ahead: Arc<Semaphore>,
    /// What was fetched ahead already, or is being: each item once for a configuration.
    ahead: Mutex<BTreeSet<ItemKey>>,
    /// What could not be had the last time that it was looked up.
    failing: Mutex<HashMap<ItemKey, Failure>>,
    /// Tells what happens to secrets.
    pub events: Events,
}

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

impl Ready {
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
    /// A broker over a store and a resolver.
    pub fn new(resolver: Arc<dyn Resolve>, store: Store, active: Active) -> Self {
        let broker = Self {
            resolver,
            store,
            active: RwLock::default(),
            pins: Pins::default(),
            fetches: Flights::default(),
            awaited: Mutex::default(),
            checks: Flights::default(),
            troubles: Troubles::default(),
            turns_ahead: Arc::new(Semaphore::new(AHEAD_AT_ONCE)),
            ahead: Mutex::default(),
            failing: Mutex::default(),
            events: Events::default(),
        };
        broker.activate(active);
        broker
    }

    /// What is configured now.
    pub fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes over to another configuration: what it no longer has leaves the store.
    pub fn activate(&self, active: Active) {
        let limit = active.settings.limits.store_bytes;
        if active.error.is_none() {
            self.store.retain(limit, |snapshot| {
                active.keeps(&snapshot.key, snapshot.by_rule, &snapshot.source_print)
            });
        }
        if active.error.is_none() {
            for name in self.store.all_held() {
                let Some(held) = self.store.held(&name) else { continue };
                if !active.secret(&name).is_some_and(|secret| held.is_of(&secret.wanted)) {
                    self.store.release(&name);
                    tracing::warn!(
                        onecred_secret = name.as_str(),
                        "secret {name}: what stood in for it is released, since it is configured otherwise now"
                    );
                }
            }
            let before = self.active();
            let is_same = |source: &SourceName| before.print(source) == active.print(source);
            self.failing().retain(|key, _| !active.fields(key).is_empty() && is_same(&key.source));
        }
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(active);
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.events.tell(Event::Configured);
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How a secret stands, whoever asks for it.
    pub fn condition(&self, wanted: &Wanted) -> Condition {
        self.condition_for(wanted, &[])
    }

    /// How a secret stands for units that ask for it by these IDs.
    pub fn condition_for(&self, wanted: &Wanted, ids: &[CredentialId]) -> Condition {
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        let slot = self.slot(&key);
        let failing = self.failing().get(&key).cloned();
        let trouble = self.last_failure(&wanted.source);
        let held = self.held(wanted);
        let (slot, failing) = (slot.as_ref(), failing.as_ref());
        Condition::of(
            wanted,
            &Seen {
                slot,
                failing,
                trouble: trouble.as_ref(),
                held: held.as_ref(),
                ids,
                now: BootTime::now(),
            },
        )
    }

    /// What the store has of an item of the source as it is defined now.
    pub(crate) fn slot(&self, key: &ItemKey) -> Option<Slot> {
        let active = self.active();
        self.store.slot(key).filter(|slot| slot.snapshot.source_print == active.print(&key.source))
    }

    /// What stands in for a secret. What was held while the configuration changed may be of what it was before.
    fn held(&self, wanted: &Wanted) -> Option<Held> {
        self.store.held(&wanted.label).filter(|held| held.is_of(wanted))
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<ItemKey, Failure>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how looking an item up went, and tells of a failure that is a new one.
    fn note(&self, key: &ItemKey, failure: Option<&Failure>) {
        let Some(failure) = failure else {
            self.failing().remove(key);
            return;
        };
        if self.active().fields(key).is_empty() {
            return; // by a rule: there may be any number of those
        }
        let before = self.failing().insert(key.clone(), failure.clone());
        if before.is_none_or(|before| before.class != failure.class) {
            self.events.tell(Event::Failed { key: key.clone(), fields: None, failure: failure.clone() });
        }
    }

    /// Whether there is a store.
    pub fn has_store(&self) -> bool {
        self.store.exists()
    }

    /// The store's size: items and bytes.
    pub fn size(&self) -> (usize, u64) {
        self.store.size()
    }

    /// To be called now and then, and in the end: gives up what nobody needs any more, and keeps what checks have found for the next process.
    pub fn sweep(&self) {
        self.pins.sweep(BootTime::now());
        self.store.save_confirmations();
    }

    /// Forgets which generations an asker has. One that is no process never asks again, and there may be any number of those.
    pub fn forget(&self, process: ProcessId) {
        self.pins.forget(process);
    }

    /// What can be served without a wait, if it can.
    pub fn at_once(&self, order: &Order) -> Option<Ready> {
        match self.look(order) {
            Look::Ready(ready) => Some(ready),
            Look::Todo { .. } => None,
        }
    }

    /// Gets what is wanted, within its deadline. A failure that passes is waited out until then; any other ends it at once.
    pub async fn get(self: &Arc<Self>, order: &Order) -> Result<Ready, Failure> {
        let order = &mut order.clone();
        let deadline = Instant::now() + order.wanted.deadline;
        let mut pauses = Growing::doubling(Duration::from_millis(250), Duration::from_secs(8));
        let mut fetched = 0;
        loop {
            let failure = match self.look(order) {
                Look::Ready(ready) => return Ok(ready),
                Look::Todo { step: Step::Refuse(failure), .. } if !failure.class.is_transient() => {
                    return Err(failure);
                }
                Look::Todo { step: Step::Refuse(failure), .. } => failure,
                Look::Todo { .. } if Instant::now() >= deadline => {
                    return Err(self.why_late(&order.wanted.source));
                }
                Look::Todo { step: Step::Check, .. } => {
                    let _ = self.checked(&order.wanted.source, deadline).await;
                    continue;
                }
                Look::Todo { .. } if fetched == MOST_FETCHES => return Err(never_fresh()),
                Look::Todo { key, .. } => {
                    match timeout_at(deadline, self.fetched(&key, &order.wanted.reference.field)).await {
                        Ok(Ok(())) => {
                            fetched += 1;
                            continue;
                        }
                        Ok(Err(failure)) if failure.class.is_transient() => failure,
                        Ok(Err(failure)) => return Err(failure),
                        Err(_elapsed) => return Err(self.why_late(&order.wanted.source)),
                    }
                }
            };
            let pause = pauses.pause();
            let wait = varied(failure.retry_after.unwrap_or(pause).max(pause), 0.2);
            let next = (Instant::now() + wait).min(deadline);
            let _ = timeout_at(next, self.troubles.over()).await;
            order.arrived = BootTime::now(); // what failed for a moment is looked up anew
            if Instant::now() >= deadline {
                return Err(failure);
            }
        }
    }

    /// Has the source's items compared with 1Password. Whatever comes of it, there is something to serve then: a failure is remembered
    /// as trouble, in which values are served as they are.
    pub(crate) async fn checked(
        self: &Arc<Self>,
        source: &SourceName,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let limit = deadline.min(Instant::now() + CHECK_PATIENCE);
        let check = self.checks.join(source, || Arc::clone(self).check(source.clone()));
        let print = self.active().print(source).to_owned();
        timeout_at(limit, check).await.unwrap_or_else(|_elapsed| {
            let failure = no_answer(source);
            if self.is_current(source, &print) {
                self.troubles.begin(source, &print, &failure);
            }
            Err(failure)
        })
    }

    /// Has the item fetched, with the field that is wanted: by this flight, or if it left without it, by the next.
    pub(crate) async fn fetched(self: &Arc<Self>, key: &ItemKey, field: &FieldRef) -> Result<(), Failure> {
        let field = field.clone();
        self.awaited().entry(key.clone()).or_default().insert(field);
        self.fetches.join(key, || Arc::clone(self).fetch(key.clone(), FETCH_PATIENCE)).await
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<ItemKey, BTreeSet<FieldRef>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_late(&self, source: &SourceName) -> Failure {
        self.troubles.present(source, self.active().print(source)).unwrap_or_else(|| no_answer(source))
    }

    fn look(&self, order: &Order) -> Look {
        let (wanted, now) = (&order.wanted, BootTime::now());
        if let Some(Held { snapshot, offset, len, .. }) = self.held(wanted) {
            return Look::Ready(Ready { snapshot, offset, len, stale: None });
        }
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        let field = &wanted.reference.field;
        let active = self.active();
        // what comes from another source of this name is not of this one
        let print = active.print(&wanted.source);
        let pinned = self.pins.get(order.process, &key).filter(|pinned| pinned.source_print == print);
        if let Some(snapshot) = &pinned
            && let Some(Entry::Value { offset, len, .. }) = snapshot.entry(field)
        {
            return Look::Ready(Ready {
                snapshot: Arc::clone(snapshot),
                offset: *offset,
                len: *len,
                stale: None,
            });
        }
        let slot = self.store.slot(&key).filter(|slot| slot.snapshot.source_print == print);
        let doubt = || slot.as_ref().and_then(|slot| slot.doubt(now).cloned());
        let trouble = self.troubles.present(&wanted.source, print).or_else(doubt);
        let moment = Moment { now, arrived: order.arrived, troubled: trouble.is_some() };
        match (judge(slot.as_ref(), field, wanted.max_age, moment), slot) {
            (Step::Serve { .. }, Some(slot))
                if pinned.is_some_and(|pinned| pinned.version != slot.snapshot.version) =>
            {
                Look::Todo { step: Step::Refuse(torn()), key }
            }
            (Step::Serve { offset, len, stale }, Some(Slot { snapshot, .. })) => {
                self.pins.set(order.process, &snapshot, now);
                Look::Ready(Ready { snapshot, offset, len, stale: trouble.filter(|_| stale) })
            }
            (step, _) => Look::Todo { step, key },
        }
    }

    /// The value that is there, however old.
    pub(crate) fn stored(&self, wanted: &Wanted) -> Option<Ready> {
        if let Some(Held { snapshot, offset, len, .. }) = self.held(wanted) {
            return Some(Ready { snapshot, offset, len, stale: None });
        }
        let slot = self.slot(&ItemKey::new(&wanted.source, &wanted.reference.item))?;
        match slot.snapshot.entry(&wanted.reference.field) {
            Some(&Entry::Value { offset, len, .. }) => {
                Some(Ready { snapshot: slot.snapshot, offset, len, stale: None })
            }
            _ => None,
        }
    }

    /// Whether there is a value that is served where its source can't be asked.
    pub(crate) fn has(&self, wanted: &Wanted) -> bool {
        let slot = self.slot(&ItemKey::new(&wanted.source, &wanted.reference.item));
        slot.is_some_and(|slot| {
            !slot.changed && matches!(slot.snapshot.entry(&wanted.reference.field), Some(Entry::Value { .. }))
        })
    }

    /// Fetches the item of what is wanted once, whatever comes of it.
    pub(in crate::provider) async fn try_once(self: &Arc<Self>, wanted: &Wanted) -> Result<(), Failure> {
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        self.fetched(&key, &wanted.reference.field).await
    }

    /// Waits until a source that was in trouble answers again.
    pub(crate) async fn source_is_back(&self) {
        self.troubles.over().await;
    }

    /// How the sources of these definitions are, as the resolver has it.
    pub async fn status(&self, sources: Declarations) -> Result<Status, Failure> {
        self.resolver.status(sources).await
    }

    /// Whether a source is still defined as it was when it was asked: if not, what comes of that is not of it.
    fn is_current(&self, source: &SourceName, print: &str) -> bool {
        self.active().print(source) == print
    }

    /// The last failure of a source, as a cause for waiting.
    pub fn last_failure(&self, source: &SourceName) -> Option<Failure> {
        self.troubles.last(source, self.active().print(source))
    }
}

enum Look {
    Ready(Ready),
    Todo { step: Step, key: ItemKey },
}

fn redefined(source: &SourceName) -> Failure {
    let cause = format!("source {source} got another definition while it was asked");
    Failure::new(Class::Away, cause, "wait").retry_after(Duration::from_millis(100))
}

fn never_fresh() -> Failure {
    let cause = "what was fetched had expired, or changed again, each time it came";
    Failure::new(Class::Malformed, cause, "if it is a one-time password: is the clock right? (timedatectl)")
}

fn torn() -> Failure {
    let cause =
        "the item changed while the unit was starting, so that its credentials would not belong together";
    Failure::new(Class::Several, cause, "start the unit again")
}

fn no_answer(source: &SourceName) -> Failure {
    let remedy = "look at: systemctl status onecred-resolver; is 1Password reachable from here?";
    Failure::new(Class::Away, format!("no answer from source {source} in time"), remedy)
}

#[cfg(test)]
mod assemble_tests;
#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod refresh_tests;
#[cfg(test)]
pub(in crate::provider) mod tests;
