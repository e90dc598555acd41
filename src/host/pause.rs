//! Growing pauses between attempts, randomised so that many machines do not retry at the same time.

use std::time::Duration;

/// Pauses that grow by a constant factor up to a maximum. The sequence never ends; the caller limits the
/// number of attempts.
#[derive(Debug, Clone, Copy)]
pub struct Growing {
    first: Duration,
    longest: Duration,
    factor: u32,
    next: Duration,
}

impl Growing {
    /// Pauses that double.
    pub const fn doubling(first: Duration, longest: Duration) -> Self {
        Self { first, longest, factor: 2, next: first }
    }

    /// Pauses that triple.
    pub const fn tripling(first: Duration, longest: Duration) -> Self {
        Self { first, longest, factor: 3, next: first }
    }

    /// Returns the next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(self.factor).min(self.longest);
        pause
    }

    /// Starts the sequence again from the first pause.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The pause after this many consecutive failures. It doubles with each failure, up to `longest`.
pub fn after_failures(earlier: u32, first: Duration, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(earlier)).min(longest)
}

/// Shortens or lengthens a duration at random by at most this fraction.
pub fn varied(duration: Duration, fraction: f64) -> Duration {
    duration.mul_f64(1.0 + (fastrand::f64() * 2.0 - 1.0) * fraction)
}

/// Lengthens a duration at random by at most this fraction.
pub fn prolonged(duration: Duration, fraction: f64) -> Duration {
    duration.mul_f64(1.0 + fastrand::f64() * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_again() {
        let mut pauses = Growing::doubling(SECOND, SECOND * 5);
        assert_eq!([(); 5].map(|()| pauses.pause()), [1, 2, 4, 5, 5].map(|seconds| SECOND * seconds));
        pauses.reset();
        assert_eq!(pauses.pause(), SECOND);
        let mut pauses = Growing::tripling(SECOND, Duration::MAX);
        assert_eq!([(); 3].map(|()| pauses.pause()), [1, 3, 9].map(|seconds| SECOND * seconds));
    }

    #[test]
    fn failures_in_a_row_prolong_the_pause() {
        for (earlier, seconds) in [(0, 1), (1, 2), (3, 8), (4, 10), (u32::MAX, 10)] {
            assert_eq!(after_failures(earlier, SECOND, SECOND * 10), SECOND * seconds, "{earlier}");
        }
    }

    #[test]
    fn variation_keeps_within_its_fraction_and_uses_all_of_it() {
        let (shortest, longest) = (SECOND.mul_f64(0.8), SECOND.mul_f64(1.2));
        let varied: Vec<_> = (0..10_000).map(|_| varied(SECOND, 0.2)).collect();
        assert!(varied.iter().all(|pause| (shortest..=longest).contains(pause)));
        assert!(varied.iter().any(|pause| *pause < SECOND.mul_f64(0.82)));
        assert!(varied.iter().any(|pause| *pause > SECOND.mul_f64(1.18)));
        let prolonged: Vec<_> = (0..10_000).map(|_| prolonged(SECOND, 0.25)).collect();
        assert!(prolonged.iter().all(|pause| (SECOND..=SECOND.mul_f64(1.25)).contains(pause)));
        assert!(prolonged.iter().any(|pause| *pause > SECOND.mul_f64(1.23)));
    }
}
