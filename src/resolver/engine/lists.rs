//! Lists that several questions need at the same time: requested once, and shared for a short time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::ipc::Failure;

use super::too_late;

/// How long a list may be used to find names. At boot, units ask within a short time of each other, and each
/// would otherwise request two lists. Five seconds cover such a burst, and are much shorter than the age at
/// which snapshots are checked (30 s). At worst, such a list names an item that was renamed since; fetching
/// the item then shows that.
pub(super) const RECENT: Duration = Duration::from_secs(5);

/// A counter of events. With it, "began after that" is exact, however coarse the clock.
#[derive(Default)]
pub(super) struct Ticks(AtomicU64);

impl Ticks {
    /// The current tick: anything that begins from now on has a later one.
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// How recent a list must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Requested within [`RECENT`].
    Recent,
    /// Requested after this tick.
    Since(u64),
}

/// A list that one caller requests and all waiting callers receive.
pub(super) struct Shared<T> {
    last: Mutex<Last<T>>,
}

struct Last<T> {
    list: Option<Read<T>>,
    failed: Option<(u64, Failure)>,
}

struct Read<T> {
    list: Arc<T>,
    began: Instant,
    tick: u64,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { last: Mutex::new(Last { list: None, failed: None }) }
    }
}

impl<T> Shared<T> {
    /// Returns the list: the current one if it is recent enough, otherwise the result of `call`. A failure is
    /// shared with those who were already waiting, unless the caller's own time ran out.
    pub(super) async fn get<F>(
        &self,
        ticks: &Ticks,
        need: Need,
        by: Instant,
        call: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let arrived = ticks.now();
        let mut last = timeout_at(by, self.last.lock()).await.map_err(|_| too_late())?;
        if let Some(read) = &last.list {
            let fresh = match need {
                Need::Recent => read.began.elapsed() <= RECENT,
                Need::Since(tick) => read.tick > tick,
            };
            if fresh {
                return Ok(read.list.clone());
            }
        }
        if let Some((ended, failure)) = &last.failed
            && *ended > arrived
        {
            return Err(failure.clone());
        }
        let (began, tick) = (Instant::now(), ticks.next());
        match call().await {
            Ok(list) => {
                let list = Arc::new(list);
                *last = Last { list: Some(Read { list: list.clone(), began, tick }), failed: None };
                Ok(list)
            }
            Err(failure) => {
                let is_shared = Instant::now() < by && !failure.is_of_asker;
                last.failed = is_shared.then(|| (ticks.next(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Whether no one can use the list any more.
    pub(super) fn is_stale(&self) -> bool {
        let Ok(last) = self.last.try_lock() else { return false };
        last.list.as_ref().is_none_or(|read| read.began.elapsed() > RECENT)
    }
}
