//! Units that got a complete sealed answer which systemd could not decrypt, and failed with 243/CREDENTIALS.
//!
//! Since systemd 258 a unit with `PrivateDevices=`, `DeviceAllow=` or `DevicePolicy=` needs a connection to systemd-creds.socket, which is
//! reset when there are too many. Each such unit gets one line in its journal and is restarted up to three times. A restart of the provider
//! forgets these units: they are restarted within a minute or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::dependents::Dependents;
use super::start::{For, Outcome};
use super::verdict::{Command, Failed, Source, is_undecrypted};
use super::{MOST, Recovery};
use crate::host::clock::{self, BootTime};
use crate::host::pause::{Growing, prolonged};
use crate::host::systemd::message_id;
use crate::provider::base::peer::Peer;
use crate::provider::base::process_id::{ProcessId, Running};
use crate::provider::fetch::broker::Broker;

/// How often processes that have an answer are looked at.
const CHECK: Duration = Duration::from_millis(250);
/// How long an answer is remembered whose process does not come further, or of which the service manager cannot be asked.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The most restarts of a unit in a row.
const RESTARTS: u32 = 3;
/// The sockets of this provider.
const OWN: [&str; 2] = ["/run/onecred/credential.sock", "/run/onecred/sealed.sock"];
/// Decrypts for units.
const DECRYPTS: &str = "systemd-creds.socket";

/// What is known of sealed answers.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    inner: Mutex<Inner>,
    /// There is something to look at.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    answers: Vec<Answer>,
    /// Units with answers whose processes have ended, while the service manager is asked about them.
    judged: Vec<String>,
    restarts: BTreeMap<String, Restart>,
    /// Units that did not start, since they need one of these.
    dependents: Dependents,
    /// Units that were restarted and have got what they asked for, until their dependents are started.
    recovered: Vec<String>,
    /// How many connections [`DECRYPTS`] had refused when it was last asked; unknown at first, and after a time without answers.
    refused: Option<u32>,
    /// When it was last seen that it has refused more.
    refused_at: Option<BootTime>,
}

/// A complete sealed answer.
#[derive(Debug, Clone)]
struct Answer {
    unit: String,
    credential: String,
    process: ProcessId,
    running: Option<Running>,
    at: BootTime,
}

/// A unit that is to be restarted.
#[derive(Debug)]
struct Restart {
    pauses: Growing,
    /// How many more restarts there may be.
    left: u32,
    /// When; none while its start is awaited.
    due: Option<Instant>,
    /// The invocation that failed.
    invocation: Vec<u8>,
    /// A job of ours has been started, and has not ended.
    own_job: bool,
    /// When that job ended, while it is not known whether the unit got what it asks for.
    started: Option<Instant>,
}

impl Sealed {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process got a complete sealed answer.
    pub(super) fn answered(&self, peer: &Peer) {
        let running = peer.process.running();
        if running.as_ref().is_some_and(Running::decrypts_by_itself) {
            return;
        }
        let mut inner = self.inner();
        inner.answers.retain(|answer| answer.process != peer.process);
        if inner.answers.len() < MOST {
            inner.answers.push(Answer {
                unit: peer.claim.unit.to_string(),
                credential: peer.claim.credential.to_string(),
                process: peer.process,
                running,
                at: BootTime::now(),
            });
            self.begun.notify_one();
        }
    }

    /// A unit was refused: it fails because of that. Returns the units that failed for it before.
    pub(super) fn refused(&self, unit: &str) -> Vec<String> {
        let mut inner = self.inner();
        inner.answers.retain(|answer| answer.unit != unit);
        inner.restarts.remove(unit);
        let mut units = vec![unit.to_owned()];
        while let Some((dependent, _)) = inner.dependents.take_for(&units) {
            units.push(dependent);
        }
        units.split_off(1)
    }

    /// Whether a unit is to be restarted, since systemd could not decrypt an answer for it.
    pub(super) fn is_to_be_restarted(&self, unit: &str) -> bool {
        self.inner().restarts.contains_key(unit)
    }

    /// A job of this unit has ended well, or was canceled: one that was not ours, or the one that is awaited.
    pub(super) fn job_ended(&self, unit: &str, is_done: bool) {
        let mut inner = self.inner();
        let was_answered = inner.answers.iter().any(|answer| answer.unit == unit);
        inner.answers.retain(|answer| answer.unit != unit || answer.process.running() == answer.running);
        let is_loading = inner.answers.iter().any(|answer| answer.unit == unit);
        match inner.restarts.get_mut(unit) {
            // the start job of Type=simple ends at the fork: before the process asks, or while it loads its credentials
            Some(restart) if restart.own_job && (is_loading || is_done && !was_answered) => {
                restart.own_job = false;
                restart.started = Some(Instant::now());
            }
            Some(restart) if restart.own_job && is_done => inner.recovers(unit),
            Some(_) => drop(inner.restarts.remove(unit)),
            None => {}
        }
        inner.dependents.forget(unit);
    }

    /// A unit did not start, since one of those that it needs failed.
    pub(super) fn note_dependent(&self, unit: String, needs: Vec<String>) {
        let mut inner = self.inner();
        if inner.may_restart() {
            inner.dependents.note(unit, needs);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let inner = self.inner();
        !inner.may_restart() && inner.dependents.is_empty()
    }
}

impl Inner {
    /// Whether a unit got a sealed answer that may turn out not to have been decrypted, or is to be restarted for that.
    fn may_restart(&self) -> bool {
        !(self.answers.is_empty() && self.judged.is_empty() && self.restarts.is_empty())
    }

    /// A unit got what it asked for. If it was restarted for that, its dependents are next.
    fn recovers(&mut self, unit: &str) {
        if self.restarts.remove(unit).is_some() {
            self.recovered.push(unit.to_owned());
        }
    }

    /// Takes the answers whose processes have ended. Those that executed their program have got what they asked for.
    fn take_ended(&mut self, now: BootTime, look: impl Fn(ProcessId) -> Option<Running>) -> Vec<Answer> {
        let mut ended = Vec::new();
        for answer in mem::take(&mut self.answers) {
            let running = look(answer.process);
            let same = |running: &Running| {
                answer.running.as_ref().is_none_or(|before| before.started == running.started)
            };
            match running.filter(same) {
                None => {
                    self.judged.push(answer.unit.clone());
                    ended.push(answer);
                }
                Some(running) if answer.running.as_ref() != Some(&running) => self.recovers(&answer.unit),
                Some(_) if answer.at.age(now) < REMEMBERED => self.answers.push(answer),
                Some(_) => {}
            }
        }
        ended
    }

    /// Notes how many connections were refused until now. The first count says nothing of when that was.
    fn note_refused(&mut self, count: u32, now: BootTime) {
        if self.refused.replace(count).is_some_and(|before| count > before) {
            self.refused_at = Some(now);
        }
    }
}

impl Restart {
    fn new() -> Self {
        let pauses = Growing::tripling(Duration::from_secs(2), Duration::from_secs(18));
        Self { pauses, left: RESTARTS, due: None, invocation: Vec::new(), own_job: false, started: None }
    }

    /// Plans the next restart of a unit whose invocation failed. False, if there were enough.
    fn plan(&mut self, invocation: Vec<u8>) -> bool {
        self.own_job = false;
        self.started = None;
        self.invocation = invocation;
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        self.due = left.map(|_| Instant::now() + prolonged(self.pauses.pause(), 1.0));
        self.due.is_some()
    }
}

impl Recovery {
    /// A unit got a complete sealed answer.
    pub fn answered_sealed(&self, peer: &Peer) {
        self.sealed.answered(peer);
    }

    /// Restarts units that systemd could not decrypt an answer for, for as long as it is polled.
    pub async fn follow_sealed(self: Arc<Self>, broker: Arc<Broker>) {
        loop {
            if self.sealed.is_empty() {
                self.sealed.begun.notified().await;
                let mut inner = self.sealed.inner();
                inner.refused = None; // what was refused meanwhile concerns no answer
                inner.recovered.clear(); // it has no dependents
            }
            self.count_refused().await;
            sleep(CHECK).await;
            let ended = self.sealed.inner().take_ended(BootTime::now(), ProcessId::running);
            if !ended.is_empty()
                && let Err(error) = self.judge(&ended, &broker).await
            {
                tracing::debug!("units with sealed answers can't be looked at now: {error}");
                let recent = |answer: &Answer| answer.at.age(BootTime::now()) < REMEMBERED;
                self.sealed.inner().answers.extend(ended.into_iter().filter(recent));
                sleep(Duration::from_secs(2)).await;
            }
            self.sealed.inner().judged.clear();
            self.restart_due().await;
            self.start_dependents().await;
        }
    }

    /// Starts the units that failed for one that has recovered. Those that wait for a unit that was given up stay as they are.
    async fn start_dependents(&self) {
        let mut started = mem::take(&mut self.sealed.inner().recovered);
        loop {
            let next = self.sealed.inner().dependents.take_for(&started);
            let Some((unit, needed)) = next else { break };
            match self.start_again(&unit, For::Another, "fail").await {
                Ok(Outcome::Started) => {
                    tracing::info!(
                        message_id = message_id::RECOVERED,
                        object_systemd_unit = unit.as_str(),
                        onecred_unit = unit.as_str(),
                        onecred_result = "recovered",
                        "{unit} is started again, since {needed}, which it needs, was restarted"
                    );
                    started.push(unit);
                }
                Ok(Outcome::NotNeeded | Outcome::Later) => {
                    tracing::debug!(
                        "{unit} is not started again: it runs, or another unit that it needs has failed"
                    );
                }
                Err(error) => tracing::error!(
                    object_systemd_unit = unit.as_str(),
                    "{unit} could not be started again after {needed}, which it needs, was restarted: {error}; try: systemctl start {unit}"
                ),
            }
        }
        let mut inner = self.sealed.inner();
        if !inner.may_restart() && inner.recovered.is_empty() {
            inner.dependents.clear();
        }
    }

    /// Asks often, so that a refusal is known to have happened after an answer.
    async fn count_refused(&self) {
        match self.connections_refused().await {
            Ok(count) => self.sealed.inner().note_refused(count, BootTime::now()),
            Err(error) => tracing::debug!("{DECRYPTS} can't be looked at now: {error}"),
        }
    }

    async fn connections_refused(&self) -> zbus::Result<u32> {
        self.link.properties(DECRYPTS, "Socket").await?.get("NRefused").await
    }

    async fn judge(&self, ended: &[Answer], broker: &Broker) -> zbus::Result<()> {
        let failed = self.link.manager().await?.list_units_by_patterns(&["failed"], &[]).await?;
        let idle = failed.into_iter().filter(|(.., job, _, _)| *job == 0);
        let failed: BTreeSet<String> = idle.map(|(name, ..)| name).collect();
        let (failed, other): (Vec<&Answer>, Vec<&Answer>) =
            ended.iter().partition(|answer| failed.contains(&answer.unit));
        for answer in other {
            self.sealed.inner().recovers(&answer.unit);
        }
        if failed.is_empty() {
            return Ok(());
        }
        let count = self.connections_refused().await?;
        self.sealed.inner().note_refused(count, BootTime::now());
        for answer in failed {
            let process = u32::try_from(answer.process.pid()).unwrap_or_default();
            let is_ours = self.look_at(answer).await.map(|failed| is_undecrypted(process, &failed));
            match is_ours {
                Ok(true) => self.plan_restart(answer, broker).await,
                Ok(false) => drop(self.sealed.inner().restarts.remove(&answer.unit)),
                Err(error) => tracing::debug!("{} can't be looked at: {error}", answer.unit),
            }
        }
        Ok(())
    }

    async fn look_at(&self, answer: &Answer) -> zbus::Result<Failed> {
        let (kind, commands): (_, &[&str]) = match answer.unit.rsplit_once('.') {
            Some((_, "mount")) => ("Mount", &["ExecMount"]),
            _ => ("Service", &["ExecCondition", "ExecStartPre", "ExecStart"]),
        };
        let unit = self.link.properties(&answer.unit, kind).await?;
        let mut failed = Failed::default();
        for name in commands {
            failed.commands.extend(unit.get::<Vec<Command>>(name).await?);
        }
        failed.calls = unit.get("PrivateDevices").await?
            || unit.get::<String>("DevicePolicy").await? != "auto"
            || !unit.get::<Vec<(String, String)>>("DeviceAllow").await?.is_empty();
        let defaults: Vec<(String, Vec<u8>)> = unit.get("SetCredential").await?;
        for name in ["LoadCredential", "LoadCredentialEncrypted"] {
            let lines: Vec<(String, String)> = unit.get(name).await?;
            let others = lines.iter().filter(|(_, path)| !OWN.contains(&path.as_str()));
            let source = |(id, path): &(String, String)| match Path::new(path).symlink_metadata() {
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && path.starts_with('/')
                        && !defaults.iter().any(|(default, _)| default == id) =>
                {
                    Source::Missing
                }
                _ => Source::Other,
            };
            failed.others.extend(others.map(source));
        }
        if !unit.get::<Vec<(String, Vec<u8>)>>("SetCredentialEncrypted").await?.is_empty() {
            failed.others.push(Source::Other);
        }
        failed.reset = self.was_reset(answer.at).await?;
        Ok(failed)
    }

    /// Whether [`DECRYPTS`] refused connections since then, or was not running all the time.
    async fn was_reset(&self, since: BootTime) -> zbus::Result<bool> {
        let socket = self.link.properties(DECRYPTS, "Unit").await?;
        let active = socket.get::<String>("ActiveState").await? == "active";
        let entered = Duration::from_micros(socket.get("ActiveEnterTimestampMonotonic").await?);
        let up_for = clock::monotonic().saturating_sub(entered);
        let refused = self.sealed.inner().refused_at.is_some_and(|at| at >= since);
        Ok(refused || !active || up_for < since.age(BootTime::now()))
    }

    async fn plan_restart(&self, answer: &Answer, broker: &Broker) {
        let Answer { unit, credential, .. } = answer;
        let recovers = broker.active().settings.recover;
        let Ok(invocation) = self.invocation(unit).await else { return };
        let (is_new, is_planned) = {
            let mut inner = self.sealed.inner();
            let is_new = !inner.restarts.contains_key(unit);
            let restart = inner.restarts.entry(unit.clone()).or_insert_with(Restart::new);
            let is_planned = recovers && restart.plan(invocation);
            if !is_planned {
                inner.restarts.remove(unit);
            }
            (is_new, is_planned)
        };
        if !is_new {
            return;
        }
        let then = if is_planned { "; it is restarted up to 3 times" } else { "" };
        tracing::warn!(
            message_id = message_id::UNDECRYPTED,
            object_systemd_unit = unit.as_str(),
            onecred_unit = unit.as_str(),
            onecred_credential = credential.as_str(),
            onecred_result = "undecrypted",
            "credential {credential} for {unit} was sent, but systemd could not decrypt it, so the unit failed with 243/CREDENTIALS{then}; the likely cause is the connection limit of {DECRYPTS}, or that this socket is not running; see: systemctl status {DECRYPTS}; its drop-in 10-onecred.conf, which onecred installs, raises the limit: onecred check"
        );
    }

    async fn invocation(&self, unit: &str) -> zbus::Result<Vec<u8>> {
        self.link.properties(unit, "Unit").await?.get("InvocationID").await
    }

    async fn restart_due(&self) {
        let due: Vec<String> = {
            let mut inner = self.sealed.inner();
            let now = Instant::now();
            // one that no longer asks
            inner.restarts.retain(|_, restart| restart.started.is_none_or(|at| now - at < REMEMBERED));
            let due =
                inner.restarts.iter_mut().filter(|(_, restart)| restart.due.is_some_and(|due| due <= now));
            due.map(|(unit, restart)| {
                restart.due = None;
                unit.clone()
            })
            .collect()
        };
        for unit in due {
            match self.restart_failed(&unit).await {
                Ok(true) => {}
                Ok(false) => drop(self.sealed.inner().restarts.remove(&unit)),
                Err(error) => {
                    tracing::error!(
                        object_systemd_unit = unit.as_str(),
                        "{unit} could not be restarted after systemd could not decrypt its credentials: {error}; try: systemctl start {unit}"
                    );
                    self.sealed.inner().restarts.remove(&unit);
                }
            }
        }
    }

    /// Restarts it, if it is as it was when it failed.
    async fn restart_failed(&self, name: &str) -> zbus::Result<bool> {
        let unit = self.link.properties(name, "Unit").await?;
        let (job, _): (u32, zbus::OwnedObjectPath) = unit.get("Job").await?;
        let is_failed = unit.get::<String>("ActiveState").await? == "failed";
        let is_loaded = unit.get::<String>("LoadState").await? == "loaded";
        let invocation: Vec<u8> = unit.get("InvocationID").await?;
        match self.sealed.inner().restarts.get_mut(name) {
            Some(restart) if is_failed && is_loaded && job == 0 && restart.invocation == invocation => {
                restart.own_job = true;
            }
            _ => return Ok(false),
        }
        let outcome = self.start_again(name, For::Itself, "fail").await?;
        tracing::debug!("restart of {name}, since systemd could not decrypt its credentials: {outcome:?}");
        Ok(outcome == Outcome::Started)
    }
}

#[cfg(test)]
mod tests;
