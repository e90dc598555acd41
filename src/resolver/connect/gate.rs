//! Controls the calls to a server: limits the number at the same time, retries with randomised pauses, and
//! applies the circuit breaker.

use std::future::Future;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::host::pause::{Growing, prolonged};
use crate::ipc::{Class, Failure};

use super::breaker::Breaker;
use super::verdict::{Again, FailedAttempt};

/// The maximum number of simultaneous calls to one server.
const AT_ONCE: usize = 8;
/// The longest time of one attempt, so that an attempt that hangs leaves time for the next one.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The longest pause that a server can demand while the caller waits. If it demands a longer one, the call
/// fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// If an attempt had less time than this and got no answer, the server is not to blame.
const BRIEF: Duration = Duration::from_secs(2);
/// The number of 403 answers after which the denial is believed.
const DENIALS: u32 = 3;

/// How often and how fast a failed call is retried.
pub(super) struct Pace {
    /// The first pause. Each pause is three times as long as the previous one, plus a random part of at most
    /// the same length.
    pub(super) first: Duration,
    /// The longest pause.
    pub(super) most: Duration,
    /// The maximum number of retries.
    pub(super) again: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), most: Duration::from_secs(5), again: 3 }
    }
}

impl Pace {
    fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        let mut pauses = Growing::tripling(self.first, self.most);
        std::iter::repeat_with(move || prolonged(pauses.pause(), 1.0)).take(self.again)
    }
}

/// The gate of one server.
pub(super) struct Gate {
    turns: Semaphore,
    breaker: Breaker,
    pace: Pace,
}

impl Gate {
    pub(super) fn new(pace: Pace) -> Self {
        Self { turns: Semaphore::new(AT_ONCE), breaker: Breaker::default(), pace }
    }

    /// Makes attempts until one has a final result or the time is up. Each attempt receives the time that it
    /// may take.
    pub(super) async fn call<T, F>(&self, by: Instant, attempt: impl Fn(Duration) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, FailedAttempt>>,
    {
        let pass = self.breaker.enter()?;
        let mut pauses = self.pace.pauses();
        let mut denials = 0;
        let mut before: Option<FailedAttempt> = None;
        loop {
            let turn = match timeout_at(by, self.turns.acquire()).await {
                Ok(Ok(turn)) => turn,
                // no attempt was made, so the breaker is not informed
                Ok(Err(_)) | Err(_) => {
                    return Err(before.map_or_else(busy, |trouble| doubted(trouble, denials).failure));
                }
            };
            let room = by.saturating_duration_since(Instant::now()).min(ATTEMPT);
            let outcome = attempt(room).await;
            drop(turn); // others may call during this pause
            let trouble = match (outcome, before.take()) {
                (Ok(value), _) => {
                    pass.reached();
                    return Ok(value);
                }
                (Err(cut), Some(before)) if Instant::now() >= by && says_more(&before, &cut, room) => {
                    FailedAttempt { unreached: before.unreached && cut.unreached, ..before }
                }
                (Err(trouble), _) => {
                    denials += u32::from(trouble.again == Again::Doubtful);
                    trouble
                }
            };
            let pause = match trouble.again {
                Again::No => None,
                Again::Doubtful if denials >= DENIALS => None,
                Again::Soon | Again::Doubtful => pauses.next(),
                Again::After(wait) if wait > LONGEST_PAUSE => None,
                Again::After(wait) => pauses.next().map(|pause| pause.max(wait)),
            };
            match pause {
                Some(pause) if Instant::now() + pause < by => {
                    sleep(pause).await;
                    // the server's pause has been observed, so the caller need not wait again
                    let failure = Failure { retry_after: None, ..trouble.failure };
                    before = Some(FailedAttempt { failure, ..trouble });
                }
                _ => {
                    let trouble = doubted(trouble, denials);
                    if trouble.failure.class.is_transient() {
                        pass.failed(&trouble.failure, trouble.unreached);
                    } else {
                        pass.reached();
                    }
                    return Err(trouble.failure);
                }
            }
        }
    }
}

/// Whether an attempt that ran out of time says less about the server than the previous attempt, which had an
/// answer.
fn says_more(before: &FailedAttempt, cut: &FailedAttempt, room: Duration) -> bool {
    let spoke = before.failure.class == Class::Limited || before.again == Again::Doubtful;
    cut.again == Again::Soon && (spoke || room < BRIEF)
}

/// Too few 403 answers arrived to believe them, and no time is left to ask again: makes the failure
/// temporary.
fn doubted(mut trouble: FailedAttempt, denials: u32) -> FailedAttempt {
    if trouble.again == Again::Doubtful && denials < DENIALS {
        trouble.failure.class = Class::Away;
    }
    trouble
}

fn busy() -> Failure {
    Failure::new(
        Class::Away,
        "earlier calls to the Connect server used up the time available",
        "check whether it answers fast enough, or set a longer deadline",
    )
}

#[cfg(test)]
mod tests;
