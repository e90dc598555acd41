//! Restarts and reloads units when a secret changes: those that run, once for a burst of changes, and only if they can start with the new values.

mod unit;
mod withheld;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_core::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::unit::Credentials;
use self::withheld::{Decision, Problem, Running, Withheld};
use crate::domain::name::UnitName;
use crate::host::pause::Growing;
use crate::host::systemd::manager::{Jobs, Link, ManagerProxy, subscribe};
use crate::host::systemd::message_id;
use crate::provider::base::active_config::Active;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;
use crate::provider::fetch::broker::Broker;
use crate::provider::fetch::start::Fit;
use crate::provider::publish::Publisher;
use crate::provider::store::Store;

/// A burst of changes is over when there was none for so long.
const QUIET: Duration = Duration::from_secs(2);
/// What comes later than this after the first change is another burst.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a restart is watched.
const WATCHED: Duration = Duration::from_secs(180);
/// How often the units whose restart is withheld are judged again where no change is noticed: the first time, and at most. What they lack may be
/// looked up in 1Password each time.
const PAUSES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(1800)];
/// How often units are judged before they are told, if each time finds further changes.
const ROUNDS: usize = 3;

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Debug)]
pub struct Restarts {
    link: Link,
    withheld: Mutex<Withheld>,
}

/// What happened since units were told last.
#[derive(Debug, Default)]
struct News {
    /// The secrets that changed.
    names: BTreeSet<String>,
    /// Whether a value came or went, so that units that lacked it are judged again.
    any: bool,
}

impl News {
    fn add(&mut self, active: &Active, event: &Event) {
        self.names.extend(changed(active, event));
        self.any |= matches!(event, Event::Changed { .. } | Event::Held { .. } | Event::Configured);
    }
}

impl Restarts {
    /// Goes on with what the process before this one withheld.
    pub fn new(store: &Store) -> Self {
        let known = store.withheld().and_then(|list| serde_json::from_slice(&list).ok()).unwrap_or_default();
        Self { link: Link::default(), withheld: Mutex::new(known) }
    }

    fn withheld(&self) -> MutexGuard<'_, Withheld> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is withheld for a secret: each unit, and why.
    pub fn withheld_for(&self, secret: &str) -> Vec<(String, String)> {
        let withheld = self.withheld();
        let of_secret = withheld.entries().filter(|(_, entry)| entry.secret == secret);
        of_secret.map(|(unit, entry)| (unit.to_owned(), entry.problem.in_words())).collect()
    }

    /// Follows what changes for as long as it is polled. Files are replaced before a unit is told.
    pub async fn follow(&self, broker: &Arc<Broker>, publisher: &Publisher, fit: &Fit<'_>) {
        let mut events = broker.events.follow();
        let mut pauses = Growing::doubling(PAUSES[0], PAUSES[1]);
        // what the process before this one withheld may be possible by now
        let mut again_at = Instant::now();
        loop {
            let waits = !self.withheld().is_empty();
            let mut news = News::default();
            tokio::select! {
                () = sleep_until(again_at), if waits => {
                    news.any = true;
                    again_at = Instant::now() + pauses.pause();
                }
                event = events.recv() => {
                    match event {
                        Ok(event) => news.add(&broker.active(), &event),
                        Err(RecvError::Lagged(_)) => too_many(),
                        Err(RecvError::Closed) => return,
                    }
                    let latest = Instant::now() + LONGEST;
                    while let Ok(event) = timeout_at(latest.min(Instant::now() + QUIET), events.recv()).await {
                        match event {
                            Ok(event) => news.add(&broker.active(), &event),
                            Err(RecvError::Lagged(_)) => too_many(),
                            Err(RecvError::Closed) => return,
                        }
                    }
                    if news.any {
                        pauses.reset();
                        again_at = Instant::now() + pauses.pause();
                    }
                }
            }
            if news.names.is_empty() && (!news.any || self.withheld().is_empty()) {
                continue;
            }
            match self.judge(broker, publisher, fit, &mut events, &mut news).await {
                Ok(due) if due.is_empty() => {}
                Ok(due) => self.take(&due).await,
                Err(error) => tracing::error!(
                    "units that use {} can't be told that it changed, since the service manager can't be asked: {error}; restart them by hand",
                    news.names.into_iter().collect::<Vec<_>>().join(", ")
                ),
            }
        }
    }

    /// Judges the units that are due, and those of which a restart is withheld. Gives those to be told. What is found changed on the way is
    /// included, so that a unit is restarted once.
    async fn judge(
        &self,
        broker: &Arc<Broker>,
        publisher: &Publisher,
        fit: &Fit<'_>,
        events: &mut broadcast::Receiver<Event>,
        news: &mut News,
    ) -> zbus::Result<Vec<Due>> {
        let mut judged = Vec::new();
        for _ in 0..ROUNDS {
            publisher.sync().await;
            let active = broker.active();
            let due = self.due(&active, &news.names).await?;
            let mut running = BTreeMap::new();
            let units: BTreeSet<String> =
                due.iter().map(|due| due.unit.clone()).chain(self.withheld().units()).collect();
            for unit in units {
                running.extend(self.running(&unit).await?.map(|it| (unit, it)));
            }
            let due = self.withheld().merge(due, &running);
            judged.clear();
            for due in due {
                let Some(running) = running.remove(&due.unit) else { continue };
                let problem = self.problem((broker, fit), &active, &due, true).await?;
                judged.push((due, running, problem));
            }
            let known = news.names.len();
            while let Ok(event) = events.try_recv() {
                news.add(&broker.active(), &event);
            }
            if news.names.len() == known {
                break;
            }
        }
        let mut tell = Vec::new();
        for (due, running, problem) in judged {
            let decision = self.withheld().decide(&due, &running, problem.clone());
            match (decision, problem) {
                (Decision::Withhold { first: true }, Some(problem)) => log_withheld(&due, &problem),
                (Decision::Withhold { .. }, _) => {}
                (Decision::Tell, _) => tell.push(due),
            }
        }
        self.keep(broker.store());
        Ok(tell)
    }

    /// A unit that runs, and has no job.
    async fn running(&self, unit: &str) -> zbus::Result<Option<Running>> {
        let properties = self.link.properties(unit, "Unit").await?;
        if properties.get::<String>("ActiveState").await? != "active" {
            return Ok(None);
        }
        Ok(Some(Running { invocation: properties.get("InvocationID").await? }))
    }

    /// Why a unit that is due would not start with the new values. Without `look_up`, only what is in memory counts.
    async fn problem(
        &self,
        how: (&Arc<Broker>, &Fit<'_>),
        active: &Arc<Active>,
        due: &Due,
        look_up: bool,
    ) -> zbus::Result<Option<Problem>> {
        let Ok(unit) = UnitName::parse(&due.unit) else { return Ok(None) };
        let credentials = Credentials::read(&self.link, active, &unit).await?;
        Ok(credentials.problem(how, &unit, look_up).await)
    }

    /// Why what is due would be withheld, by what is in memory; empty where it would not be.
    pub async fn foresee(&self, broker: &Arc<Broker>, fit: &Fit<'_>, due: &Due) -> zbus::Result<String> {
        let problem = self.problem((broker, fit), &broker.active(), due, false).await?;
        Ok(problem.as_ref().map(Problem::in_words).unwrap_or_default())
    }

    fn keep(&self, store: &Store) {
        let list = serde_json::to_vec(&*self.withheld()).unwrap_or_default();
        if store.withheld().unwrap_or_default() == list {
            return;
        }
        if let Err(error) = store.set_withheld(&list) {
            tracing::warn!("the list of withheld restarts can't be written to the store: {error}");
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

impl Problem {
    fn in_words(&self) -> String {
        format!("credential {}: {}", self.credential, self.reason)
    }
}

fn log_withheld(due: &Due, problem: &Problem) {
    let Due { unit, measure, secret } = due;
    tracing::warn!(
        message_id = message_id::WITHHELD,
        object_systemd_unit = unit.as_str(),
        onecred_unit = unit.as_str(),
        onecred_secret = secret.as_str(),
        onecred_credential = problem.credential.as_str(),
        "{unit} is not {} although secret {secret} has changed, since it would not start: {}; it is {} once it can start",
        measure.past(),
        problem.in_words(),
        measure.past()
    );
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
