//! Checks whether refused units would get their credentials now. Looks up one secret of each source first. If
//! the source is back, looks up all other items, each once. The values are then in the store when the units
//! ask.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::tries::Tries;
use super::{FailedUnit, Recovery};
use crate::domain::name::{Claim, CredentialId, SourceName, UnitName};
use crate::domain::secret::{MaxAge, Wanted};
use crate::host::clock::BootTime;
use crate::ipc::{Class, Failure};
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::asker::Asker;
use crate::provider::base::process_id::ProcessId;
use crate::provider::fetch::broker::{Broker, LookUp, Order};
use crate::provider::publish::{self, Handle};

/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The maximum number of simultaneous look-ups.
const AT_ONCE: usize = 64;
/// Sources are tried at random times within this period.
const APART: Duration = Duration::from_millis(500);

/// A unit that was refused.
pub(super) struct Refused {
    pub(super) unit: String,
    /// The values that it needs to start.
    pub(super) parts: Vec<Arc<Wanted>>,
    /// The class of the failure, if an administrator must correct its cause.
    awaits_correction: Option<String>,
}

/// The key of a look-up: source, vault and reference.
type Key = (SourceName, String, String);

/// Look-ups by key.
type Missing = BTreeMap<Key, Arc<Wanted>>;

/// The results of look-ups.
struct Lookups {
    broker: Arc<Broker>,
    results: HashMap<Key, Result<(), Failure>>,
}

fn key(wanted: &Wanted) -> Key {
    let reference = &wanted.reference;
    (wanted.source.clone(), reference.item.vault.text.to_string(), reference.to_string())
}

impl Lookups {
    /// Looks up the values that these units lack, if their sources are due.
    async fn of(
        broker: &Arc<Broker>,
        units: &[Refused],
        due: impl Fn(&Refused, &SourceName) -> bool,
    ) -> Self {
        let mut all = Self { broker: Arc::clone(broker), results: HashMap::new() };
        let mut missing = Missing::new();
        for (unit, wanted) in units.iter().flat_map(|unit| unit.parts.iter().map(move |part| (unit, part))) {
            let key = key(wanted);
            if all.results.contains_key(&key) || missing.contains_key(&key) {
                continue;
            }
            if is_there(broker, wanted) {
                all.results.insert(key, Ok(()));
            } else if due(unit, &wanted.source) {
                missing.insert(key, Arc::clone(wanted));
            }
        }
        // ask an unreachable source, or for a vault without access, only once
        let first = one_of_each(&missing, |(source, ..)| source);
        let tried = all.look_up(first, &mut missing, APART).await;
        let away: BTreeSet<SourceName> =
            tried.into_iter().filter(|key| all.is_away(key)).map(|(source, ..)| source).collect();
        missing.retain(|(source, ..), _| !away.contains(source));
        all.take_denied(&mut missing);
        let first = one_of_each(&missing, |(source, vault, _)| (source, vault));
        all.look_up(first, &mut missing, Duration::ZERO).await;
        all.take_denied(&mut missing);
        let rest = missing.clone();
        all.look_up(rest, &mut missing, Duration::ZERO).await;
        all
    }

    /// Moves the look-ups of vaults without access to the denied ones.
    fn take_denied(&mut self, missing: &mut Missing) {
        let failure = |(key, result): (&Key, &Result<(), Failure>)| {
            let failure = result.as_ref().err().filter(|failure| failure.class == Class::Denied)?;
            Some(((key.0.clone(), key.1.clone()), failure.clone()))
        };
        let denied: BTreeMap<(SourceName, String), Failure> =
            self.results.iter().filter_map(failure).collect();
        missing.retain(|key, _| match denied.get(&(key.0.clone(), key.1.clone())) {
            Some(failure) => {
                self.results.insert(key.clone(), Err(failure.clone()));
                false
            }
            None => true,
        });
    }

    /// Whether the result of a look-up concerns the whole source, not only this item.
    fn is_away(&self, key: &Key) -> bool {
        self.results.get(key).is_some_and(|result| result.as_ref().is_err_and(|failure| !failure.is_answer()))
    }

    /// Moves some look-ups from `missing` to the results, by making them. Returns their keys.
    async fn look_up(&mut self, some: Missing, missing: &mut Missing, within: Duration) -> Vec<Key> {
        let (turns, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        let keys = some.keys().cloned().collect();
        for (key, wanted) in some {
            missing.remove(&key);
            let (broker, turns) = (Arc::clone(&self.broker), Arc::clone(&turns));
            let wait = within.mul_f64(fastrand::f64());
            tasks.spawn(async move {
                sleep(wait).await;
                let _turn = turns.acquire().await;
                (key, look_up(&broker, &wanted).await)
            });
        }
        while let Some(done) = tasks.join_next().await {
            if let Ok((key, result)) = done {
                self.results.insert(key, result);
            }
        }
        keys
    }

    /// Whether a unit must be started: it would get all values, or be refused for another cause, which its
    /// journal should show.
    fn would_end(&self, unit: &Refused) -> bool {
        unit.parts.iter().all(|wanted| match self.results.get(&key(wanted)) {
            Some(Ok(())) => true,
            Some(Err(failure)) => {
                let passes = failure.class.is_transient() || failure.class == Class::NoToken;
                !(passes || unit.awaits_correction.as_deref() == Some(failure.class.kind()))
            }
            None => false,
        })
    }
}

impl Recovery {
    fn refused_units(&self) -> Vec<Refused> {
        let active = self.config.get();
        let refused: Vec<(String, String, Option<String>)> = {
            let units = self.units();
            let refused = |(unit, failed): (&String, &FailedUnit)| {
                Some((unit.clone(), failed.credential.clone()?, failed.awaits_correction.clone()))
            };
            units.all().iter().filter_map(refused).collect()
        };
        let parts = |(unit, credential, awaits_correction): (String, String, _)| {
            let parts = parts(&active, &unit, &credential);
            Refused { unit, parts, awaits_correction }
        };
        refused.into_iter().map(parts).collect()
    }

    /// The sources that refused units need.
    pub(super) fn sources(&self) -> BTreeSet<SourceName> {
        let all = self.refused_units();
        all.iter().flat_map(|unit| &unit.parts).map(|wanted| wanted.source.clone()).collect()
    }

    /// The refused units that can be started now, and the sources that were tried.
    pub(super) async fn back(
        &self,
        broker: &Arc<Broker>,
        tries: &mut Tries,
    ) -> (Vec<Refused>, BTreeSet<SourceName>) {
        let now = Instant::now();
        let corrections = tries.take_corrections(now);
        let mut units = self.refused_units();
        let sources = units.iter().flat_map(|unit| &unit.parts).map(|wanted| wanted.source.clone());
        let due: BTreeSet<SourceName> =
            sources.filter(|source| corrections || tries.is_due(source, now)).collect();
        let is_due = |unit: &Refused, source: &SourceName| {
            due.contains(source) && (corrections || unit.awaits_correction.is_none())
        };
        let lookups = Lookups::of(broker, &units, is_due).await;
        units
            .retain(|unit| lookups.would_end(unit) && !self.sealing.fails(unit.awaits_correction.as_deref()));
        (units, due)
    }
}

/// Chooses one look-up of each group at random, so that one that always fails does not block the others.
fn one_of_each<'a, G: Ord>(all: &'a Missing, group: impl Fn(&'a Key) -> G) -> Missing {
    let mut groups: BTreeMap<G, Vec<(&Key, &Arc<Wanted>)>> = BTreeMap::new();
    for (key, wanted) in all {
        groups.entry(group(key)).or_default().push((key, wanted));
    }
    let some = groups.into_values().map(|mut some| some.swap_remove(fastrand::usize(..some.len())));
    some.map(|(key, wanted)| (key.clone(), Arc::clone(wanted))).collect()
}

/// The values that a unit needs to start.
fn parts(active: &ActiveConfig, unit: &str, credential: &str) -> Vec<Arc<Wanted>> {
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

fn order(wanted: Wanted) -> Order {
    let (process, arrived) = (ProcessId::nobody(), BootTime::now());
    Order { wanted: Arc::new(wanted), process, arrived, asker: Asker::Onecred }
}

/// Whether it can be served without a look-up.
fn is_there(broker: &Broker, wanted: &Wanted) -> bool {
    matches!(broker.look_up(&order(wanted.clone())), LookUp::Ready(_))
}

async fn look_up(broker: &Arc<Broker>, wanted: &Arc<Wanted>) -> Result<(), Failure> {
    if is_there(broker, wanted) {
        return Ok(()); // another field of the same item brought it
    }
    let order = order(Wanted { deadline: Duration::ZERO, ..Wanted::clone(wanted) });
    match timeout(PATIENCE, broker.try_once(wanted, &Asker::Onecred)).await {
        // an item can exist without one of its fields
        Ok(Ok(())) => after_fetch(broker.get(&order).await.map(drop), wanted.max_age),
        Ok(Err(failure)) => Err(failure),
        Err(_elapsed) => {
            let cause = format!("no answer from source {} in time", wanted.source);
            Err(Failure::new(Class::Away, cause, "wait"))
        }
    }
}

/// The result for a field whose item was just fetched. A value that is compared at every request must be
/// fetched again when the unit asks.
fn after_fetch(got: Result<(), Failure>, max_age: MaxAge) -> Result<(), Failure> {
    match got {
        Err(failure) if failure.class.is_transient() && max_age == MaxAge::Always => Ok(()),
        got => got,
    }
}

#[cfg(test)]
mod tests;
