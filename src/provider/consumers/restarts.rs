//! Units that are told of a change: restarted or reloaded, those that run and no others, once for a burst of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout, timeout_at};

use crate::host::systemd::manager::{Jobs, Link, ManagerProxy, subscribe};
use crate::host::systemd::message_id;
use crate::provider::base::active_config::Active;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;
use crate::provider::fetch::broker::Broker;
use crate::provider::publish::Publisher;

/// A burst of changes is over when there was none for so long.
const QUIET: Duration = Duration::from_secs(2);
/// What comes later than this after the first change is another burst.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a restart is watched.
const WATCHED: Duration = Duration::from_secs(180);

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// `systemctl reload`.
    Reload,
    /// `systemctl try-restart`.
    Restart,
}

impl Measure {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }

    fn past(self) -> &'static str {
        match self {
            Self::Reload => "reloaded",
            Self::Restart => "restarted",
        }
    }
}

/// What is done to a unit, and for which secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The unit.
    pub unit: String,
    /// What is done.
    pub measure: Measure,
    /// The secret that changed; one of them, where there are several.
    pub secret: String,
}

/// Restarts and reloads units.
#[derive(Debug, Default)]
pub struct Restarts {
    link: Link,
}

impl Restarts {
    /// Follows what changes for as long as it is polled. Files are replaced before a unit is told.
    pub async fn follow(&self, broker: &Arc<Broker>, publisher: &Publisher) {
        let mut events = broker.events.follow();
        loop {
            let mut names = BTreeSet::new();
            match events.recv().await {
                Ok(event) => names.extend(changed(&broker.active(), &event)),
                Err(RecvError::Lagged(_)) => {
                    too_many();
                    continue;
                }
                Err(RecvError::Closed) => return,
            }
            let latest = Instant::now() + LONGEST;
            while let Ok(event) = timeout_at(latest.min(Instant::now() + QUIET), events.recv()).await {
                match event {
                    Ok(event) => names.extend(changed(&broker.active(), &event)),
                    Err(RecvError::Lagged(_)) => too_many(),
                    Err(RecvError::Closed) => return,
                }
            }
            if names.is_empty() {
                continue;
            }
            publisher.sync().await;
            match self.due(&broker.active(), &names).await {
                Ok(due) if due.is_empty() => {}
                Ok(due) => self.take(&due).await,
                Err(error) => tracing::error!(
                    "units that use {} can't be told that it changed, since the service manager can't be asked: {error}; restart them by hand",
                    names.into_iter().collect::<Vec<_>>().join(", ")
                ),
            }
        }
    }

    /// What is to be done for secrets that have changed: to units that run. One that is just being started, stopped or reloaded is left alone.
    pub async fn due(&self, active: &Active, names: &BTreeSet<String>) -> zbus::Result<Vec<Due>> {
        let mut due: BTreeMap<String, Due> = BTreeMap::new();
        let manager = self.link.manager().await?;
        for secret in names.iter().filter_map(|name| active.secret(name)) {
            let lists = [(Measure::Restart, &secret.restart_units), (Measure::Reload, &secret.reload_units)];
            for (measure, patterns) in lists {
                let patterns: Vec<&str> = patterns.iter().map(|pattern| pattern.glob().as_str()).collect();
                if patterns.is_empty() {
                    continue;
                }
                for (unit, .., job, _, _) in manager.list_units_by_patterns(&["active"], &patterns).await? {
                    if job != 0 || due.get(&unit).is_some_and(|known| known.measure >= measure) {
                        continue;
                    }
                    due.insert(unit.clone(), Due { unit, measure, secret: secret.name.to_string() });
                }
            }
        }
        Ok(due.into_values().collect())
    }

    async fn take(&self, due: &[Due]) {
        let result = async {
            let manager = self.link.manager().await?;
            let mut ends = manager.receive_job_removed().await?;
            subscribe(&manager).await?;
            let mut jobs = Jobs::new();
            for due in due {
                match order(&manager, due).await {
                    Ok(job) => drop(jobs.insert(job, due.unit.clone())),
                    Err(error) => failed(due, &error.to_string()),
                }
            }
            let deadline = Instant::now() + WATCHED;
            while !jobs.is_empty() {
                let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut ends).poll_next(cx));
                let Ok(Some(end)) = timeout_at(deadline, next).await else { break };
                let Ok(end) = end.args() else { continue };
                let Some(unit) = jobs.remove(&end.job) else { continue };
                let Some(due) = due.iter().find(|due| due.unit == unit) else { continue };
                match end.result.as_str() {
                    "done" => tracing::info!(
                        message_id = message_id::TOLD,
                        object_systemd_unit = unit.as_str(),
                        onecred_unit = unit.as_str(),
                        onecred_secret = due.secret.as_str(),
                        "{unit} was {}, since secret {} has changed",
                        due.measure.past(),
                        due.secret
                    ),
                    result => failed(due, result),
                }
            }
            zbus::Result::Ok(())
        };
        match timeout(WATCHED * 2, result).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("units can't be told of a change: {error}"),
            Err(_elapsed) => tracing::error!("the service manager does not answer; see: systemctl list-jobs"),
        }
    }
}

/// More changed while units were restarted than is remembered.
fn too_many() {
    tracing::error!(
        "more secrets have changed at once than can be followed, so some units may not have been told; restart those that use old values"
    );
}

async fn order(manager: &ManagerProxy<'_>, due: &Due) -> zbus::Result<zbus::OwnedObjectPath> {
    match due.measure {
        Measure::Restart => manager.try_restart_unit(&due.unit, "replace").await,
        Measure::Reload => manager.reload_unit(&due.unit, "replace").await,
    }
}

/// It is said, and not tried again: a unit that does not come up with a new secret would not with the next try either.
fn failed(due: &Due, why: &str) {
    let Due { unit, measure, secret } = due;
    tracing::error!(
        message_id = message_id::NOT_TOLD,
        object_systemd_unit = unit.as_str(),
        onecred_unit = unit.as_str(),
        onecred_secret = secret.as_str(),
        "{unit} could not be {}, since secret {secret} has changed: {why}; it is not tried again: systemctl {} {unit}",
        measure.past(),
        measure.as_str()
    );
}

/// The secrets that have another value since an event. What was fetched for the first time is news to nobody.
fn changed(active: &Active, event: &Event) -> Vec<String> {
    match event {
        Event::Changed { key, fields, first: false, .. } => {
            let secrets = active.settings.policy.secrets().filter(|secret| {
                ItemKey::new(&secret.wanted.source, &secret.wanted.reference.item) == *key
                    && fields.contains(&secret.wanted.reference.field)
            });
            secrets.map(|secret| secret.name.to_string()).collect()
        }
        Event::Held { name } => vec![name.clone()],
        _ => Vec::new(),
    }
}
