//! Keeps secrets with a refresh interval fresh. When a secret is due, one check compares all secrets of its
//! source with 1Password. Items that changed are then fetched.

mod schedule;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use self::schedule::{Candidate, Due, Schedule};
use super::broker::Broker;
use crate::config::Settings;
use crate::domain::name::SourceName;
use crate::domain::reference::FieldRef;
use crate::domain::secret::Wanted;
use crate::host::clock::BootTime;
use crate::host::pause::varied;
use crate::provider::base::asker::Asker;
use crate::provider::base::item_key::ItemKey;
use crate::provider::store::{Slot, StoredField};

/// How often to look for due secrets. A new configuration may change intervals, and the start of a unit may
/// find a change.
const LOOK: Duration = Duration::from_secs(5);

/// How long a check may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many changed items of a source are fetched at the same time.
const AT_ONCE: usize = 64;

/// Checks and fetches what is due. Runs until it is dropped. Ignores secrets that nothing on this machine has
/// ever requested.
pub async fn keep_fresh(broker: Arc<Broker>) {
    let mut rotation = Rotation::default();
    loop {
        rotation.wait(LOOK).await;
        rotation.look(&broker, BootTime::now());
    }
}

/// The schedule and the running work. There is one task per source, so that a slow source does not delay
/// others.
#[derive(Default)]
struct Rotation {
    schedule: Schedule,
    work: JoinSet<Vec<Fetched>>,
    busy: HashMap<task::Id, SourceName>,
}

/// A completed fetch.
struct Fetched {
    key: ItemKey,
    still_changed: bool,
}

impl Rotation {
    /// Starts the work that is due for sources without running work.
    fn look(&mut self, broker: &Arc<Broker>, now: BootTime) {
        let active = broker.config();
        let candidates: Vec<Candidate> = kept_fresh(&active.settings)
            .filter_map(|(interval, wanted)| {
                let key = ItemKey::new(&wanted.source, &wanted.reference.item);
                let slot = broker.slot(&key)?;
                let field = wanted.reference.field.clone();
                let has_value = matches!(slot.snapshot.entry(&field), Some(StoredField::Value { .. }));
                let (changed, incomplete) = (slot.changed, is_incomplete(&slot, &field));
                let (confirmed, fetched) = (slot.confirmed, slot.snapshot.fetched);
                Some(Candidate { key, field, interval, confirmed, fetched, changed, incomplete, has_value })
            })
            .collect();
        let part = || varied(Duration::from_secs(1), 0.1).as_secs_f64();
        let is_busy = |source: &SourceName| self.busy.values().any(|busy| busy == source);
        let Due { checks, mut fetches } = self.schedule.take(&candidates, is_busy, now, part);
        let sources: HashSet<SourceName> =
            checks.iter().cloned().chain(fetches.keys().map(|key| key.source.clone())).collect();
        for source in sources {
            let check = checks.contains(&source);
            let of_source = fetches.extract_if(.., |key, _| key.source == source).collect();
            let task = self.work.spawn(work(Arc::clone(broker), source.clone(), check, of_source));
            self.busy.insert(task.id(), source);
        }
    }

    /// Waits until some work has ended, because it may have found changes, or until this time has passed.
    async fn wait(&mut self, limit: Duration) {
        let ended = async {
            match self.work.join_next_with_id().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        };
        let Ok(ended) = tokio::time::timeout(limit, ended).await else { return };
        let (id, fetched) = ended.unwrap_or_else(|panicked| (panicked.id(), Vec::new()));
        self.busy.remove(&id);
        for Fetched { key, still_changed } in fetched {
            self.schedule.ended(&key, still_changed);
        }
    }
}

/// The secrets and parts of templates with a refresh interval, each with that interval.
fn kept_fresh(settings: &Settings) -> impl Iterator<Item = (Duration, &Wanted)> {
    let secrets = settings.policy.secrets();
    let secrets = secrets.filter_map(|secret| Some((secret.rotation.refresh?, &secret.wanted)));
    let templates =
        settings.templates.iter().filter_map(|it| Some((it.rotation.refresh?, &it.filling.parts)));
    let parts = templates.flat_map(|(interval, parts)| parts.iter().map(move |part| (interval, &**part)));
    secrets.chain(parts)
}

/// Checks a source if that is due, and fetches items.
async fn work(
    broker: Arc<Broker>,
    source: SourceName,
    check: bool,
    fetches: Vec<(ItemKey, FieldRef)>,
) -> Vec<Fetched> {
    if check && let Err(failure) = broker.checked(&source, Instant::now() + PATIENCE, &Asker::Onecred).await {
        tracing::debug!("source {source} could not be compared with 1Password: {failure}");
    }
    let (turns, mut work) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for (key, field) in fetches {
        let (broker, turns) = (Arc::clone(&broker), Arc::clone(&turns));
        work.spawn(async move {
            let _turn = turns.acquire().await;
            if let Err(failure) = broker.fetched(&key, &field, &Asker::Onecred).await {
                tracing::debug!("{}: could not be fetched: {failure}", key.item);
            }
            let still_changed =
                broker.slot(&key).is_some_and(|slot| slot.changed || is_incomplete(&slot, &field));
            Fetched { key, still_changed }
        });
    }
    work.join_all().await
}

/// Whether the last fetch of a field failed for a temporary reason.
fn is_incomplete(slot: &Slot, field: &FieldRef) -> bool {
    matches!(slot.snapshot.entry(field), Some(StoredField::Failed(failure)) if failure.class.is_transient())
}

#[cfg(test)]
mod tests;
