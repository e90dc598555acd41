//! Room for long values under way: what is in memory for peers that read slowly, or never, is bounded, however many they are.
//!
//! A value that does not go into a socket at once stays in memory until its peer has read it. So each takes room before the first byte of it
//! is sent; where there is none, the value is dropped, and made again when those before have gone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What goes into a socket at once, and needs no room.
const SHORT: usize = 64 << 10;
/// For all long values together.
const ALL: usize = 128 << 20;
/// Room is given out in parts of this size.
const PART: usize = 1 << 10;

/// The room that there is.
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// Room that was taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken(Option<OwnedSemaphorePermit>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL / PART)))
    }
}

impl Room {
    /// Takes room for a value of this size, if there is some; what was taken for it before counts.
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

    /// Waits for room for a value of this size; whoever came first has it first.
    pub(crate) async fn wait(&self, size: usize) -> Taken {
        Taken(Arc::clone(&self.0).acquire_many_owned(parts(size)).await.ok())
    }
}

/// More than all is not to be had: a value that large has all of it.
fn parts(size: usize) -> u32 {
    u32::try_from(size.min(ALL).div_ceil(PART)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// After this long something hangs.
    const HANGS: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn long_values_wait_for_those_before_and_short_ones_never() {
        let room = Room::default();
        let long = 900 << 10;
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
