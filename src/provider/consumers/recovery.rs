//! Starts units again after an outage: units that were refused a credential, and units that failed because
//! they depend on them.
//!
//! Temporary causes are checked repeatedly. Causes that an administrator must correct (a token, 1Password's
//! SDK core, the configuration, the host key) are checked after the resolver was started, the configuration
//! was loaded or the key became usable, and otherwise rarely.
//!
//! Each unit is started once. If a unit's own `Restart=` has started it, it counts as started here, so that
//! its dependents are started too. Units are not started if they run, are masked, or were started or stopped
//! by an administrator since. The list of units is in the store, where the next provider process finds it.
//!
//! [`undecrypted`] restarts units whose sealed answer systemd could not decrypt.

mod dependents;
mod failed_units;
mod jobs;
mod lookups;
mod sealed;
mod sealing;
mod slots;
mod start;
mod tries;
mod undecrypted;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zbus::message::Sequence;

use self::failed_units::{FailedUnit, FailedUnits, MOST};
use self::lookups::Refused;
use self::sealing::Sealing;
use self::slots::Slots;
use self::start::{For, StartOutcome};
use self::tries::Tries;
use crate::domain::name::{Claim, SourceName};
use crate::host::clock::BootTime;
use crate::host::systemd::manager::Link;
use crate::host::systemd::{invocation, message_id};
use crate::provider::base::active_config::CurrentConfig;
use crate::provider::base::events::Event;
use crate::provider::base::refusal::{Ends, Refusal};
use crate::provider::base::sealer::Sealer;
use crate::provider::fetch::broker::Broker;
use crate::provider::store::Store;
use crate::provider::store::unanswered::Unanswered;

/// How often, and after which pause, a start is repeated if the connection to the service manager breaks.
const RETRIES: u32 = 5;
const RETRY: Duration = Duration::from_secs(1);

/// The units that must be started again.
#[derive(Debug)]
pub struct Recovery {
    config: Arc<CurrentConfig>,
    units: Mutex<FailedUnits<Sequence>>,
    /// The list may have changed since it was written to the store.
    news: Notify,
    /// A unit was refused, and its position among the reports of the service manager is not known yet.
    refused: Notify,
    /// A unit was added to the list.
    begun: Notify,
    /// Something has changed that may remove the causes of all refusals.
    now: Notify,
    /// A unit with dependents in the list was started by its own `Restart=`. If it has received its values,
    /// they are in the store.
    returned: Notify,
    slots: Slots,
    /// How many units were started again since the list was last empty.
    started: AtomicUsize,
    sealed: sealed::Sealed,
    sealing: Sealing,
    link: Link,
}

impl Recovery {
    /// Continues with the list of the previous process.
    pub fn new(config: Arc<CurrentConfig>, sealer: Arc<Sealer>, store: &Store) -> Self {
        let known = store.refused().and_then(|list| serde_json::from_slice(&list).ok());
        let known: BTreeMap<String, FailedUnit> = known.unwrap_or_default();
        let recovery = Self {
            config,
            sealing: Sealing::new(sealer, known.values()),
            units: Mutex::new(FailedUnits::new(known)),
            news: Notify::new(),
            refused: Notify::new(),
            begun: Notify::new(),
            now: Notify::new(),
            returned: Notify::new(),
            slots: Slots::default(),
            started: AtomicUsize::new(0),
            sealed: sealed::Sealed::default(),
            link: Link::default(),
        };
        recovery.take_unanswered(store);
        recovery
    }

    /// Adds the units that a keeper refused after its provider was killed. Call it again later, because that
    /// keeper may be late.
    pub fn take_unanswered(&self, store: &Store) {
        let unanswered = store.take_unanswered();
        if unanswered.is_empty() || !self.config.get().settings.recover {
            return;
        }
        let mut units = self.units();
        for Unanswered { unit, credential, invocation } in unanswered {
            let failed = FailedUnit {
                since: BootTime::now(),
                credential: Some(credential),
                invocation: Some(invocation),
                why: "onecred was killed before it had the value".to_owned(),
                ..FailedUnit::default()
            };
            if units.get(&unit).is_none() {
                units.refuse(unit, failed); // otherwise it is in the list already, with its cause
            }
        }
        drop(units);
        self.news.notify_one();
        self.refused.notify_one();
        self.begun.notify_one();
    }

    fn units(&self) -> MutexGuard<'_, FailedUnits<Sequence>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a unit is in the list.
    pub fn will_start(&self, unit: &str) -> bool {
        self.units().get(unit).is_some()
    }

    /// How many units are in the list, and how many were started since it was last empty.
    pub fn progress(&self) -> (usize, usize) {
        (self.units().all().len(), self.started.load(Ordering::Relaxed))
    }

    /// Call it when a unit is about to be refused, while its process still runs. Adds the unit to the list if
    /// the cause will pass or can be corrected, and removes it otherwise.
    pub fn note(&self, claim: &Claim, refusal: &Refusal) {
        let unit = claim.unit.to_string();
        let dependents = self.sealed.refused(&unit);
        let Some(ends) = refusal.ends().filter(|_| self.config.get().settings.recover) else {
            self.units().forget(&unit); // the cause of this failure is permanent
            self.news.notify_one();
            return;
        };
        let failed = FailedUnit {
            since: BootTime::now(),
            credential: Some(claim.credential.to_string()),
            invocation: invocation::current(&unit),
            awaits_correction: (ends == Ends::WithCorrection).then(|| refusal.kind().to_owned()),
            why: refusal.cause(&claim.unit, &claim.credential),
            ..FailedUnit::default()
        };
        self.sealing.note(failed.awaits_correction.as_deref());
        let mut units = self.units();
        if units.is_empty() {
            self.started.store(0, Ordering::Relaxed);
        }
        units.refuse(unit, failed);
        units.fail_with(dependents, BootTime::now());
        drop(units);
        self.news.notify_one();
        self.refused.notify_one();
        self.begun.notify_one();
    }

    /// Writes the list to the store after each change. Runs until it is dropped.
    pub async fn keep_list(self: Arc<Self>, broker: Arc<Broker>) {
        loop {
            self.news.notified().await;
            self.keep(broker.store());
        }
    }

    /// Writes the list to the store if it has changed.
    pub fn keep(&self, store: &Store) {
        let list = {
            let mut units = self.units();
            if !units.take_changed() {
                return;
            }
            serde_json::to_vec(units.all()).unwrap_or_default()
        };
        if let Err(error) = store.set_refused(&list) {
            tracing::warn!("the list of units to be started again can't be written to the store: {error}");
        }
    }

    /// Checks all causes at once.
    fn try_now(&self) {
        self.now.notify_one();
    }

    /// Starts units when the causes of their refusals have passed. Runs until it is dropped.
    pub async fn recover(self: Arc<Self>, broker: Arc<Broker>) {
        let (mut tries, mut events) = (Tries::default(), broker.events.follow());
        // the values may already be in the store, from before the restart of the provider
        let mut is_first = true;
        loop {
            if self.units().is_empty() {
                is_first = false;
                self.begun.notified().await;
                events = events.resubscribe();
                continue;
            }
            if !self.config.get().settings.recover {
                self.units().clear();
                self.news.notify_one();
                continue;
            }
            let sources = self.sources();
            let wait = tries.wait(&sources, Instant::now());
            let wait = if std::mem::take(&mut is_first) { Duration::ZERO } else { wait };
            tokio::select! {
                () = sleep(wait) => {}
                () = broker.source_is_back() => {
                    let answers = |source: &&SourceName| broker.last_failure(source).is_none();
                    sources.iter().filter(answers).for_each(|source| tries.now(source));
                }
                () = self.now.notified() => tries.all_now(),
                () = self.returned.notified() => {}
                () = configured(&mut events) => tries.all_now(),
                () = self.sealing.works_again() => tries.all_now(),
            }
            if self.config.get().error.is_some() {
                continue; // every unit would be refused
            }
            let (back, tried) = self.back(&broker, &mut tries).await;
            self.start_all(back.iter().map(|refused| refused.unit.clone())).await;
            let left = |refused: &&Refused| self.units().get(&refused.unit).is_none();
            let started = back.iter().filter(left).flat_map(|refused| &refused.parts);
            let progress: BTreeSet<&SourceName> = started.map(|wanted| &wanted.source).collect();
            for source in &tried {
                tries.tried(source, progress.contains(source), Instant::now());
            }
        }
    }

    /// Starts these units, and those that failed because they depend on them.
    async fn start_all(self: &Arc<Self>, units: impl Iterator<Item = String>) {
        let mut starts = JoinSet::new();
        for unit in units {
            starts.spawn(Arc::clone(self).start(unit));
        }
        while let Some(next) = starts.join_next().await {
            for unit in next.unwrap_or_default() {
                starts.spawn(Arc::clone(self).start(unit));
            }
        }
    }

    /// Starts a unit, if its state has not changed since it failed. Returns the dependents that can be
    /// started next.
    async fn start(self: Arc<Self>, unit: String) -> Vec<String> {
        let slot = self.slots.take(&unit).await;
        let Some(failed) = self.units().begin(&unit) else { return Vec::new() };
        let why = if failed.credential.is_some() { For::Refused(&failed) } else { For::Another };
        let mut result = self.start_again(&unit, why, "replace").await;
        for _ in 0..RETRIES {
            if !matches!(result, Err(zbus::Error::InputOutput(_))) {
                break;
            }
            sleep(RETRY).await; // the service manager is re-executing itself
            result = self.start_again(&unit, why, "replace").await;
        }
        let next = match result {
            Ok(StartOutcome::Started) => {
                tracing::info!(
                    message_id = message_id::RECOVERED,
                    object_systemd_unit = unit,
                    onecred_unit = unit,
                    onecred_result = "recovered",
                    "starting {unit} again: the cause of its failure {} s ago is resolved: {}",
                    failed.since.age(BootTime::now()).as_secs(),
                    failed.why
                );
                self.started.fetch_add(1, Ordering::Relaxed);
                let next = self.units().started(&unit, &failed);
                slot.until_ended().await;
                next
            }
            // also if there is no connection: try again later
            Ok(StartOutcome::Later) | Err(zbus::Error::InputOutput(_)) => {
                self.units().waits(&unit);
                Vec::new()
            }
            Ok(StartOutcome::Returned) => {
                tracing::debug!("{unit} is not started again: it has returned by its own Restart=");
                self.units().started(&unit, &failed)
            }
            Ok(StartOutcome::NotNeeded) => {
                tracing::debug!("{unit} is not started again: it runs, or was stopped");
                self.units().is_over(&unit, &failed);
                Vec::new()
            }
            Err(error) => {
                tracing::error!(
                    object_systemd_unit = unit,
                    "{unit} could not be started again, although the cause of its failure is gone: {error}; try: systemctl start {unit}"
                );
                self.units().is_over(&unit, &failed);
                Vec::new()
            }
        };
        self.news.notify_one();
        next
    }
}

/// Waits until another configuration is active.
async fn configured(events: &mut Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::Configured) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
