//! Gets what a request is allowed: from the store while it is fresh, else by the resolver, one flight per item, until the deadline.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::active::Active;
use super::flights::Flights;
use super::freshness::{Moment, Step, judge};
use super::peer::ProcessId;
use super::pins::Pins;
use super::refusal::Refusal;
use super::store::{Entry, ItemKey, NewSnapshot, Slot, Snapshot, Store};
use super::trouble::Troubles;
use super::units::UnitFiles;
use crate::clock::BootTime;
use crate::name::SourceName;
use crate::reference::FieldRef;
use crate::secret::{SecretValue, Wanted};
use crate::wire::{Check, Class, Failure, Fetch, Resolve};

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
            self.store.retain(limit, |snapshot| active.keeps(snapshot));
        }
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(active);
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Where what was fetched is.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Whether there is a store.
    pub fn has_store(&self) -> bool {
        self.store.exists()
    }

    /// The store's size: items and bytes.
    pub fn size(&self) -> (usize, u64) {
        self.store.size()
    }

    /// To be called now and then: gives up what nobody needs any more.
    pub fn sweep(&self) {
        self.pins.sweep(BootTime::now());
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
        let mut pause = Duration::from_millis(250);
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
                    self.checked(&order.wanted.source, deadline).await;
                    continue;
                }
                Look::Todo { .. } if fetched == MOST_FETCHES => return Err(never_fresh()),
                Look::Todo { key, .. } => match timeout_at(deadline, self.fetched(&key, order)).await {
                    Ok(Ok(())) => {
                        fetched += 1;
                        continue;
                    }
                    Ok(Err(failure)) if failure.class.is_transient() => failure,
                    Ok(Err(failure)) => return Err(failure),
                    Err(_elapsed) => return Err(self.why_late(&order.wanted.source)),
                },
            };
            let wait =
                failure.retry_after.unwrap_or(pause).max(pause).mul_f64(fastrand::f64().mul_add(0.4, 0.8));
            pause = (pause * 2).min(Duration::from_secs(8));
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
    async fn checked(self: &Arc<Self>, source: &SourceName, deadline: Instant) {
        let limit = deadline.min(Instant::now() + CHECK_PATIENCE);
        let check = self.checks.join(source, || Arc::clone(self).check(source.clone()));
        if timeout_at(limit, check).await.is_err() {
            self.troubles.begin(source, &no_answer());
        }
    }

    /// Has the item fetched, with the field that is wanted: by this flight, or if it left without it, by the next.
    async fn fetched(self: &Arc<Self>, key: &ItemKey, order: &Order) -> Result<(), Failure> {
        let field = order.wanted.reference.field.clone();
        self.awaited().entry(key.clone()).or_default().insert(field);
        self.fetches.join(key, || Arc::clone(self).fetch(key.clone(), FETCH_PATIENCE)).await
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<ItemKey, BTreeSet<FieldRef>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_late(&self, source: &SourceName) -> Failure {
        self.troubles.present(source).unwrap_or_else(no_answer)
    }

    fn look(&self, order: &Order) -> Look {
        let (wanted, now) = (&order.wanted, BootTime::now());
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
        let trouble = self.troubles.present(&wanted.source);
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

    /// The flight of one item: all its configured fields, those that its snapshot has, and those that are waited for.
    async fn fetch(self: Arc<Self>, key: ItemKey, patience: Duration) -> Result<(), Failure> {
        let asked_at = BootTime::now();
        let active = self.active();
        let print = active.print(&key.source);
        let slot = self.store.slot(&key).filter(|slot| slot.snapshot.source_print == print);
        let mut fields: BTreeSet<FieldRef> = active.fields(&key).iter().cloned().collect();
        fields.extend(slot.iter().flat_map(|slot| slot.snapshot.fields().cloned()));
        fields.extend(self.awaited().remove(&key).unwrap_or_default());
        let fields: Vec<FieldRef> = fields.into_iter().collect();
        let known = slot.as_ref().map(|slot| slot.snapshot.id.clone());
        let fetch = Fetch {
            source: key.source.clone(),
            print: print.to_owned(),
            item: key.item.clone(),
            known,
            fields: fields.clone(),
            patience,
        };
        let result = self.resolver.fetch(fetch).await;
        if patience == FETCH_PATIENCE || result.is_ok() {
            self.troubles.note(&key.source, result.as_ref().err()); // what is fetched ahead in a crowd may be late without any trouble
        }
        match result {
            Ok(fetched) if self.active().print(&key.source) != print => {
                drop(fetched);
                let cause = format!("source {} was defined anew while it was asked", key.source);
                Err(Failure::new(Class::Away, cause, "wait").retry_after(Duration::from_millis(100)))
            }
            Ok(fetched) => {
                let passing = fetched
                    .fields
                    .iter()
                    .filter_map(|field| field.as_ref().err())
                    .find(|f| f.class.is_transient());
                if let (Some(failure), Some(_)) = (passing, &slot) {
                    return Err(failure.clone()); // what was there before is better than a part of what is there now
                }
                let by_rule = active.fields(&key).is_empty();
                let source_print = print;
                let new = NewSnapshot { key: &key, asked: &fields, asked_at, source_print, by_rule };
                let stored = self.store.put(new, fetched).map_err(|error| {
                    let remedy =
                        "raise limits.storeSize, or look at: systemctl status run-onecred-store.mount";
                    Failure::new(Class::TooLarge, error.to_string(), remedy)
                });
                stored.map(drop)?;
                self.fetch_ahead(&active);
                Ok(())
            }
            Err(failure) => {
                if failure.class.is_confirmed_gone() {
                    self.store.remove(&key);
                }
                Err(failure)
            }
        }
    }

    /// The flight of one source's check.
    async fn check(self: Arc<Self>, source: SourceName) -> Result<(), Failure> {
        let began = BootTime::now();
        let items = self.store.known(&source);
        let print = self.active().print(&source).to_owned();
        let check = Check { source: source.clone(), print, items: items.clone(), patience: CHECK_PATIENCE };
        let result = self.resolver.check(check).await;
        self.troubles.note(&source, result.as_ref().err());
        let states = match result {
            Ok(checked) => checked.items,
            Err(failure) => {
                // whatever the class: what was fetched before is served as it is, until the source can be asked again
                self.troubles.begin(&source, &failure);
                return Err(failure);
            }
        };
        for (key, failure) in self.store.confirm(&source, began, items.into_iter().zip(states).collect()) {
            tracing::warn!(
                "{}: 1Password says that it is not there any more, so it is served no more: {failure}",
                key.item
            );
        }
        Ok(())
    }

    /// Fetches the other secrets of units that this host has, since systemd asks for credentials one after another.
    fn fetch_ahead(self: &Arc<Self>, active: &Arc<Active>) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |key: &ItemKey| !ahead.contains(key) && self.store.slot(key).is_none();
        let candidates: Vec<ItemKey> = active.keys().filter(|key| missing(key)).cloned().collect();
        if candidates.is_empty() {
            return;
        }
        let units = UnitFiles::read();
        for key in candidates {
            ahead.insert(key.clone());
            if !active.grants(&key).any(|pattern| units.any(pattern)) {
                continue;
            }
            let broker = Arc::clone(self);
            tokio::spawn(async move {
                let _turn = broker.turns_ahead.acquire().await;
                let work = || Arc::clone(&broker).fetch(key.clone(), AHEAD_PATIENCE);
                if let Err(failure) = broker.fetches.join(&key, work).await {
                    tracing::debug!("{}: could not be fetched ahead: {failure}", key.item);
                }
            });
        }
    }

    /// The last failure of a source, as a cause for waiting.
    pub fn last_failure(&self, source: &SourceName) -> Option<Failure> {
        self.troubles.last(source)
    }
}

enum Look {
    Ready(Ready),
    Todo { step: Step, key: ItemKey },
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

fn no_answer() -> Failure {
    let remedy = "look at: systemctl status onecred-resolver; is 1Password reachable from here?";
    Failure::new(Class::Away, "no answer within the deadline", remedy)
}

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;
