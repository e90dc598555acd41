//! Gets the values that a request may have: from the store while they are fresh, otherwise from the resolver,
//! with one flight per item, until the deadline.

mod fields;
mod flight;
mod join;
mod limits;
mod look_up;
mod refresh;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::domain::name::{CredentialId, SourceName};
use crate::domain::reference::FieldRef;
use crate::domain::secret::Wanted;
use crate::host::clock::BootTime;
use crate::host::pause::{Growing, varied};
use crate::ipc::{Class, Declarations, Failure, Resolve, Status};
use crate::provider::base::active_config::{ActiveConfig, CurrentConfig};
use crate::provider::base::asker::Asker;
use crate::provider::base::events::{Event, Events};
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::process_id::ProcessId;
use crate::provider::fetch::absent::AbsentFields;
use crate::provider::fetch::askers::Askers;
use crate::provider::fetch::outages::Troubles;
use crate::provider::fetch::single_flight::Flights;
use crate::provider::observe::secret_status::{Condition, Seen};
use crate::provider::store::freshness::ServeDecision;
use crate::provider::store::start_pins::Pins;
use crate::provider::store::{Digest, Held, Slot, Store};

pub use look_up::{LookUp, Order, Pending, Ready};
pub use refresh::{Asked, Refreshed, Thoroughness};

/// How long one attempt of the resolver may take. If it fails, others follow within the deadline.
const FETCH_PATIENCE: Duration = Duration::from_secs(20);
/// How long a check may take in the resolver.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a check may delay a value that is in the store. Longer than [`CHECK_PATIENCE`], because the
/// resolver's answer gives the reason of a failure, and arrives late on a busy machine.
const CHECK_LIMIT: Duration = Duration::from_secs(7);

/// How many items are fetched ahead at the same time: enough for one batch, but not so many that requests of
/// units must wait behind them.
const AHEAD_AT_ONCE: usize = 128;
/// How long the resolver may take for an item that is fetched ahead.
const AHEAD_PATIENCE: Duration = Duration::from_secs(60);
/// How many successful fetches that leave nothing to serve one request makes.
const MOST_FETCHES: u32 = 3;

/// Gets values.
pub struct Broker {
    resolver: Arc<dyn Resolve>,
    store: Store,
    config: Arc<CurrentConfig>,
    pins: Pins,
    fetches: Flights<ItemKey>,
    /// Fields that requests are waiting for, which the next flight of their item fetches.
    awaited: Mutex<HashMap<ItemKey, BTreeSet<FieldRef>>>,
    checks: Flights<SourceName>,
    troubles: Troubles,
    /// Limits how many items are fetched ahead at the same time.
    turns_ahead: Arc<Semaphore>,
    /// Whether the items to fetch ahead were looked for since the configuration became active.
    looked_ahead: AtomicBool,
    /// Items whose last look-up failed.
    failing: Mutex<HashMap<ItemKey, Failure>>,
    askers: Askers,
    /// The fields that items lack.
    absent: AbsentFields,
    /// When the configuration was last reloaded: what was missing before that is looked up again.
    reloaded: Mutex<Option<BootTime>>,
    /// Broadcasts changes of secrets.
    pub events: Events,
}

impl Broker {
    /// Creates a broker over a store and a resolver. Items that the configuration does not contain are
    /// removed from the store.
    pub fn new(resolver: Arc<dyn Resolve>, store: Store, config: Arc<CurrentConfig>) -> Self {
        let broker = Self {
            resolver,
            store,
            config,
            pins: Pins::default(),
            fetches: Flights::default(),
            awaited: Mutex::default(),
            checks: Flights::default(),
            troubles: Troubles::default(),
            turns_ahead: Arc::new(Semaphore::new(AHEAD_AT_ONCE)),
            looked_ahead: AtomicBool::new(false),
            failing: Mutex::default(),
            askers: Askers::default(),
            absent: AbsentFields::default(),
            reloaded: Mutex::default(),
            events: Events::default(),
        };
        broker.keep_only(&broker.config());
        broker
    }

    /// The active configuration.
    pub(super) fn config(&self) -> Arc<ActiveConfig> {
        self.config.get()
    }

    /// Activates another configuration. Items that it does not contain are removed from the store first, so
    /// that a request never finds them.
    pub fn activate(&self, next: ActiveConfig) {
        self.keep_only(&next);
        self.config.replace(next);
        self.looked_ahead.store(false, Ordering::Relaxed);
        self.absent.clear();
        self.askers.forget_limits();
        *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(BootTime::now());
        self.events.tell(Event::Configured);
    }

    /// Removes everything from the store and from memory that a configuration does not contain. A
    /// configuration with errors removes nothing.
    fn keep_only(&self, next: &ActiveConfig) {
        if next.error.is_some() {
            return;
        }
        let limit = next.settings.limits.store_bytes;
        self.store
            .retain(limit, |snapshot| next.keeps(&snapshot.key, snapshot.by_rule, &snapshot.source_print));
        for name in self.store.all_held() {
            let Some(held) = self.store.held(&name) else { continue };
            if !next.secret(&name).is_some_and(|secret| held.is_of(&secret.wanted)) {
                self.store.release(&name);
                tracing::warn!(
                    onecred_secret = name.as_str(),
                    "secret {name}: its override is removed, since the secret is configured differently now"
                );
            }
        }
        let before = self.config();
        let is_same = |source: &SourceName| before.print(source) == next.print(source);
        self.failing().retain(|key, _| !next.fields(key).is_empty() && is_same(&key.source));
    }

    /// The store of fetched values.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The status of a secret for any unit.
    pub fn condition(&self, wanted: &Wanted) -> Condition {
        self.condition_for(wanted, &[])
    }

    /// The status of a secret for units that request it under these IDs.
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

    /// The store's data about an item, if they come from the source's current definition.
    pub(crate) fn slot(&self, key: &ItemKey) -> Option<Slot> {
        let active = self.config();
        self.store.slot(key).filter(|slot| slot.snapshot.source_print == active.print(&key.source))
    }

    /// The override of a secret. Ignores one that was set for an earlier definition of the secret while the
    /// configuration changed.
    fn held(&self, wanted: &Wanted) -> Option<Held> {
        self.store.held(&wanted.label).filter(|held| held.is_of(wanted))
    }

    /// The digest of the stored value, of any age.
    pub(in crate::provider) fn digest(&self, wanted: &Wanted) -> Option<Digest> {
        let field = &wanted.reference.field;
        match self.held(wanted) {
            Some(held) => held.snapshot.digest(field),
            None => self.slot(&ItemKey::new(&wanted.source, &wanted.reference.item))?.snapshot.digest(field),
        }
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<ItemKey, Failure>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the outcome of looking up an item, and reports a failure if it is new.
    fn note(&self, key: &ItemKey, failure: Option<&Failure>) {
        let Some(failure) = failure else {
            self.failing().remove(key);
            return;
        };
        if failure.is_of_asker {
            return; // it says nothing about the item
        }
        if self.config().fields(key).is_empty() {
            return; // granted by a rule: the number of such items is unlimited
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

    /// The size of the store: items and bytes.
    pub fn size(&self) -> (usize, u64) {
        self.store.size()
    }

    /// Drops what is no longer needed, and saves the results of checks for the next process. Call it
    /// periodically and at the end.
    pub fn sweep(&self) {
        self.pins.sweep(BootTime::now());
        self.store.save_confirmations();
    }

    /// Drops the generations that an asker is pinned to. Call it for askers that are not processes: they
    /// never ask again, and their number is unlimited.
    pub fn forget(&self, process: ProcessId) {
        self.pins.forget(process);
    }

    /// Gets a value within its deadline. Temporary failures are retried until then; other failures end the
    /// request at once.
    pub async fn get(self: &Arc<Self>, order: &Order) -> Result<Ready, Failure> {
        self.get_by(order, Instant::now() + order.wanted.deadline).await
    }

    /// Like [`Self::get`], but with a deadline that may have begun earlier. At the deadline, an older value
    /// is better than none.
    pub async fn get_by(self: &Arc<Self>, order: &Order, deadline: Instant) -> Result<Ready, Failure> {
        let got = self.wait_for(order, deadline).await;
        if got.as_ref().map_or_else(|failure| !failure.class.is_transient(), |_| true) {
            self.settled(order);
        }
        got
    }

    async fn wait_for(self: &Arc<Self>, order: &Order, deadline: Instant) -> Result<Ready, Failure> {
        let order = &mut order.clone();
        let mut pauses = Growing::doubling(Duration::from_millis(250), Duration::from_secs(8));
        let mut fetched = 0;
        loop {
            let failure = match self.look_up(order) {
                LookUp::Ready(ready) => return Ok(ready),
                LookUp::Pending(Pending { step: ServeDecision::Refuse(failure), .. })
                    if !failure.class.is_transient() =>
                {
                    return Err(failure);
                }
                LookUp::Pending(Pending { step: ServeDecision::Refuse(failure), .. }) => failure,
                LookUp::Pending(Pending { older, .. }) if Instant::now() >= deadline => {
                    let why = self.why_late(&order.wanted.source);
                    let Some(older) = older else { return Err(why) };
                    self.pins.set(order.process, &older.snapshot, BootTime::now());
                    return Ok(older.stale(why));
                }
                LookUp::Pending(Pending { step: ServeDecision::Check, .. }) => {
                    let _ = self.checked(&order.wanted.source, deadline, &order.asker).await;
                    continue;
                }
                LookUp::Pending(_) if fetched == MOST_FETCHES => return Err(never_fresh()),
                LookUp::Pending(Pending { key, .. }) => {
                    let print = self.config().print(&key.source).to_owned();
                    match timeout_at(
                        deadline,
                        self.fetched(&key, &order.wanted.reference.field, &order.asker),
                    )
                    .await
                    {
                        Ok(Ok(())) => {
                            fetched += 1;
                            continue;
                        }
                        // the flight has ended, and before this request continued, the source was defined
                        // differently
                        Ok(Err(_)) if !self.is_current(&key.source, &print) => redefined(&key.source),
                        Ok(Err(failure)) if failure.class.is_transient() => failure,
                        Ok(Err(failure)) => return Err(failure),
                        Err(_elapsed) => continue, // as at any deadline
                    }
                }
            };
            fetched = 0; // a new attempt begins
            let pause = pauses.pause();
            let wait = varied(failure.retry_after.unwrap_or(pause).max(pause), 0.2);
            let next = (Instant::now() + wait).min(deadline);
            let _ = timeout_at(next, self.troubles.over()).await;
            order.arrived = BootTime::now(); // look up again what failed temporarily
            if Instant::now() >= deadline {
                return Err(failure);
            }
        }
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<ItemKey, BTreeSet<FieldRef>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_late(&self, source: &SourceName) -> Failure {
        self.troubles.present(source, self.config().print(source)).unwrap_or_else(|| no_answer(source))
    }

    /// Fetches the item once, whatever the result.
    pub(in crate::provider) async fn try_once(
        self: &Arc<Self>,
        wanted: &Wanted,
        asker: &Asker,
    ) -> Result<(), Failure> {
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        self.fetched(&key, &wanted.reference.field, asker).await
    }

    /// The age from which a missing item is looked up again; for an administrator zero.
    fn look_again(&self, asker: &Asker, now: BootTime) -> Option<Duration> {
        match asker {
            Asker::Admin => Some(Duration::ZERO),
            _ => Some(self.reloaded.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.age(now)),
        }
    }

    /// Waits until a source answers again after an outage.
    pub(crate) async fn source_is_back(&self) {
        self.troubles.over().await;
    }

    /// The resolver's status of the sources of these definitions.
    pub async fn status(&self, sources: Declarations) -> Result<Status, Failure> {
        self.resolver.status(sources).await
    }

    /// Whether a source still has the definition with which it was asked. If not, the answer does not count.
    fn is_current(&self, source: &SourceName, print: &str) -> bool {
        self.config().print(source) == print
    }

    /// The last failure of a source, as a reason for waiting.
    pub fn last_failure(&self, source: &SourceName) -> Option<Failure> {
        self.troubles.last(source, self.config().print(source))
    }
}

fn redefined(source: &SourceName) -> Failure {
    let cause = format!("the definition of source {source} changed during a request");
    Failure::new(Class::Away, cause, "wait").retry_after(Duration::from_millis(100))
}

fn never_fresh() -> Failure {
    let cause = "each fetched value had already expired or changed again";
    Failure::new(Class::Malformed, cause, "if it is a one-time password, check the clock: timedatectl")
}

fn no_answer(source: &SourceName) -> Failure {
    let remedy = "see: systemctl status onecred-resolver; is 1Password reachable from this host?";
    Failure::new(Class::Away, format!("no answer from source {source} in time"), remedy)
}

#[cfg(test)]
mod absent_tests;
#[cfg(test)]
mod assemble_tests;
#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod deadline_tests;
#[cfg(test)]
mod partial_tests;
#[cfg(test)]
mod redefined_tests;
#[cfg(test)]
mod refresh_tests;
#[cfg(test)]
pub(in crate::provider) mod tests;
