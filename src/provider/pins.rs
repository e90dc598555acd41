//! Which generation of an item each asking process has: all credentials of one start come from one, so that user name and password match.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::peer::ProcessId;
use super::store::{ItemKey, Snapshot};
use crate::clock::BootTime;

/// How long after its last request a process is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Above this many processes, those that are past being remembered are looked for at each new one.
const MANY: usize = 1024;

/// The generations in use.
#[derive(Debug, Default)]
pub struct Pins(Mutex<HashMap<ProcessId, Pinned>>);

#[derive(Debug)]
struct Pinned {
    touched: BootTime,
    snapshots: HashMap<ItemKey, Arc<Snapshot>>,
}

impl Pins {
    /// The generation that a process has of an item, if it has one.
    pub fn get(&self, process: ProcessId, key: &ItemKey) -> Option<Arc<Snapshot>> {
        let pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pins.get(&process).and_then(|pinned| pinned.snapshots.get(key)).cloned()
    }

    /// From here on the process has this generation.
    pub fn set(&self, process: ProcessId, snapshot: &Arc<Snapshot>, now: BootTime) {
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pins.len() >= MANY {
            forget_old(&mut pins, now);
        }
        let pinned =
            pins.entry(process).or_insert_with(|| Pinned { touched: now, snapshots: HashMap::new() });
        pinned.touched = now;
        pinned.snapshots.insert(snapshot.key.clone(), Arc::clone(snapshot));
    }

    /// Forgets the processes that have not asked for a while, and with them replaced snapshots that nobody else has.
    pub fn sweep(&self, now: BootTime) {
        forget_old(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), now);
    }
}

fn forget_old(pins: &mut HashMap<ProcessId, Pinned>, now: BootTime) {
    pins.retain(|_, pinned| pinned.touched.age(now) < REMEMBERED);
}
