//! Restarts units that failed with 243/CREDENTIALS because systemd could not decrypt a complete sealed
//! answer.
//!
//! Since systemd 258 a unit with `PrivateDevices=`, `DeviceAllow=` or `DevicePolicy=` needs a connection to
//! systemd-creds.socket, which is reset if there are too many. Each such unit gets one line in its journal
//! and is restarted up to three times. A restart of the provider drops these units: units are restarted
//! within a minute or not at all.

use std::collections::BTreeSet;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Recovery;
use super::sealed::{CHECK, REMEMBERED, Restart, SealedAnswer};
use super::start::{For, StartOutcome};
use super::verdict::{Command, Failed, OtherSource, is_undecrypted};
use crate::host::clock::{self, BootTime};
use crate::host::systemd::message_id;
use crate::provider::base::peer::Peer;
use crate::provider::base::process_id::ProcessId;

/// The sockets of this provider.
const OWN: [&str; 2] = ["/run/onecred/credential.sock", "/run/onecred/sealed.sock"];
/// The socket that decrypts for units.
const DECRYPTS: &str = "systemd-creds.socket";

impl Recovery {
    /// Records that a unit received a complete sealed answer.
    pub fn answered_sealed(&self, peer: &Peer) {
        self.sealed.answered(peer);
    }

    /// Restarts units whose answer systemd could not decrypt. Runs until it is dropped.
    pub async fn follow_sealed(self: Arc<Self>) {
        loop {
            self.wait().await;
            let ended = self.sealed.inner().take_ended(BootTime::now(), ProcessId::running);
            if !ended.is_empty()
                && let Err(error) = self.judge(&ended).await
            {
                tracing::debug!("units with sealed answers can't be looked at now: {error}");
                let recent = |answer: &SealedAnswer| answer.at.age(BootTime::now()) < REMEMBERED;
                self.sealed.inner().answers.extend(ended.into_iter().filter(recent));
                sleep(Duration::from_secs(2)).await;
            }
            self.sealed.inner().judged.clear();
            self.restart_due().await;
            self.start_dependents().await;
        }
    }

    /// Waits until something must be checked or done.
    async fn wait(&self) {
        let next = self.sealed.inner().next(Instant::now());
        if self.sealed.inner().answers.is_empty() {
            // connections that are refused before the next answer do not affect it
            self.sealed.inner().refused = None;
            tokio::select! {
                () = self.sealed.begun.notified() => {}
                () = async {
                    match next {
                        Some(next) => sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
        if !self.sealed.inner().answers.is_empty() {
            self.count_refused().await;
            sleep(CHECK).await;
        }
    }

    /// Starts the dependents of units that have recovered. Dependents of a unit that was given up remain
    /// failed.
    async fn start_dependents(&self) {
        let mut started = mem::take(&mut self.sealed.inner().recovered);
        loop {
            let next = self.sealed.inner().dependents.take_for(&started);
            let Some((unit, needed)) = next else { break };
            match self.start_again(&unit, For::Another, "fail").await {
                Ok(StartOutcome::Started) => {
                    tracing::info!(
                        message_id = message_id::RECOVERED,
                        object_systemd_unit = unit.as_str(),
                        onecred_unit = unit.as_str(),
                        onecred_result = "recovered",
                        "{unit} is started again, because {needed}, which it needs, was restarted"
                    );
                    started.push(unit);
                }
                Ok(StartOutcome::NotNeeded | StartOutcome::Returned | StartOutcome::Later) => {
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

    /// Queries the number of refused connections often, so that a refusal can be dated after an answer.
    async fn count_refused(&self) {
        match self.connections_refused().await {
            Ok(count) => self.sealed.inner().note_refused(count, BootTime::now()),
            Err(error) => tracing::debug!("{DECRYPTS} can't be looked at now: {error}"),
        }
    }

    async fn connections_refused(&self) -> zbus::Result<u32> {
        self.link.properties(DECRYPTS, "Socket").await?.get("NRefused").await
    }

    async fn judge(&self, ended: &[SealedAnswer]) -> zbus::Result<()> {
        let failed = self.link.manager().await?.list_units_by_patterns(&["failed"], &[]).await?;
        let idle = failed.into_iter().filter(|(.., job, _, _)| *job == 0);
        let failed: BTreeSet<String> = idle.map(|(name, ..)| name).collect();
        let (failed, other): (Vec<&SealedAnswer>, Vec<&SealedAnswer>) =
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
                Ok(true) => self.plan_restart(answer).await,
                Ok(false) => drop(self.sealed.inner().restarts.remove(&answer.unit)),
                Err(error) => tracing::debug!("{} can't be looked at: {error}", answer.unit),
            }
        }
        Ok(())
    }

    async fn look_at(&self, answer: &SealedAnswer) -> zbus::Result<Failed> {
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
                    OtherSource::Missing
                }
                _ => OtherSource::Other,
            };
            failed.others.extend(others.map(source));
        }
        if !unit.get::<Vec<(String, Vec<u8>)>>("SetCredentialEncrypted").await?.is_empty() {
            failed.others.push(OtherSource::Other);
        }
        failed.reset = self.was_reset(answer.at).await?;
        Ok(failed)
    }

    /// Whether [`DECRYPTS`] has refused connections since then, or was not running all the time.
    async fn was_reset(&self, since: BootTime) -> zbus::Result<bool> {
        let socket = self.link.properties(DECRYPTS, "Unit").await?;
        let active = socket.get::<String>("ActiveState").await? == "active";
        let entered = Duration::from_micros(socket.get("ActiveEnterTimestampMonotonic").await?);
        let up_for = clock::monotonic().saturating_sub(entered);
        let refused = self.sealed.inner().refused_at.is_some_and(|at| at >= since);
        Ok(refused || !active || up_for < since.age(BootTime::now()))
    }

    async fn plan_restart(&self, answer: &SealedAnswer) {
        let SealedAnswer { unit, credential, .. } = answer;
        let recovers = self.config.get().settings.recover;
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
        let due = self.sealed.inner().take_due(Instant::now());
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

    /// Restarts a unit, if its state has not changed since it failed.
    async fn restart_failed(&self, name: &str) -> zbus::Result<bool> {
        let unit = self.link.properties(name, "Unit").await?;
        let (job, _): (u32, zbus::OwnedObjectPath) = unit.get("Job").await?;
        let is_failed = unit.get::<String>("ActiveState").await? == "failed";
        let is_loaded = unit.get::<String>("LoadState").await? == "loaded";
        let invocation: Vec<u8> = unit.get("InvocationID").await?;
        match self.sealed.inner().restarts.get_mut(name) {
            Some(restart) if is_failed && is_loaded && job == 0 && restart.invocation == invocation => {
                restart.begin(Instant::now());
            }
            _ => return Ok(false),
        }
        let outcome = self.start_again(name, For::Undecrypted, "fail").await?;
        tracing::debug!("restart of {name}, since systemd could not decrypt its credentials: {outcome:?}");
        Ok(outcome == StartOutcome::Started)
    }
}
