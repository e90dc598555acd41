//! Which generation of an item each asking process has: all credentials of one start come from one, so that user name and password match.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::host::clock::BootTime;
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::process_id::ProcessId;
use crate::provider::store::Snapshot;

/// How long after its last request a process is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Below this many processes, those that are past being remembered are left to the sweep.
const MANY: usize = 1024;

/// The generations in use.
#[derive(Debug, Default)]
pub struct Pins(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    processes: HashMap<ProcessId, Pinned>,
    /// At how many processes the next look for old ones is due: twice as many as the last one left, so that looking costs next to nothing
    /// for each process, however many there are.
    look_at: usize,
}

/// What a process has: one that starts a unit asks once and is gone, so this is kept small.
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

    /// The generation that a process has of an item, if it has one.
    pub fn get(&self, process: ProcessId, key: &ItemKey) -> Option<Arc<Snapshot>> {
        let inner = self.inner();
        let pinned = inner.processes.get(&process)?;
        let at = pinned.find(key).ok()?;
        Some(Arc::clone(&pinned.snapshots[at]))
    }

    /// From here on the process has this generation.
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

    /// Forgets a process, which asks no more.
    pub fn forget(&self, process: ProcessId) {
        self.inner().processes.remove(&process);
    }

    /// Forgets the processes that have not asked for a while, and with them replaced snapshots that nobody else has.
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
