//! Tests of retries, the limit of simultaneous calls, and the breaker, with a simulated clock.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

fn trouble(class: Class, again: Again) -> FailedAttempt {
    let failure = Failure::new(class, "it failed", "wait");
    let failure = match again {
        Again::After(wait) => failure.retry_after(wait),
        _ => failure,
    };
    FailedAttempt { failure, again, unreached: false }
}

/// Makes a call that fails this many times. Returns the outcome and the number of attempts.
async fn tried(failing: usize, class: Class, again: Again, patience: u64) -> (Result<(), Failure>, usize) {
    let gate = Gate::new(Pace::default());
    let attempts = AtomicUsize::new(0);
    let by = Instant::now() + Duration::from_secs(patience);
    let outcome = gate
        .call(by, |_| async {
            let before = attempts.fetch_add(1, Ordering::SeqCst);
            if before < failing { Err(trouble(class, again)) } else { Ok(()) }
        })
        .await;
    assert!(Instant::now() <= by);
    (outcome, attempts.into_inner())
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again() {
    for (failing, again, attempts) in [
        (0, Again::Soon, 1),
        (3, Again::Soon, 4),
        (2, Again::Doubtful, 3),
        (2, Again::After(Duration::from_secs(4)), 3),
    ] {
        assert_eq!(tried(failing, Class::Away, again, 60).await, (Ok(()), attempts));
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_given_up() {
    for (class, again, patience, attempts) in [
        (Class::Away, Again::Soon, 60, 4),
        (Class::Denied, Again::Doubtful, 60, 3),
        (Class::Denied, Again::No, 60, 1),
        (Class::Away, Again::Soon, 0, 1),
        (Class::Limited, Again::After(Duration::from_secs(6)), 60, 1),
        (Class::Limited, Again::After(Duration::from_secs(4)), 3, 1),
    ] {
        let (outcome, tries) = tried(99, class, again, patience).await;
        assert_eq!((outcome.expect_err("fails").class, tries), (class, attempts), "{again:?}");
    }
    let (outcome, tries) = tried(99, Class::Denied, Again::Doubtful, 0).await;
    assert_eq!((outcome.expect_err("fails").class, tries), (Class::Away, 1), "a first 403 is never final");
    let (outcome, _) = tried(99, Class::Limited, Again::After(Duration::from_secs(6)), 60).await;
    assert_eq!(outcome.expect_err("fails").retry_after, Some(Duration::from_secs(6)));
}

/// Makes a call whose first attempt fails like this and whose second attempt hangs with this many seconds
/// left. Returns the failure, and whether the breaker is open afterwards.
async fn cut(first: Class, again: Again, room: u64) -> (Failure, bool) {
    let gate = Gate::new(Pace { first: Duration::from_millis(1), ..Pace::default() });
    let attempts = AtomicUsize::new(0);
    let by = Instant::now() + Duration::from_secs(10);
    let attempt = |rest| {
        let nth = attempts.fetch_add(1, Ordering::SeqCst);
        async move {
            if nth == 0 {
                sleep(rest - Duration::from_secs(room)).await;
                return Err::<(), _>(trouble(first, again));
            }
            sleep(rest).await;
            Err(trouble_saying("it does not answer in time"))
        }
    };
    let failure = gate.call(by, attempt).await.expect_err("fails");
    assert_eq!((attempts.into_inner(), Instant::now()), (2, by));
    (failure, gate.breaker.enter().is_err())
}

fn trouble_saying(cause: &str) -> FailedAttempt {
    let failure = Failure::new(Class::Away, cause, "see");
    FailedAttempt { failure, again: Again::Soon, unreached: false }
}

#[tokio::test(start_paused = true)]
async fn a_last_attempt_that_time_cuts_does_not_hide_what_was_said_before() {
    for (first, again, room, told, cause) in [
        (Class::Limited, Again::Soon, 8, Class::Limited, "it failed"),
        (Class::Limited, Again::After(Duration::from_millis(10)), 8, Class::Limited, "it failed"),
        (Class::Denied, Again::Doubtful, 8, Class::Away, "it failed"), // a single 403 may be wrong
        (Class::Away, Again::Soon, 1, Class::Away, "it failed"),
        // it had enough time, but hung
        (Class::Away, Again::Soon, 8, Class::Away, "it does not answer in time"),
    ] {
        let (failure, open) = cut(first, again, room).await;
        assert_eq!((failure.class, failure.cause.as_str()), (told, cause), "{again:?}");
        // a pause that was already observed is not passed on to the caller
        assert_eq!((failure.retry_after, open), (None, false), "{again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_turn_again_tells_what_was_said_before() {
    let gate = Gate::new(Pace::default());
    let by = Instant::now() + Duration::from_secs(5);
    let first = gate.call(by, |_| async { Err::<(), _>(trouble(Class::Limited, Again::Soon)) });
    let hang = || {
        gate.call(by, |room| async move {
            sleep(room).await;
            Err::<(), _>(trouble(Class::Away, Again::Soon))
        })
    };
    let all = async { tokio::join!(hang(), hang(), hang(), hang(), hang(), hang(), hang(), hang()) };
    let (outcome, _) = tokio::join!(first, all);
    assert_eq!(outcome.expect_err("fails").class, Class::Limited);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_left_alone() {
    let gate = Gate::new(Pace::default());
    let attempts = AtomicUsize::new(0);
    let call = || async {
        let by = Instant::now() + Duration::from_secs(60);
        let attempt = |_| async {
            attempts.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(trouble(Class::Away, Again::Soon))
        };
        gate.call(by, attempt).await.expect_err("fails")
    };
    for _ in 0..3 {
        assert_eq!(call().await.retry_after, None);
    }
    let so_far = attempts.load(Ordering::SeqCst);
    let failure = call().await;
    assert_eq!((failure.class, attempts.load(Ordering::SeqCst)), (Class::Away, so_far), "nothing was asked");
    tokio::time::advance(failure.retry_after.expect("told")).await;
    call().await;
    assert!(attempts.load(Ordering::SeqCst) > so_far, "a probe");
}

#[tokio::test(start_paused = true)]
async fn so_many_at_once_and_no_more() {
    let gate = Gate::new(Pace::default());
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let one = || async {
        let by = Instant::now() + Duration::from_secs(60);
        let attempt = |_| async {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        gate.call(by, attempt).await.expect("works");
    };
    tokio::join!(
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one()
    );
    assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_waits_no_longer_than_patience() {
    let gate = Gate::new(Pace::default());
    let hang = || async {
        let by = Instant::now() + Duration::from_secs(20);
        let attempt = |room| async move {
            sleep(room).await;
            Err::<(), _>(trouble(Class::Away, Again::Soon))
        };
        gate.call(by, attempt).await
    };
    let late = async {
        let by = Instant::now() + Duration::from_secs(5);
        gate.call(by, |_| async { Ok::<_, FailedAttempt>(()) }).await.expect_err("no turn")
    };
    let all = async { tokio::join!(hang(), hang(), hang(), hang(), hang(), hang(), hang(), hang()) };
    let (_, failure) = tokio::join!(all, late);
    assert_eq!(failure.class, Class::Away);
}

#[tokio::test(start_paused = true)]
async fn who_pauses_holds_no_turn() {
    let gate = Gate::new(Pace::default());
    let wait = Again::After(Duration::from_secs(4));
    let by = Instant::now() + Duration::from_secs(60);
    let pausing = || gate.call(by, |_| async { Err::<(), _>(trouble(Class::Limited, wait)) });
    let late = async {
        sleep(Duration::from_secs(1)).await;
        gate.call(Instant::now() + Duration::from_secs(1), |_| async { Ok::<_, FailedAttempt>(()) }).await
    };
    let all = async {
        tokio::join!(pausing(), pausing(), pausing(), pausing(), pausing(), pausing(), pausing(), pausing())
    };
    let (_, outcome) = tokio::join!(all, late);
    assert_eq!(outcome, Ok(()));
}
