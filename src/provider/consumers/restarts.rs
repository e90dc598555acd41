//! Restarts, reloads and signals units when a secret or template changes. This affects only units that run
//! with another value. It happens once for a burst of changes, and only if the units can start with the new
//! values.

mod evaluate;
mod orders;
mod pending;
mod unit;
mod waves;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use self::orders::Order;
use self::pending::{Pending, Problem};
use super::received::Received;
use crate::domain::name::UnitName;
use crate::domain::secret::{Rotation, Signal, Wanted};
use crate::host::clock::{self, BootTime};
use crate::host::pause::Growing;
use crate::host::systemd::invocation;
use crate::host::systemd::manager::Link;
use crate::provider::base::active_config::{ActiveConfig, CurrentConfig};
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;
use crate::provider::fetch::assemble::Part;
use crate::provider::fetch::broker::Broker;
use crate::provider::fetch::start::Fit;
use crate::provider::publish::Publisher;
use crate::provider::store::{Digest, Store};

/// A burst of changes is over after this time without a change.
const QUIET: Duration = Duration::from_secs(2);
/// A change that comes later than this after the first one belongs to the next burst.
const LONGEST: Duration = Duration::from_secs(30);
/// How often to check whether a unit that was starting has become active: the first pause, and the longest.
const LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// How often units whose restart is withheld are judged again without a change: the first pause, and the
/// longest. Each time, missing values may be looked up in 1Password.
const PAUSES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(1800)];
/// How long to wait for more deliveries before the record of what units received is written.
const SAVED: Duration = Duration::from_millis(200);
/// How often units that have ended are removed.
const SWEPT: Duration = Duration::from_secs(60);

/// An action on a unit, in ascending order of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Measure {
    /// `systemctl kill --kill-whom=main`.
    Signal(Signal),
    /// `systemctl reload`.
    Reload,
    /// `systemctl try-restart`.
    Restart,
}

impl Measure {
    /// The name of the measure on D-Bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signal(signal) => signal.as_str(),
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }

    fn past(self) -> String {
        match self {
            Self::Signal(signal) => format!("sent {}", signal.as_str()),
            Self::Reload => "reloaded".to_owned(),
            Self::Restart => "restarted".to_owned(),
        }
    }

    /// The command with which an administrator can do the same.
    fn command(self) -> String {
        match self {
            Self::Signal(signal) => format!("systemctl kill --kill-whom=main --signal={}", signal.as_str()),
            Self::Reload => "systemctl reload".to_owned(),
            Self::Restart => "systemctl restart".to_owned(),
        }
    }
}

/// An action that is due for a unit, and its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The unit.
    pub unit: String,
    /// The action.
    pub measure: Measure,
    /// The secret or template that changed; one of them if there are several.
    pub secret: String,
}

/// Restarts, reloads and signals units.
#[derive(Debug)]
pub struct Restarts {
    config: Arc<CurrentConfig>,
    link: Link,
    pending: Mutex<Pending>,
    received: Mutex<Received>,
    /// Units received something.
    news: Notify,
}

/// The dependencies of the work: the broker, the publisher, and the function that prepares values for a
/// socket.
#[derive(Clone, Copy)]
struct Context<'a> {
    broker: &'a Arc<Broker>,
    publisher: &'a Arc<Publisher>,
    fit: &'a dyn Fit,
}

impl Restarts {
    /// Continues where the previous process stopped.
    pub fn new(config: Arc<CurrentConfig>, store: &Store) -> Self {
        let pending = store.pending().and_then(|list| serde_json::from_slice(&list).ok());
        let received = store.received().and_then(|list| serde_json::from_slice(&list).ok());
        Self {
            config,
            link: Link::default(),
            pending: Mutex::new(pending.unwrap_or_default()),
            received: Mutex::new(received.unwrap_or_default()),
            news: Notify::new(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a unit received a credential made of these parts.
    pub fn delivered(&self, unit: &UnitName, parts: &[Part]) {
        let Some(invocation) = invocation::current(unit.as_str()) else { return };
        self.received().note(unit.as_str(), &invocation, parts, BootTime::now());
        self.news.notify_one();
    }

    /// Writes the record of what units received to the store after each change. Runs until it is dropped.
    pub async fn keep_received(&self, broker: &Broker) {
        let mut swept = Instant::now();
        loop {
            let due = swept + SWEPT;
            let noted = timeout_at(due, self.news.notified()).await.is_ok();
            if noted {
                sleep(SAVED).await; // a unit requests one credential after another
            }
            let ended = Instant::now() >= due && {
                swept = Instant::now();
                self.forget_ended().await
            };
            if noted || ended {
                self.save_received(broker.store());
            }
        }
    }

    /// Writes the record of what units received to the store.
    pub fn save_received(&self, store: &Store) {
        let list = serde_json::to_vec(&*self.received()).unwrap_or_default();
        if let Err(error) = store.set_received(&list) {
            tracing::warn!("the record of what units received can't be written to the store: {error}");
        }
    }

    async fn forget_ended(&self) -> bool {
        let all = self.received().invocations();
        let ended = tokio::task::spawn_blocking(move || {
            all.into_iter()
                .filter(|(unit, known)| invocation::current(unit).as_ref() != Some(known))
                .collect::<Vec<_>>()
        });
        let ended = ended.await.unwrap_or_default();
        self.received().forget(&ended)
    }

    /// The running units that have a value of a secret other than the current one, each with the version of its
    /// value. For a template: the units that may load it and have such a value of one of its parts.
    pub fn outdated(&self, broker: &Broker, name: &str) -> Vec<(String, u64)> {
        let active = self.config.get();
        let others: Vec<_> = {
            let received = self.received();
            let known = parts(&active, name).iter().filter_map(|part| Some((part, broker.digest(part)?)));
            known.flat_map(|(part, current)| received.others(&part.identity(), current)).collect()
        };
        let mut units: BTreeMap<String, u64> = BTreeMap::new();
        for (unit, run, version) in others {
            if may_load(&active, name, &unit) && invocation::current(&unit).as_ref() == Some(&run) {
                let oldest = units.entry(unit).or_insert(version);
                *oldest = version.min(*oldest);
            }
        }
        units.into_iter().collect()
    }

    /// The units whose restart for a secret is withheld, each with the reason.
    pub fn withheld_for(&self, secret: &str) -> Vec<(String, String)> {
        let pending = self.pending();
        let of_secret = pending.entries().filter(|(_, entry)| entry.causes.contains_key(secret));
        of_secret
            .filter_map(|(unit, entry)| Some((unit.to_owned(), entry.problem.as_ref()?.in_words())))
            .collect()
    }

    /// Follows changes until it is dropped. Replaces files before it restarts a unit.
    pub async fn follow(&self, broker: &Arc<Broker>, publisher: &Arc<Publisher>, fit: &dyn Fit) {
        let context = Context { broker, publisher, fit };
        let mut events = broker.events.follow();
        let (ended, mut ends) = mpsc::unbounded_channel::<Order>();
        let mut looks = Growing::doubling(LOOKS[0], LOOKS[1]);
        let mut pauses = Growing::doubling(PAUSES[0], PAUSES[1]);
        // what the previous process left may be possible now
        let (mut look_at, mut again_at) = (Instant::now(), Instant::now());
        loop {
            let waiting = self.pending().is_waiting();
            let withheld = self.pending().is_withheld();
            let mut all = false;
            tokio::select! {
                () = sleep_until(look_at), if waiting => {}
                () = sleep_until(again_at), if withheld => all = true,
                Some(order) = ends.recv() => {
                    self.pending().ended(&order.due.unit, &order.causes, now());
                    looks.reset();
                }
                event = events.recv() => {
                    let Some(news) = self.collect(context, event, &mut events).await else { return };
                    all = news;
                    looks.reset();
                    if news {
                        pauses.reset();
                    }
                }
            }
            let orders = self.evaluate(context, all, &mut events).await;
            self.keep(broker.store());
            look_at = Instant::now() + looks.pause();
            if all {
                again_at = Instant::now() + pauses.pause();
            }
            if !orders.is_empty() {
                tokio::spawn(orders::carry_out(self.link.manager().await, orders, ended.clone()));
            }
        }
    }

    /// Takes a burst of events. Returns whether a value appeared or disappeared, so that units that lacked it
    /// are judged again; `None` at the end.
    async fn collect(
        &self,
        context: Context<'_>,
        first: Result<Event, RecvError>,
        events: &mut broadcast::Receiver<Event>,
    ) -> Option<bool> {
        let latest = Instant::now() + LONGEST;
        let (mut event, mut news) = (first, false);
        loop {
            news |= self.note(event)?;
            news |= self.note_all(context, events);
            let withheld = self.pending().is_withheld();
            let concerns = self.pending().is_waiting() || news && withheld;
            if !concerns {
                return Some(false); // no unit is affected
            }
            match timeout_at(latest.min(Instant::now() + QUIET), events.recv()).await {
                Ok(next) => event = next,
                Err(_quiet) => return Some(news),
            }
        }
    }

    /// Records the events that have already arrived, and stores them before anything is waited for.
    fn note_all(&self, context: Context<'_>, events: &mut broadcast::Receiver<Event>) -> bool {
        let mut news = false;
        loop {
            let event = match events.try_recv() {
                Ok(event) => Ok(event),
                Err(TryRecvError::Lagged(count)) => Err(RecvError::Lagged(count)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
            news |= self.note(event).unwrap_or_default();
        }
        self.keep(context.broker.store());
        news
    }

    /// Records an event. Returns whether a value appeared or disappeared; `None` at the end.
    fn note(&self, event: Result<Event, RecvError>) -> Option<bool> {
        let active = self.config.get();
        let (names, first): (Vec<String>, bool) = match &event {
            Ok(Event::Changed { key, fields, first, .. }) => {
                let is_of = |part: &Wanted| {
                    fields.contains(&part.reference.field)
                        && ItemKey::new(&part.source, &part.reference.item) == *key
                };
                (rotating(&active, is_of), *first)
            }
            Ok(Event::Held { name }) => (rotating(&active, |part| part.label == *name), false),
            Ok(Event::Configured) => return Some(true),
            Ok(Event::Failed { .. }) => return Some(false),
            Err(RecvError::Lagged(_)) => {
                too_many();
                (rotating(&active, |_| true), true)
            }
            Err(RecvError::Closed) => return None,
        };
        let received = self.received();
        let concerns = |name: &String| {
            !first || parts(&active, name).iter().any(|part| received.knows(&part.identity()))
        };
        let names: Vec<String> = names.into_iter().filter(concerns).collect();
        drop(received);
        let mut pending = self.pending();
        names.into_iter().for_each(|name| pending.note(name, first));
        Some(true)
    }

    fn keep(&self, store: &Store) {
        let list = serde_json::to_vec(&*self.pending()).unwrap_or_default();
        let written = store.pending();
        if written.as_ref() == Some(&list) || written.is_none() && *self.pending() == Pending::default() {
            return;
        }
        if let Err(error) = store.set_pending(&list) {
            tracing::warn!("the list of restarts that are due can't be written to the store: {error}");
        }
    }
}

impl Problem {
    fn in_words(&self) -> String {
        match self {
            Self::Refused(credential, reason) => format!("credential {credential}: {reason}"),
            Self::Unknown(error) => format!("the service manager does not answer: {error}"),
            Self::Wave(reason) => reason.clone(),
        }
    }
}

/// The reaction to a change of the secret or template with this name.
fn rotation<'a>(active: &'a ActiveConfig, name: &str) -> Option<&'a Rotation> {
    let of_secret = active.secret(name).map(|secret| &secret.rotation);
    of_secret.or_else(|| active.template(name).map(|template| &template.rotation))
}

/// The parts of the secret or template with this name.
fn parts<'a>(active: &'a ActiveConfig, name: &str) -> &'a [Arc<Wanted>] {
    active.settings.policy.by_name(name).map(|what| what.parts()).unwrap_or_default()
}

/// Whether a unit may load a template. A unit that has a value of a secret was allowed to load the secret.
fn may_load(active: &ActiveConfig, name: &str, unit: &str) -> bool {
    let Some(template) = active.template(name) else { return true };
    UnitName::parse(unit).is_ok_and(|unit| template.grants.iter().any(|grant| grant.units.matches(&unit)))
}

/// The secrets and templates with such a part for which units are restarted, reloaded or signalled.
fn rotating(active: &ActiveConfig, has: impl Fn(&Wanted) -> bool) -> Vec<String> {
    let secrets = active.settings.policy.secrets();
    let secrets = secrets.filter(|secret| secret.rotation.names_units() && has(&secret.wanted));
    let secrets = secrets.map(|secret| secret.name.to_string());
    let templates = active.settings.templates.iter();
    let templates =
        templates.filter(|it| it.rotation.names_units() && it.filling.parts.iter().any(|part| has(part)));
    secrets.chain(templates.map(|template| template.name.to_string())).collect()
}

/// The digests of the current values of all parts.
fn digests(broker: &Broker, active: &ActiveConfig, name: &str) -> Vec<(String, Option<Digest>)> {
    parts(active, name).iter().map(|part| (part.identity(), broker.digest(part))).collect()
}

/// The current time on CLOCK_MONOTONIC, in microseconds.
fn now() -> u64 {
    u64::try_from(clock::monotonic().as_micros()).unwrap_or(u64::MAX)
}

/// Logs that more values changed during restarts than can be remembered.
fn too_many() {
    tracing::error!(
        "too many secrets have changed at once; units that are known to have an old value are restarted or reloaded, but those that read published files may not be"
    );
}

#[cfg(test)]
mod tests;
