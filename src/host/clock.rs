//! The clocks: which one counts what, and what a jump or a suspend does to it.
//!
//! - Ages (of snapshots, of quotas, of a source's troubles) count on CLOCK_BOOTTIME: a night in suspend is a night.
//! - Deadlines and pauses count on CLOCK_MONOTONIC, as the service manager's own do: a unit that waits when the machine is
//!   suspended has the rest of its time when it wakes up, and the network comes back in it.
//! - The wall clock tells when certificates and one-time passwords end, and nothing else hangs on it. It may jump: what is
//!   said to be right until a time is so for no longer than it was when it came ([`Expiry`]).

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

    /// This much earlier, but not before the boot.
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
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
    let now = read(ClockId::CLOCK_REALTIME).as_secs();
    #[cfg(test)]
    let now = now.saturating_add_signed(simulated::jumped());
    now
}

/// A moment on the wall clock as people read it: `14:05 UTC`; on another day with the days since.
pub fn time_of_day(unix: u64, now: u64) -> String {
    let time = format!("{:02}:{:02} UTC", unix / 3_600 % 24, unix / 60 % 60);
    match (now / 86_400).saturating_sub(unix / 86_400) {
        0 => time,
        1 => format!("{time} yesterday"),
        days => format!("{time} {days} days ago"),
    }
}

/// The end of something that is right until a time on the wall clock. It ends by either clock, whichever is earlier: a wall clock that was set
/// back would make it last for years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// In seconds of the Unix epoch.
    unix: u64,
    boot: BootTime,
}

impl Expiry {
    /// No one-time password is right for longer than this, whatever the clocks said while it came.
    const LONGEST: Duration = Duration::from_secs(600);

    /// The end that a time on the wall clock is, as it reads now.
    pub fn at(end: u64) -> Self {
        let left = Duration::from_secs(end.saturating_sub(unix())).min(Self::LONGEST);
        Self { unix: end, boot: BootTime::now().after(left) }
    }

    /// Whether it has come.
    pub fn is_over(self) -> bool {
        unix() >= self.unix || BootTime::now() >= self.boot
    }
}

/// Time that passes for the tests of one thread alone.
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

    /// From now on time passes as a paused runtime's clock does.
    pub(crate) fn follow() {
        FOLLOWED.set(Some(tokio::time::Instant::now()));
    }

    pub(crate) fn jumped() -> i64 {
        JUMPED.get()
    }

    /// Lets time pass on the boot's clock alone, as a suspend does to the eyes of a runtime.
    pub(crate) fn pass(time: Duration) {
        PASSED.set(PASSED.get() + time);
    }

    /// The wall clock jumps by so many seconds.
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
