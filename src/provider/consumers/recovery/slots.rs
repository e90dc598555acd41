//! Limits how many units are started at the same time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::timeout;

/// The maximum number of simultaneous starts.
const SLOTS: usize = 32;
/// How long a start occupies a slot at most, so that a slow unit does not delay all others.
const LONGEST: Duration = Duration::from_secs(2);

/// The slots.
#[derive(Debug)]
pub(super) struct Slots {
    permits: Semaphore,
    /// Those that wait for the end of a unit's job.
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

/// A slot for one start.
pub(super) struct Slot<'a> {
    _permit: Option<SemaphorePermit<'a>>,
    end: oneshot::Receiver<()>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { permits: Semaphore::new(SLOTS), waiting: Mutex::default() }
    }
}

impl Slots {
    /// Waits for a slot.
    pub(super) async fn take(&self, unit: &str) -> Slot<'_> {
        let permit = self.permits.acquire().await.ok();
        let (sender, end) = oneshot::channel();
        self.waiting().insert(unit.to_owned(), sender);
        Slot { _permit: permit, end }
    }

    /// Reports that a job of this unit has ended.
    pub(super) fn ended(&self, unit: &str) {
        if let Some(waiting) = self.waiting().remove(unit) {
            let _ = waiting.send(());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot<'_> {
    /// Waits until the unit's job has ended.
    pub(super) async fn until_ended(self) {
        let _ = timeout(LONGEST, self.end).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_are_bounded_and_a_slow_one_gives_its_slot_up() {
        let slots = Arc::new(Slots::default());
        let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..SLOTS + 2 {
            let (slots, sender) = (Arc::clone(&slots), sender.clone());
            tokio::spawn(async move {
                let slot = slots.take(&n.to_string()).await;
                sender.send(n).unwrap();
                slot.until_ended().await;
            });
        }
        for n in 0..SLOTS {
            assert_eq!(begun.recv().await, Some(n));
        }
        assert!(begun.try_recv().is_err());
        slots.ended("7");
        slots.ended("nobody's");
        let before = tokio::time::Instant::now();
        assert_eq!(begun.recv().await, Some(SLOTS));
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(begun.recv().await, Some(SLOTS + 1));
        assert_eq!(before.elapsed(), LONGEST);
    }
}
