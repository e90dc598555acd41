//! What is known of complete sealed answers and of the units that failed because systemd could not decrypt one. [`super::undecrypted`] acts on it.

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

/// How often processes that have an answer are looked at.
pub(super) const CHECK: Duration = Duration::from_millis(250);
/// How long an answer is remembered whose process does not come further, or of which the service manager cannot be asked.
pub(super) const REMEMBERED: Duration = Duration::from_secs(600);
/// The most restarts of a unit in a row.
const RESTARTS: u32 = 3;

/// What is known of sealed answers.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    inner: Mutex<Inner>,
    /// There is something to look at, or to be done.
    pub(super) begun: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) answers: Vec<Answer>,
    /// Units with answers whose processes have ended, while the service manager is asked about them.
    pub(super) judged: Vec<String>,
    pub(super) restarts: BTreeMap<String, Restart>,
    /// Units that did not start, since they need one of these.
    pub(super) dependents: Dependents,
    /// Units that were restarted and have got what they asked for, until their dependents are started.
    pub(super) recovered: Vec<String>,
    /// How many connections systemd-creds.socket had refused when it was last asked; unknown at first, and after a time without answers.
    pub(super) refused: Option<u32>,
    /// When it was last seen that it has refused more.
    pub(super) refused_at: Option<BootTime>,
}

/// A complete sealed answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) unit: String,
    pub(super) credential: String,
    pub(super) process: ProcessId,
    running: Option<Running>,
    pub(super) at: BootTime,
}

/// A unit that is to be restarted.
#[derive(Debug)]
pub(super) struct Restart {
    pauses: Growing,
    /// How many more restarts there may be.
    left: u32,
    /// When; none while its start is awaited.
    due: Option<Instant>,
    /// The invocation that failed.
    pub(super) invocation: Vec<u8>,
    /// A job of ours has been started, and has not ended.
    own_job: bool,
    /// Until when its start and what it asks for are awaited.
    awaited_until: Option<Instant>,
}

impl Sealed {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
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

    /// A unit was refused: it fails because of that. Returns the units that failed for it before, each with one that it needs.
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
    pub(super) fn may_restart(&self) -> bool {
        !(self.answers.is_empty() && self.judged.is_empty() && self.restarts.is_empty())
    }

    /// A unit got what it asked for. If it was restarted for that, its dependents are next.
    pub(super) fn recovers(&mut self, unit: &str) {
        if self.restarts.remove(unit).is_some() {
            self.recovered.push(unit.to_owned());
        }
    }

    /// Takes the answers whose processes have ended. Those that executed their program have got what they asked for.
    pub(super) fn take_ended(
        &mut self,
        now: BootTime,
        look: impl Fn(ProcessId) -> Option<Running>,
    ) -> Vec<Answer> {
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

    /// When there is something to look at or to do, if nothing else happens.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if !(self.answers.is_empty() && self.judged.is_empty() && self.recovered.is_empty()) {
            return Some(now + CHECK);
        }
        self.restarts.values().filter_map(|restart| restart.due.or(restart.awaited_until)).min()
    }

    /// Takes the units whose restarts are due. Those that were not heard of for long are forgotten.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<String> {
        self.restarts.retain(|_, restart| restart.awaited_until.is_none_or(|until| now < until));
        let due = self.restarts.iter_mut().filter(|(_, restart)| restart.due.is_some_and(|due| due <= now));
        due.map(|(unit, restart)| {
            restart.due = None;
            unit.clone()
        })
        .collect()
    }

    /// Notes how many connections were refused until now. The first count says nothing of when that was.
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

    /// A restart is begun.
    pub(super) fn begin(&mut self, now: Instant) {
        self.own_job = true;
        self.awaited_until = Some(now + REMEMBERED);
    }

    /// Plans the next restart of a unit whose invocation failed. False, if there were enough.
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
