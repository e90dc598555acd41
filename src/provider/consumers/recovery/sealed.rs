//! The state of complete sealed answers, and of units that failed because systemd could not decrypt one.
//! [`super::undecrypted`] acts on it.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::MOST;
use super::dependents::Dependents;
use crate::host::clock::BootTime;
use crate::host::pause::{Growing, prolonged};
use crate::provider::base::peer::Peer;
use crate::provider::base::process_id::{ProcessId, Running};

/// How often to check the processes that have an answer.
pub(super) const CHECK: Duration = Duration::from_millis(250);
/// How long an answer is remembered if its process makes no progress, or the service manager cannot be asked
/// about it.
pub(super) const REMEMBERED: Duration = Duration::from_secs(600);
/// The maximum number of consecutive restarts of a unit.
const RESTARTS: u32 = 3;

/// The state of sealed answers.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    inner: Mutex<Inner>,
    /// Something must be checked or done.
    pub(super) begun: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) answers: Vec<SealedAnswer>,
    /// Units with answers whose processes have ended, while the service manager is asked about them.
    pub(super) judged: Vec<String>,
    pub(super) restarts: BTreeMap<String, Restart>,
    /// Units that did not start because they need one of these.
    pub(super) dependents: Dependents,
    /// Restarted units that have received their credentials, until their dependents are started.
    pub(super) recovered: Vec<String>,
    /// How many connections systemd-creds.socket had refused at the last query. `None` at first, and after a
    /// time without answers.
    pub(super) refused: Option<u32>,
    /// When an increase of that number was last seen.
    pub(super) refused_at: Option<BootTime>,
}

/// A complete sealed answer.
#[derive(Debug, Clone)]
pub(super) struct SealedAnswer {
    pub(super) unit: String,
    pub(super) credential: String,
    pub(super) process: ProcessId,
    running: Option<Running>,
    pub(super) at: BootTime,
}

/// A unit that must be restarted.
#[derive(Debug)]
pub(super) struct Restart {
    pauses: Growing,
    /// How many more restarts are allowed.
    left: u32,
    /// When to restart it; `None` while its start is in progress.
    due: Option<Instant>,
    /// The invocation that failed.
    pub(super) invocation: Vec<u8>,
    /// A job of onecred has started and not ended.
    own_job: bool,
    /// Until when its start and its requests are expected.
    awaited_until: Option<Instant>,
}

impl Sealed {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a process received a complete sealed answer.
    pub(super) fn answered(&self, peer: &Peer) {
        let running = peer.process.running();
        if running.as_ref().is_some_and(Running::decrypts_by_itself) {
            return;
        }
        let mut inner = self.inner();
        inner.answers.retain(|answer| answer.process != peer.process);
        if inner.answers.len() < MOST {
            inner.answers.push(SealedAnswer {
                unit: peer.claim.unit.to_string(),
                credential: peer.claim.credential.to_string(),
                process: peer.process,
                running,
                at: BootTime::now(),
            });
            self.begun.notify_one();
        }
    }

    /// Records that a unit was refused, which makes it fail. Returns its dependents that failed before, each
    /// with a unit that it needs.
    pub(super) fn refused(&self, unit: &str) -> Vec<(String, Vec<String>)> {
        let mut inner = self.inner();
        inner.answers.retain(|answer| answer.unit != unit);
        inner.restarts.remove(unit);
        let (mut units, mut dependents) = (vec![unit.to_owned()], Vec::new());
        while let Some((dependent, needed)) = inner.dependents.take_for(&units) {
            units.push(dependent.clone());
            dependents.push((dependent, vec![needed]));
        }
        dependents
    }

    /// Whether a unit must be restarted because systemd could not decrypt an answer.
    pub(super) fn is_to_be_restarted(&self, unit: &str) -> bool {
        self.inner().restarts.contains_key(unit)
    }

    /// Records that a job of this unit has ended successfully or was canceled: a job of someone else, or the
    /// expected one.
    pub(super) fn job_ended(&self, unit: &str, is_done: bool) {
        let mut inner = self.inner();
        let was_answered = inner.answers.iter().any(|answer| answer.unit == unit);
        inner.answers.retain(|answer| answer.unit != unit || answer.process.running() == answer.running);
        let is_loading = inner.answers.iter().any(|answer| answer.unit == unit);
        match inner.restarts.get_mut(unit) {
            // the start job of a Type=simple unit ends at the fork: before the process asks, or while it
            // loads its credentials
            Some(restart) if restart.own_job && (is_loading || is_done && !was_answered) => {
                restart.own_job = false;
                restart.awaited_until = Some(Instant::now() + REMEMBERED);
            }
            Some(restart) if restart.own_job && is_done => {
                inner.recovers(unit);
                self.begun.notify_one();
            }
            Some(_) => drop(inner.restarts.remove(unit)),
            None => {}
        }
        inner.dependents.forget(unit);
    }

    /// Records that a unit did not start because a unit that it needs failed.
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
    /// Whether a unit has a sealed answer that systemd may have failed to decrypt, or must be restarted for
    /// that reason.
    pub(super) fn may_restart(&self) -> bool {
        !(self.answers.is_empty() && self.judged.is_empty() && self.restarts.is_empty())
    }

    /// Records that a unit received its credentials. If it was restarted, its dependents are next.
    pub(super) fn recovers(&mut self, unit: &str) {
        if self.restarts.remove(unit).is_some() {
            self.recovered.push(unit.to_owned());
        }
    }

    /// Takes the answers whose processes have ended. Processes that executed their program had received their
    /// credentials.
    pub(super) fn take_ended(
        &mut self,
        now: BootTime,
        look: impl Fn(ProcessId) -> Option<Running>,
    ) -> Vec<SealedAnswer> {
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

    /// When to check or do something, if nothing else happens.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if !(self.answers.is_empty() && self.judged.is_empty() && self.recovered.is_empty()) {
            return Some(now + CHECK);
        }
        self.restarts.values().filter_map(|restart| restart.due.or(restart.awaited_until)).min()
    }

    /// Takes the units whose restarts are due. Drops those without news for a long time.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<String> {
        self.restarts.retain(|_, restart| restart.awaited_until.is_none_or(|until| now < until));
        let due = self.restarts.iter_mut().filter(|(_, restart)| restart.due.is_some_and(|due| due <= now));
        due.map(|(unit, restart)| {
            restart.due = None;
            unit.clone()
        })
        .collect()
    }

    /// Records how many connections were refused until now. The first count does not show when that was.
    pub(super) fn note_refused(&mut self, count: u32, now: BootTime) {
        if self.refused.replace(count).is_some_and(|before| count > before) {
            self.refused_at = Some(now);
        }
    }
}

impl Restart {
    pub(super) fn new() -> Self {
        let pauses = Growing::tripling(Duration::from_secs(2), Duration::from_secs(18));
        Self {
            pauses,
            left: RESTARTS,
            due: None,
            invocation: Vec::new(),
            own_job: false,
            awaited_until: None,
        }
    }

    /// Marks a restart as begun.
    pub(super) fn begin(&mut self, now: Instant) {
        self.own_job = true;
        self.awaited_until = Some(now + REMEMBERED);
    }

    /// Plans the next restart of a unit whose invocation failed. Returns false if the limit is reached.
    pub(super) fn plan(&mut self, invocation: Vec<u8>) -> bool {
        self.own_job = false;
        self.awaited_until = None;
        self.invocation = invocation;
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        self.due = left.map(|_| Instant::now() + prolonged(self.pauses.pause(), 1.0));
        self.due.is_some()
    }
}

#[cfg(test)]
mod tests;
