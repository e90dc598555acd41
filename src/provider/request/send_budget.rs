//! Limits the memory for long values that are being sent, however many peers read slowly or never.
//!
//! A value that does not fit the socket's buffer stays in memory until its peer has read it. So it must be
//! covered by the budget before its first byte is sent. If the budget is used up, the value is dropped, and
//! assembled again after earlier ones have been sent.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::memory;

/// The largest value that the socket's buffer can hold. It needs no budget.
const SHORT: usize = 64 << 10;
/// The budget for all long values together, in bytes.
const ALL: usize = memory::VALUES as usize;
/// The granularity of the budget in bytes.
const PART: usize = 1 << 10;

/// The available budget.
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// A part of the budget, released when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken(Option<OwnedSemaphorePermit>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL / PART)))
    }
}

impl Room {
    /// Takes budget for a value of this size, if available. Budget that was taken for it before counts.
    pub(crate) fn take(&self, size: usize, before: Option<Taken>) -> Option<Taken> {
        let enough = |taken: &Taken| {
            taken.0.as_ref().is_some_and(|permit| permit.num_permits() >= parts(size) as usize)
        };
        match before {
            _ if size <= SHORT => Some(Taken(None)),
            Some(taken) if enough(&taken) => Some(taken),
            _ => {
                Arc::clone(&self.0).try_acquire_many_owned(parts(size)).ok().map(|permit| Taken(Some(permit)))
            }
        }
    }

    /// Waits for budget for a value of this size, in the order of arrival.
    pub(crate) async fn wait(&self, size: usize) -> Taken {
        Taken(Arc::clone(&self.0).acquire_many_owned(parts(size)).await.ok())
    }
}

/// The number of parts for a value. A value that is larger than the budget takes all of it.
fn parts(size: usize) -> u32 {
    u32::try_from(size.min(ALL).div_ceil(PART)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A test that takes longer than this hangs.
    const HANGS: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn long_values_wait_for_those_before_and_short_ones_never() {
        let room = Room::default();
        let long = 1000 << 10;
        let taken: Vec<Taken> = std::iter::from_fn(|| room.take(long, None)).collect();
        assert_eq!(taken.len(), ALL / long);
        assert!(room.take(SHORT, None).is_some());
        assert!(room.take(SHORT + 1, None).is_some(), "a little is left");
        let mut waiting = std::pin::pin!(room.wait(long));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there was room after all"),
            () = std::future::ready(()) => {}
        }
        drop(taken);
        let had = timeout(HANGS, waiting).await.expect("nothing was given back");
        assert!(room.take(long, Some(had)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_counts_if_it_is_enough() {
        let room = Room::default();
        let all = timeout(HANGS, room.wait(usize::MAX)).await.expect("there is less than all");
        let all = room.take(ALL, Some(all));
        assert!(all.is_some(), "it was not taken twice");
        assert!(room.take(SHORT + 1, None).is_none());
        drop(all);
        let little = room.take(SHORT + 1, None);
        assert!(room.take(ALL, little).is_none(), "it is given back, and not before");
    }
}
