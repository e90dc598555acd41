//! Limits the rate of sealed answers, so that systemd can decrypt each of them.
//!
//! Since systemd 258, the process that starts a unit with `PrivateDevices=`, `DeviceAllow=` or
//! `DevicePolicy=` does not decrypt its credentials itself. It connects to systemd-creds.socket, which by
//! default resets all but 16 connections at a time (systemd #42460). A unit whose connection is reset fails
//! with 243/CREDENTIALS. So at most [`SLOTS`] processes have a sealed answer and have not yet executed their
//! program or ended. The others wait in the order of their arrival. A process also keeps its slot while the
//! instance of systemd-creds@.service that it called still runs, because its connection counts until that has
//! ended.
//!
//! Before 258, a helper process asks and decrypts. It is recognised by its name, which needs no D-Bus and
//! stays correct if systemd is upgraded while this process runs. Without D-Bus it is unknown whether a unit
//! has one of these settings, so all units take part. Units without the settings execute their program within
//! a few milliseconds.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::host::clock;
use crate::provider::base::process_id::{ProcessId, Running};

/// How many processes may have a sealed answer and not be finished with it. The remaining connections (of 16)
/// are left for others.
const SLOTS: usize = 12;
/// How long a process keeps its slot at most, while systemd-creds.socket accepts connections. On two cores with
/// twenty times as much to do, one of 500 processes in a row needs 2 s on average.
const LONGEST: Duration = Duration::from_secs(5);
/// The same while it accepts none: the service manager first starts all the units (some 10 ms per unit) while
/// connections queue up.
const STALLED: Duration = Duration::from_secs(15);
/// How often slots are checked while a process waits for one.
const CHECK: Duration = Duration::from_millis(5);
/// The cgroup of all instances of systemd-creds@.service.
const INSTANCES: &str = r"/sys/fs/cgroup/system.slice/system-systemd\x2dcreds.slice";

/// Decides which processes get a sealed answer now.
#[derive(Debug, Default)]
pub(in crate::provider) struct SealedPace {
    slots: Mutex<Slots>,
    /// Held by the process that is next. A tokio mutex is fair: it is passed on in the order of arrival.
    line: tokio::sync::Mutex<()>,
}

impl SealedPace {
    /// Gives the process a slot, if one is free and no other process is waiting. A process that has a slot
    /// keeps it.
    pub(in crate::provider) fn try_enter(&self, process: ProcessId) -> bool {
        match paced(process) {
            None => true,
            Some(_) if self.slots(|slots| slots.renew(process, clock::monotonic())) => true,
            Some(running) => self.line.try_lock().is_ok_and(|_next| self.enter(process, running)),
        }
    }

    /// Waits until the process has a slot or has ended.
    ///
    /// This has no time limit. The line always moves, because no slot lasts longer than [`STALLED`], and an answer
    /// beyond the slots could make systemd reset the connections of other units too. systemd ends a process that
    /// waits too long (`TimeoutStartSec=`).
    pub(in crate::provider) async fn wait(&self, process: ProcessId) {
        let _next = self.line.lock().await;
        while let Some(running) = paced(process)
            && !self.enter(process, running)
        {
            tokio::time::sleep(CHECK).await;
        }
    }

    /// Records that the process requests its next credential. It has decrypted the previous one, and takes a
    /// slot again for the next answer.
    pub(in crate::provider) fn asks_again(&self, process: ProcessId) {
        self.slots(|slots| slots.asks_again(process));
    }

    fn enter(&self, process: ProcessId, running: Running) -> bool {
        let callers = OnceCell::new();
        let look = |process: ProcessId| Sight {
            running: process.running(),
            served: callers.get_or_init(|| callers_of(Path::new(INSTANCES))).contains(&process.pid()),
        };
        self.slots(|slots| slots.enter(process, running, clock::monotonic(), look))
    }

    fn slots<T>(&self, with: impl FnOnce(&mut Slots) -> T) -> T {
        with(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The program of the process, if it needs a slot. A process that has ended or decrypts by itself does not.
fn paced(process: ProcessId) -> Option<Running> {
    process.running().filter(|running| !running.decrypts_by_itself())
}

/// The processes that systemd-creds.socket has connections from, by the names of its instances. Empty if
/// there are no such cgroups.
fn callers_of(instances: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir(instances).into_iter().flatten().flatten();
    entries.filter_map(|entry| caller(entry.file_name().to_str()?)).collect()
}

/// The process that an instance serves. systemd names it NUMBER-COOKIE-PID_PIDFD-UID, or NUMBER-PID-UID in
/// earlier versions.
fn caller(instance: &str) -> Option<i32> {
    let name = instance.strip_prefix("systemd-creds@")?.strip_suffix(".service")?;
    name.rsplit('-').nth(1)?.split('_').next()?.parse().ok()
}

/// The processes that have an answer.
#[derive(Debug, Default)]
struct Slots {
    taken: Vec<Slot>,
    /// How many slots were given so far.
    given: u64,
    /// The number of the last slot whose process was seen being served. Connections are accepted in their
    /// order.
    served: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    process: ProcessId,
    /// The program of the process when it got the slot. It changes when the process executes another program.
    running: Running,
    /// When, on CLOCK_MONOTONIC.
    since: Duration,
    /// It has decrypted its answer, and requests the next credential.
    asks_again: bool,
}

/// The observed state of a process.
struct Sight {
    /// Its program; `None` if it has ended.
    running: Option<Running>,
    /// Whether an instance of systemd-creds@.service serves it.
    served: bool,
}

impl Slots {
    /// Whether the process has a slot. If so, its time starts again.
    fn renew(&mut self, process: ProcessId, now: Duration) -> bool {
        let slot = self.taken.iter_mut().find(|slot| slot.process == process);
        slot.map(|slot| (slot.since, slot.asks_again) = (now, false)).is_some()
    }

    fn asks_again(&mut self, process: ProcessId) {
        let slot = self.taken.iter_mut().find(|slot| slot.process == process);
        slot.into_iter().for_each(|slot| slot.asks_again = true);
    }

    /// Gives the process a slot, if one is free.
    fn enter(
        &mut self,
        process: ProcessId,
        running: Running,
        now: Duration,
        look: impl Fn(ProcessId) -> Sight,
    ) -> bool {
        if self.renew(process, now) {
            return true;
        }
        if self.taken.len() >= SLOTS {
            self.free(now, look);
        }
        let enters = self.taken.len() < SLOTS;
        if enters {
            self.add(process, running, now);
        }
        enters
    }

    fn add(&mut self, process: ProcessId, running: Running, now: Duration) {
        if !self.renew(process, now) {
            self.given += 1;
            self.taken.push(Slot { number: self.given, process, running, since: now, asks_again: false });
        }
    }

    fn free(&mut self, now: Duration, look: impl Fn(ProcessId) -> Sight) {
        let sights: Vec<Sight> = self.taken.iter().map(|slot| look(slot.process)).collect();
        let served = self.taken.iter().zip(&sights).filter(|(_, sight)| sight.served);
        self.served = served.map(|(slot, _)| slot.number).max().unwrap_or_default().max(self.served);
        let (served, mut sights) = (self.served, sights.into_iter());
        self.taken.retain(|slot| sights.next().is_some_and(|sight| slot.is_needed(&sight, now, served)));
    }
}

impl Slot {
    /// Whether the process may still call systemd-creds, or is being served by it.
    fn is_needed(&self, sight: &Sight, now: Duration, last_served: u64) -> bool {
        let age = now.saturating_sub(self.since);
        let longest = if self.number <= last_served { LONGEST } else { STALLED };
        let may_call = !self.asks_again && sight.running.as_ref() == Some(&self.running) && age < longest;
        age < STALLED && (sight.served || may_call)
    }
}

#[cfg(test)]
mod tests;
