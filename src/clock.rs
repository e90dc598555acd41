//! The clocks: ages and deadlines that go on while the machine sleeps, and the wall clock for one-time passwords.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment of this boot, on CLOCK_BOOTTIME: it goes on in suspend, never goes back, and means nothing after a reboot, as the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(Duration);

impl BootTime {
    /// Now.
    pub fn now() -> Self {
        Self(read(ClockId::CLOCK_BOOTTIME))
    }

    /// How long ago this was; nothing, if it is still to come.
    pub fn age(self, now: Self) -> Duration {
        now.0.saturating_sub(self.0)
    }

    /// This much later.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// Now on CLOCK_MONOTONIC, as the service manager wants it.
pub fn monotonic() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Now on the wall clock, in seconds of the Unix epoch.
pub fn unix() -> u64 {
    read(ClockId::CLOCK_REALTIME).as_secs()
}
