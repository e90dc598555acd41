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
        let now = Self(read(ClockId::CLOCK_BOOTTIME));
        #[cfg(test)]
        let now = now.after(simulated::passed());
        now
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

/// Time that passes for the tests of one thread alone.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static FOLLOWED: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
    }

    pub(super) fn passed() -> Duration {
        PASSED.get() + FOLLOWED.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// From now on time passes as a paused runtime's clock does.
    pub(crate) fn follow() {
        FOLLOWED.set(Some(tokio::time::Instant::now()));
    }

    /// Lets time pass on the boot's clock.
    pub(crate) fn pass(time: Duration) {
        PASSED.set(PASSED.get() + time);
    }
}
