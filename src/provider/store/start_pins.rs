//! Pins each asking process to one generation of an item: all credentials of one start come from the same
//! generation, so that user name and password match.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::host::clock::BootTime;
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::process_id::ProcessId;
use crate::provider::store::Snapshot;

/// How long after its last request a process is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
/// With fewer processes than this, expired ones are removed only periodically.
const MANY: usize = 1024;

/// The generations in use.
#[derive(Debug, Default)]
pub struct Pins(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    processes: HashMap<ProcessId, Pinned>,
    /// The number of processes at which to remove expired ones: twice the number that remained last time.
    /// This keeps the cost per process constant, however many there are.
    look_at: usize,
}

/// The pins of a process. A process that starts a unit asks once and is gone, so this is kept small.
#[derive(Debug)]
struct Pinned {
    touched: BootTime,
    /// In the order of their keys.
    snapshots: Vec<Arc<Snapshot>>,
}

impl Pins {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation of an item that a process is pinned to.
    pub fn get(&self, process: ProcessId, key: &ItemKey) -> Option<Arc<Snapshot>> {
        let inner = self.inner();
        let pinned = inner.processes.get(&process)?;
        let at = pinned.find(key).ok()?;
        Some(Arc::clone(&pinned.snapshots[at]))
    }

    /// Pins the process to this generation.
    pub fn set(&self, process: ProcessId, snapshot: &Arc<Snapshot>, now: BootTime) {
        let mut inner = self.inner();
        if inner.processes.len() >= inner.look_at.max(MANY) {
            inner.forget_old(now);
        }
        let pinned = inner.processes.entry(process);
        let pinned = pinned.or_insert_with(|| Pinned { touched: now, snapshots: Vec::with_capacity(1) });
        pinned.touched = now;
        match pinned.find(&snapshot.key) {
            Ok(at) => pinned.snapshots[at] = Arc::clone(snapshot),
            Err(at) => pinned.snapshots.insert(at, Arc::clone(snapshot)),
        }
    }

    /// Removes a process that asks for nothing else.
    pub fn forget(&self, process: ProcessId) {
        self.inner().processes.remove(&process);
    }

    /// Removes the processes without recent requests, and with them replaced snapshots that nothing else
    /// uses.
    pub fn sweep(&self, now: BootTime) {
        self.inner().forget_old(now);
    }
}

impl Inner {
    fn forget_old(&mut self, now: BootTime) {
        self.processes.retain(|_, pinned| pinned.touched.age(now) < REMEMBERED);
        self.look_at = 2 * self.processes.len();
        if self.processes.capacity() > 4 * self.look_at.max(MANY) {
            self.processes.shrink_to(self.look_at);
        }
    }
}

impl Pinned {
    fn find(&self, key: &ItemKey) -> Result<usize, usize> {
        self.snapshots.binary_search_by(|snapshot| snapshot.key.cmp(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::store::testing;

    #[test]
    fn a_process_is_remembered_for_a_while_after_its_last_request() {
        let (pins, snapshot) = (Pins::default(), testing::slot(&[("password", Ok(b"hunter2"))]).snapshot);
        let at = |seconds| BootTime::default().after(Duration::from_secs(seconds));
        let process = ProcessId::testing;
        let has = |number| pins.get(process(number), &snapshot.key).is_some();
        pins.set(process(1), &snapshot, at(0));
        pins.set(process(2), &snapshot, at(10));
        for (now, first, second) in
            [(299, true, true), (300, false, true), (309, false, true), (310, false, false)]
        {
            pins.sweep(at(now));
            assert_eq!((has(1), has(2)), (first, second), "{now}");
        }
        pins.set(process(3), &snapshot, at(310));
        pins.forget(process(3));
        assert!(!has(3));
    }

    #[test]
    fn many_processes_are_swept_while_they_come() {
        let (pins, snapshot) = (Pins::default(), testing::slot(&[("password", Ok(b"hunter2"))]).snapshot);
        let (crowd, later) = (MANY as u64, BootTime::default().after(REMEMBERED));
        for number in 0..crowd {
            pins.set(ProcessId::testing(number), &snapshot, BootTime::default());
        }
        assert_eq!(pins.inner().processes.len(), MANY);
        pins.set(ProcessId::testing(crowd), &snapshot, later);
        assert_eq!(pins.inner().processes.len(), 1, "the old ones are gone");
        for number in 0..4 * crowd {
            pins.set(ProcessId::testing(number), &snapshot, later);
        }
        assert!(pins.inner().processes.len() > MANY, "those that still count stay");
    }
}
