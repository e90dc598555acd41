//! What becomes of units meanwhile, by the service manager's jobs: one that fails for a refused unit is a casualty, too; one that an admin
//! has stopped or started is none any more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;

use super::{Casualty, MOST, Recovery};
use crate::clock::BootTime;
use crate::systemd::manager::{JobRemoved, subscribe};

/// How long to wait for a bus that is not there.
const PAUSE: Duration = Duration::from_secs(2);

impl Recovery {
    /// Follows the jobs for as long as it is polled.
    pub async fn follow_jobs(self: Arc<Self>) {
        loop {
            if let Err(error) = self.until_the_bus_goes().await {
                tracing::debug!("jobs can't be followed now: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn until_the_bus_goes(&self) -> zbus::Result<()> {
        let manager = self.link.manager().await?;
        let mut ends = manager.receive_job_removed().await?;
        subscribe(&manager).await?;
        while let Some(end) = std::future::poll_fn(|cx| Pin::new(&mut ends).poll_next(cx)).await {
            if !self.units().is_empty() {
                self.take_note(&end).await;
            }
        }
        Ok(())
    }

    async fn take_note(&self, end: &JobRemoved) {
        let Ok(end) = end.args() else { return };
        let unit = end.unit.as_str();
        match end.result.as_str() {
            // started by somebody else, or stopped: either way not ours to start any more
            "done" | "canceled" => self.forget(unit),
            "dependency" => {
                if let Some(for_whom) = self.depends_on_a_casualty(unit).await {
                    let why = format!("it needs {for_whom}, which was refused");
                    let casualty = Casualty { since: BootTime::now(), credential: None, why };
                    let mut units = self.units();
                    if units.len() < MOST {
                        units.entry(unit.to_owned()).or_insert(casualty);
                    }
                    drop(units);
                    self.news.notify_one();
                }
            }
            _ => {}
        }
    }

    async fn depends_on_a_casualty(&self, name: &str) -> Option<String> {
        let unit = self.link.unit(name).await.ok()?;
        let mut needs = unit.requires().await.ok()?;
        needs.extend(unit.requisite().await.ok()?);
        needs.extend(unit.binds_to().await.ok()?);
        let units = self.units();
        needs.into_iter().find(|needed| units.contains_key(needed))
    }
}
