//! The gate before a server: so many calls at once, retries with jittered pauses, and the breaker.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::wire::{Class, Failure};

use super::breaker::Breaker;
use super::verdict::{Again, Trouble};

/// How many calls one server gets at once.
const AT_ONCE: usize = 8;
/// The longest that one attempt may take: one that hangs must not use up the time of the next.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The longest pause that a server can ask for and get while the asker waits; for a longer one the asker is sent away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a 403 has to come before it is believed.
const DENIALS: u32 = 3;

/// How often and how fast a failed call is tried again.
pub(super) struct Pace {
    /// The first pause; each next is three times as long, and up to as much again is added by lot.
    pub(super) first: Duration,
    /// The longest pause.
    pub(super) most: Duration,
    /// How many times.
    pub(super) again: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), most: Duration::from_secs(5), again: 3 }
    }
}

impl Pace {
    fn pauses(&self) -> impl Iterator<Item = Duration> {
        ExponentialBuilder::new()
            .with_min_delay(self.first)
            .with_max_delay(self.most)
            .with_factor(3.0)
            .with_max_times(self.again)
            .with_jitter()
            .with_jitter_seed(fastrand::u64(..)) // else the same on every host
            .build()
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

    /// Calls until an attempt brings something final or the time is up. An attempt is told how long it may take.
    pub(super) async fn call<T, F>(&self, by: Instant, attempt: impl Fn(Duration) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let pass = self.breaker.enter()?;
        let mut pauses = self.pace.pauses();
        let mut denials = 0;
        let mut before: Option<Trouble> = None;
        loop {
            let outcome = match timeout_at(by, self.turns.acquire()).await {
                Ok(Ok(_turn)) => attempt(by.saturating_duration_since(Instant::now()).min(ATTEMPT)).await,
                Ok(Err(_)) | Err(_) if before.is_some() => Err(busy()),
                Ok(Err(_)) | Err(_) => return Err(busy().failure),
            }; // others may call while this one pauses
            let trouble = match (outcome, before.take()) {
                (Ok(value), _) => {
                    pass.reached();
                    return Ok(value);
                }
                // the time was up: that the rest of it was too short for an answer says nothing of the server
                (Err(cut), Some(before)) if cut.again == Again::Soon && Instant::now() >= by => before,
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
                    before = Some(trouble);
                }
                _ => {
                    let mut trouble = trouble;
                    if trouble.again == Again::Doubtful && denials < DENIALS {
                        trouble.failure.class = Class::Away; // it may be false, and there is no time to ask again
                    }
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

fn busy() -> Trouble {
    Trouble::passing(Failure::new(
        Class::Away,
        "earlier calls to the Connect server took all the time",
        "see whether it answers fast enough, or allow a longer deadline",
    ))
}

#[cfg(test)]
#[path = "../gate_tests.rs"]
mod tests;
