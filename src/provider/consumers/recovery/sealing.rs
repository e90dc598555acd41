//! Notices when the host key can be used again: for units that were refused at the sealed socket because it could not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::FailedUnit;
use crate::provider::base::refusal::UNSEALED;
use crate::provider::base::sealer::Sealer;

/// How often to read the key while units wait for it.
const LOOK: Duration = Duration::from_secs(2);

/// The host key's state for recovery.
pub(super) struct Sealing {
    sealer: Arc<Sealer>,
    /// A unit was refused because of the key, and the key has not been usable since.
    failed: AtomicBool,
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealing").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Sealing {
    /// Starts with the units of the previous process.
    pub(super) fn new<'a>(sealer: Arc<Sealer>, mut known: impl Iterator<Item = &'a FailedUnit>) -> Self {
        let failed = known.any(|failed| awaits_key(failed.awaits_correction.as_deref()));
        Self { sealer, failed: AtomicBool::new(failed) }
    }

    /// Records a refusal, if the key was its cause.
    pub(super) fn note(&self, awaits_correction: Option<&str>) {
        if awaits_key(awaits_correction) {
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a unit that awaits this correction would be refused again because of the key, according to the last
    /// look.
    pub(super) fn fails(&self, awaits_correction: Option<&str>) -> bool {
        awaits_key(awaits_correction) && self.sealer.error().is_some()
    }

    /// Waits until a unit was refused because of the key, and the key can be used.
    pub(super) async fn works_again(&self) {
        loop {
            if self.failed.load(Ordering::Relaxed) && self.sealer.problem().await.is_none() {
                break;
            }
            sleep(LOOK).await;
        }
        self.failed.store(false, Ordering::Relaxed);
    }
}

fn awaits_key(awaits_correction: Option<&str>) -> bool {
    awaits_correction == Some(UNSEALED)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::provider::base::sealer::tests::with_key;

    #[tokio::test(start_paused = true)]
    async fn the_key_is_noticed_once_for_each_time_that_it_failed() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, there) =
            (Arc::new(Sealer::new(&folder.path().join("none"))), Arc::new(with_key(folder.path())));
        let ready = async |sealing: &Sealing| timeout(LOOK * 3, sealing.works_again()).await.is_ok();
        let sealing = Sealing::new(Arc::clone(&there), [].into_iter());
        assert!(!ready(&sealing).await, "it never failed");
        sealing.note(Some("denied"));
        assert!(!ready(&sealing).await, "it failed for something else");
        sealing.note(Some(UNSEALED));
        assert!(ready(&sealing).await && !ready(&sealing).await);
        let left = FailedUnit { awaits_correction: Some(UNSEALED.to_owned()), ..FailedUnit::default() };
        assert!(ready(&Sealing::new(there, [&left].into_iter())).await, "of the process before");
        let sealing = Sealing::new(missing, [&left].into_iter());
        assert!(!ready(&sealing).await && sealing.fails(Some(UNSEALED)) && !sealing.fails(None));
    }
}
