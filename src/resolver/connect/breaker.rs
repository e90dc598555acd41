//! A circuit breaker: after repeated failures, a server is not asked for a growing time. Then a single
//! request tests it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::pause::{after_failures, varied};
use crate::ipc::{Class, Failure};

/// How many consecutive requests must fail, each after its own retries, before the breaker opens.
const FAILURES: u32 = 3;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// The longest time for a server that could not be reached at all. Connection attempts cost it nothing, and
/// at boot the network may come up at any moment.
const LONGEST_UNREACHED: Duration = Duration::from_secs(4);

/// The circuit breaker of one server.
#[derive(Default)]
pub(in crate::resolver) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// Consecutive failed requests.
    failures: u32,
    /// How often the breaker has opened in a row.
    openings: u32,
    /// Why the breaker is open, and until when. After that, one request is let through.
    open: Option<(Failure, Instant)>,
    probing: bool,
}

/// The permission to send a request. Report the outcome with [`Pass::reached`] or [`Pass::failed`]; a dropped
/// pass reports nothing.
pub(in crate::resolver) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// Permits a request, or returns the reason for refusing it and the time to wait.
    pub(in crate::resolver) fn enter(&self) -> Result<Pass<'_>, Failure> {
        let mut state = self.state();
        let Some((failure, until)) = &state.open else { return Ok(Pass { breaker: self, probe: false }) };
        let wait = until.saturating_duration_since(Instant::now());
        if wait.is_zero() && !state.probing {
            state.probing = true;
            return Ok(Pass { breaker: self, probe: true });
        }
        let mut failure = failure.clone().retry_after(wait.max(SHORTEST / 10));
        failure.cause.push_str("; onecred does not call it again for a moment");
        Err(failure)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The server answered, with whatever result.
    pub(in crate::resolver) fn reached(self) {
        *self.breaker.state() = State::default();
    }

    /// The server is unreachable, or limits its calls.
    pub(in crate::resolver) fn failed(self, failure: &Failure, unreached: bool) {
        let mut state = self.breaker.state();
        let told = failure.retry_after.filter(|_| failure.class == Class::Limited);
        if state.open.is_some() && !self.probe && told.is_none() {
            return; // the request began before the breaker opened
        }
        state.failures += 1;
        if state.failures < FAILURES && !self.probe && told.is_none() {
            return;
        }
        let longest = if unreached { LONGEST_UNREACHED } else { LONGEST };
        let wait = told
            .unwrap_or_else(|| jittered(after_failures(state.openings.min(5), SHORTEST, longest), longest));
        let until = Instant::now() + wait;
        if !self.probe && state.open.as_ref().is_some_and(|(_, longer)| *longer > until) {
            return; // a longer time has already been set
        }
        state.openings += 1;
        state.open = Some((failure.clone(), until));
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.state().probing = false;
        }
    }
}

/// A random time between three quarters and five quarters of `time`, within bounds.
fn jittered(time: Duration, longest: Duration) -> Duration {
    varied(time, 0.25).clamp(SHORTEST, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Failure {
        Failure::new(Class::Away, "the server is away", "wait")
    }

    fn fail(breaker: &Breaker, unreached: bool) {
        breaker.enter().unwrap_or_else(|f| panic!("{f}")).failed(&away(), unreached);
    }

    fn wait(breaker: &Breaker) -> Option<Duration> {
        breaker.enter().err().and_then(|failure| failure.retry_after)
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_waits_that_were_told_the_longer_holds() {
        let breaker = Breaker::default();
        let limited = |seconds| {
            Failure::new(Class::Limited, "too many", "wait").retry_after(Duration::from_secs(seconds))
        };
        let (long, short) = (breaker.enter().unwrap(), breaker.enter().unwrap());
        long.failed(&limited(90), false);
        short.failed(&limited(1), false);
        assert_eq!(wait(&breaker), Some(Duration::from_secs(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn opens_probes_grows_and_closes() {
        let breaker = Breaker::default();
        fail(&breaker, false);
        fail(&breaker, false);
        breaker.enter().unwrap_or_else(|f| panic!("{f}")).reached();
        for _ in 0..3 {
            assert_eq!(wait(&breaker), None, "an answer between sets the count back");
            fail(&breaker, false);
        }
        let mut last = Duration::ZERO;
        for _ in 0..8 {
            let open = wait(&breaker).expect("open");
            assert!(open >= last || open > LONGEST.mul_f64(0.74), "{open:?} after {last:?}");
            assert!((SHORTEST..=LONGEST).contains(&open), "{open:?}");
            last = open.mul_f64(0.6);
            tokio::time::advance(open).await;
            let probe = breaker.enter().unwrap_or_else(|f| panic!("{f}"));
            assert!(wait(&breaker).is_some(), "one probe at a time");
            probe.failed(&away(), false);
        }
        assert!(last > LONGEST / 3, "the pauses grow: {last:?}");
        tokio::time::advance(LONGEST).await;
        // abandoned: another request may test the server
        drop(breaker.enter().unwrap_or_else(|f| panic!("{f}")));
        breaker.enter().unwrap_or_else(|f| panic!("{f}")).reached();
        assert_eq!(wait(&breaker), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreached_server_is_tried_often_and_a_limit_is_kept_to() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            fail(&breaker, true);
        }
        for _ in 0..6 {
            let open = wait(&breaker).expect("open");
            assert!(open <= LONGEST_UNREACHED, "{open:?}");
            tokio::time::advance(open).await;
            fail(&breaker, true);
        }
        let breaker = Breaker::default();
        let limited =
            Failure::new(Class::Limited, "rate limited", "wait").retry_after(Duration::from_secs(90));
        breaker.enter().unwrap_or_else(|f| panic!("{f}")).failed(&limited, false);
        let failure = breaker.enter().err().expect("open at once");
        assert_eq!((failure.class, failure.retry_after), (Class::Limited, Some(Duration::from_secs(90))));
    }
}
