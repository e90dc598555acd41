//! The clocks that this program uses, and how each behaves when the time is set or the machine suspends.
//!
//! - Ages (of snapshots, quotas and outages) use CLOCK_BOOTTIME, which also counts the time in suspend.
//! - Deadlines and pauses use CLOCK_MONOTONIC, as those of the service manager do. It stops during suspend: a
//!   unit that was waiting still has its remaining time after resume, while the network comes up.
//! - The wall clock decides only when certificates and one-time passwords expire. Because it may jump,
//!   [`Expiry`] also limits a value to the lifetime that it had when it arrived.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A time of this boot on CLOCK_BOOTTIME. The clock counts suspend, never goes back, and restarts at a
/// reboot, as the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(Duration);

impl BootTime {
    /// The current time.
    pub fn now() -> Self {
        let now = Self(read(ClockId::CLOCK_BOOTTIME));
        #[cfg(test)]
        let now = now.after(simulated::passed());
        now
    }

    /// The time that has passed since then, or zero if it lies in the future.
    pub fn age(self, now: Self) -> Duration {
        now.0.saturating_sub(self.0)
    }

    /// The time that much earlier, but not before the boot.
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }

    /// The time that much later.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// The current time on CLOCK_MONOTONIC, in the form that the service manager expects.
pub fn monotonic() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// The current wall-clock time in seconds since the Unix epoch.
pub fn unix() -> u64 {
    let now = read(ClockId::CLOCK_REALTIME).as_secs();
    #[cfg(test)]
    let now = now.saturating_add_signed(simulated::jumped());
    now
}

/// A wall-clock time for people: `14:05 UTC`, followed by the number of days if it was not today.
pub fn time_of_day(unix: u64, now: u64) -> String {
    let time = format!("{:02}:{:02} UTC", unix / 3_600 % 24, unix / 60 % 60);
    match (now / 86_400).saturating_sub(unix / 86_400) {
        0 => time,
        1 => format!("{time} yesterday"),
        days => format!("{time} {days} days ago"),
    }
}

/// The expiry of a value, given as a wall-clock time. The value expires by the wall clock or by the boot
/// clock, whichever is first. Otherwise, setting the wall clock back could extend its life by years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Seconds since the Unix epoch.
    unix: u64,
    boot: BootTime,
}

impl Expiry {
    /// The longest lifetime of a one-time password, whatever the clocks showed when it arrived.
    const LONGEST: Duration = Duration::from_secs(600);

    /// The expiry at this wall-clock time, judged by the current time.
    pub fn at(end: u64) -> Self {
        let left = Duration::from_secs(end.saturating_sub(unix())).min(Self::LONGEST);
        Self { unix: end, boot: BootTime::now().after(left) }
    }

    /// Whether the value has expired.
    pub fn is_over(self) -> bool {
        unix() >= self.unix || BootTime::now() >= self.boot
    }
}

/// Simulated time for the tests of one thread.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static JUMPED: Cell<i64> = const { Cell::new(0) };
        static FOLLOWED: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
    }

    pub(crate) fn passed() -> Duration {
        PASSED.get() + FOLLOWED.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// From now on, simulated time follows the clock of a paused runtime.
    pub(crate) fn follow() {
        FOLLOWED.set(Some(tokio::time::Instant::now()));
    }

    pub(crate) fn jumped() -> i64 {
        JUMPED.get()
    }

    /// Advances only the boot clock, as a suspend does from the view of a runtime.
    pub(crate) fn pass(time: Duration) {
        PASSED.set(PASSED.get() + time);
    }

    /// Moves the wall clock by this many seconds.
    pub(crate) fn jump(seconds: i64) {
        JUMPED.set(JUMPED.get() + seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_the_time_of_its_day() {
        let at = 20_000 * 86_400 + 14 * 3_600 + 5 * 60 + 59;
        assert_eq!(time_of_day(at, at + 60), "14:05 UTC");
        assert_eq!(time_of_day(at, at + 86_400), "14:05 UTC yesterday");
        assert_eq!(time_of_day(at, at + 3 * 86_400), "14:05 UTC 3 days ago");
        assert_eq!(time_of_day(at, 0), "14:05 UTC", "the clock was set back");
    }

    const YEARS: i64 = 5 * 365 * 86_400;

    #[test]
    fn an_end_comes_whatever_the_wall_clock_does() {
        let end = Expiry::at(unix() + 30);
        assert!(!end.is_over());
        simulated::jump(YEARS);
        assert!(end.is_over(), "it is past by this clock, right or wrong");
        simulated::jump(-2 * YEARS);
        assert!(!end.is_over());
        simulated::pass(Duration::from_secs(31));
        assert!(end.is_over(), "though the wall clock gives it years");
        let absurd = Expiry::at(u64::MAX);
        simulated::pass(Expiry::LONGEST);
        assert!(absurd.is_over());
        assert!(Expiry::at(1).is_over());
    }
}
