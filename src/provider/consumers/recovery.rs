//! The morning after: units that were refused while 1Password was away, and those that failed for them, are started again when it is back.
//!
//! Each once, a little apart from each other; none that runs, that comes back by itself, that is masked, or that an admin has stopped
//! meanwhile. They are remembered in the store, so that also the next provider knows them.
//!
//! [`sealed`] restarts units that systemd could not decrypt an answer for.

mod dependents;
mod jobs;
mod sealed;
mod start;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout;

use self::start::{For, Outcome};
use crate::domain::name::{Claim, CredentialId, UnitName};
use crate::domain::secret::Wanted;
use crate::host::clock::BootTime;
use crate::host::pause::{Growing, varied};
use crate::host::systemd::manager::Link;
use crate::host::systemd::message_id;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::fetch::broker::{Broker, Order};
use crate::provider::publish::{self, Handle};
use crate::provider::store::Store;

/// The most units that are remembered.
const MOST: usize = 4096;
/// How often it is tried whether a source is back: the first time, and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
/// How long such a try may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Units are started within this time, so that not all come at once.
const APART: Duration = Duration::from_millis(500);

/// A unit that did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Casualty {
    since: BootTime,
    /// The credential that it was refused; none where it failed for another unit.
    credential: Option<String>,
    /// Why, in a few words.
    why: String,
}

/// The units that are to be started again.
#[derive(Debug)]
pub struct Recovery {
    units: Mutex<BTreeMap<String, Casualty>>,
    /// Something changed, and is not in the store yet.
    news: Notify,
    /// There is a unit to be started again.
    begun: Notify,
    sealed: sealed::Sealed,
    link: Link,
}

impl Recovery {
    /// Goes on where the process before this one stopped.
    pub fn new(store: &Store) -> Self {
        let known = store.refused().and_then(|list| serde_json::from_slice(&list).ok()).unwrap_or_default();
        Self {
            units: Mutex::new(known),
            news: Notify::new(),
            begun: Notify::new(),
            sealed: sealed::Sealed::default(),
            link: Link::default(),
        }
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<String, Casualty>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many units wait to be started again.
    pub fn waiting(&self) -> usize {
        self.units().len()
    }

    /// A unit is refused. It is remembered, where the cause is one that passes.
    pub fn note(&self, claim: &Claim, refusal: &Refusal, broker: &Broker) {
        let unit = claim.unit.to_string();
        let dependents = self.sealed.refused(&unit);
        if !refusal.passes() || !broker.active().settings.recover {
            self.forget(&unit); // what it fails for now, does not pass
            return;
        }
        let casualty = Casualty {
            since: BootTime::now(),
            credential: Some(claim.credential.to_string()),
            why: refusal.cause(&claim.unit, &claim.credential),
        };
        self.forget(&unit); // what it was refused for last is what counts
        for dependent in dependents {
            let why = format!("it needs {unit}, which was refused");
            self.remember(dependent, Casualty { since: casualty.since, credential: None, why });
        }
        self.remember(unit, casualty);
        self.begun.notify_one();
    }

    /// Remembers a unit, if it is not remembered yet and there is room.
    fn remember(&self, unit: String, casualty: Casualty) {
        let mut units = self.units();
        if units.len() < MOST {
            units.entry(unit).or_insert(casualty);
        }
        drop(units);
        self.news.notify_one();
    }

    fn forget(&self, unit: &str) {
        if self.units().remove(unit).is_some() {
            self.news.notify_one();
        }
    }

    /// Keeps the store's list as it is here, for as long as it is polled: once for all that comes at a time.
    pub async fn keep_list(self: Arc<Self>, broker: Arc<Broker>) {
        loop {
            self.news.notified().await;
            self.keep(broker.store());
        }
    }

    fn keep(&self, store: &Store) {
        let list = serde_json::to_vec(&*self.units()).unwrap_or_default();
        if let Err(error) = store.set_refused(&list) {
            tracing::warn!("which units are to be started again can't be written to the store: {error}");
        }
    }

    /// Starts them again when their sources are back, for as long as it is polled.
    pub async fn recover(self: Arc<Self>, broker: Arc<Broker>) {
        let mut pauses = Growing::doubling(PAUSES[0], PAUSES[1]);
        loop {
            if self.units().is_empty() {
                self.begun.notified().await;
                pauses.reset();
                continue;
            }
            let _ = timeout(varied(pauses.pause(), 0.2), broker.source_is_back()).await;
            if !broker.active().settings.recover {
                self.units().clear();
                self.news.notify_one();
                continue;
            }
            let back = self.back(&broker).await;
            if !back.is_empty() {
                pauses.reset();
            }
            for unit in &back {
                self.start(unit).await;
            }
            // those that failed for one of these have their turn when all of them are up
            self.look_back(&back).await;
            for unit in self.for_others(&back) {
                self.start(&unit).await;
            }
        }
    }

    /// The refused units whose secrets can be had now. For each source one secret is tried; what it brings is there for the unit then.
    async fn back(&self, broker: &Arc<Broker>) -> Vec<String> {
        let refused: Vec<(String, Option<String>)> = {
            let units = self.units();
            let refused = units.iter().filter(|(_, casualty)| casualty.credential.is_some());
            refused.map(|(unit, casualty)| (unit.clone(), casualty.credential.clone())).collect()
        };
        let (mut back, mut away) = (Vec::new(), BTreeSet::new());
        for (unit, credential) in refused {
            let parts = parts(broker, &unit, credential.as_deref().unwrap_or_default());
            let mut there = true;
            for wanted in parts {
                if away.contains(&wanted.source) || !can_be_had(broker, &wanted).await {
                    away.insert(wanted.source.clone());
                    there = false;
                    break;
                }
            }
            if there {
                back.push(unit);
            }
        }
        back
    }

    fn for_others(&self, back: &[String]) -> Vec<String> {
        if back.is_empty() {
            return Vec::new();
        }
        let units = self.units();
        units
            .iter()
            .filter(|(_, casualty)| casualty.credential.is_none())
            .map(|(unit, _)| unit.clone())
            .collect()
    }

    async fn start(&self, unit: &str) {
        let Some(casualty) = self.units().get(unit).cloned() else { return };
        tokio::time::sleep(APART.mul_f64(fastrand::f64())).await;
        let why = if casualty.credential.is_some() { For::Itself } else { For::Another };
        match self.start_again(unit, why, "replace").await {
            Ok(Outcome::Started) => tracing::info!(
                message_id = message_id::RECOVERED,
                object_systemd_unit = unit,
                onecred_unit = unit,
                onecred_result = "recovered",
                "{unit} is started again, since what it failed for {} s ago has passed: {}",
                casualty.since.age(BootTime::now()).as_secs(),
                casualty.why
            ),
            Ok(Outcome::NotNeeded) => {
                tracing::debug!("{unit} is not started again: it runs, or was stopped")
            }
            Ok(Outcome::Later) => return,
            Err(zbus::Error::InputOutput(_)) => return, // no bus: later
            Err(error) => tracing::error!(
                object_systemd_unit = unit,
                "{unit} could not be started again after it was refused for a cause that has passed: {error}; try: systemctl start {unit}"
            ),
        }
        // refused anew meanwhile, it is a new casualty, which stays
        let mut units = self.units();
        if units.get(unit) == Some(&casualty) {
            units.remove(unit);
            self.news.notify_one();
        }
    }
}

/// What a unit has to have of 1Password to start.
fn parts(broker: &Broker, unit: &str, credential: &str) -> Vec<Arc<Wanted>> {
    let active = broker.active();
    let (Ok(unit), Ok(credential)) = (UnitName::parse(unit), CredentialId::parse(credential)) else {
        return Vec::new();
    };
    let claim = Claim { unit, credential };
    let policy = &active.settings.policy;
    let what = match Handle::of(&claim) {
        Some(Handle::One(name)) => policy.by_name(&name).cloned(),
        Some(Handle::All) => return publish::parts(&active.settings),
        None => policy.judge(&claim.unit, &claim.credential).ok(),
    };
    what.map(|what| what.parts().to_vec()).unwrap_or_default()
}

/// Whether a secret can be had now, or is at least no longer out of reach for a cause that passes: then the unit is told that other cause.
async fn can_be_had(broker: &Arc<Broker>, wanted: &Arc<Wanted>) -> bool {
    let order = Order { wanted: Arc::clone(wanted), process: ProcessId::nobody(), arrived: BootTime::now() };
    if broker.at_once(&order).is_some() {
        return true;
    }
    match timeout(PATIENCE, broker.try_once(wanted)).await {
        Ok(Ok(())) => true,
        Ok(Err(failure)) => !(failure.class.is_transient() || failure.class == crate::ipc::Class::NoToken),
        Err(_elapsed) => false,
    }
}
