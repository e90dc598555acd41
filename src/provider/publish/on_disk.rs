//! Runs work on files and links in another thread, because their disks may hang.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::Publisher;
use crate::provider::base::publish_error::Fault;

/// How long who asked for a file waits for its disk.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

impl Publisher {
    /// The size of all published files in memory, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Works on files and links in another thread. One thread does so at a time.
    pub(super) async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let publisher = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&publisher);
            publisher.bytes.store(publisher.writer().used, Ordering::Relaxed);
            drop(turn);
            result
        });
        match done.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => std::future::pending().await, // the process ends
        }
    }

    /// The same for someone who waits for it: fails if that takes too long.
    pub(super) async fn on_disk_soon<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        timeout(PATIENCE, self.on_disk(work)).await.map_err(|_elapsed| Fault::NoAnswer(PATIENCE))
    }
}
