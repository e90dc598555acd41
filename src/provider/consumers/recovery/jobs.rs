//! What becomes of units meanwhile, by the service manager's jobs: one that fails for a refused unit is a casualty, too; one that an admin
//! has stopped or started is none any more.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;

use super::{Casualty, MOST, Recovery, start};
use crate::host::clock::BootTime;
use crate::host::systemd::manager::{JobRemoved, subscribe};

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
            if !self.units().is_empty() || !self.sealed.is_empty() {
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
            result @ ("done" | "canceled") => {
                self.forget(unit);
                self.sealed.job_ended(unit, result == "done");
            }
            "dependency" => self.note_dependent(unit).await,
            _ => {}
        }
    }

    /// A unit did not start, since one that it needs failed.
    async fn note_dependent(&self, unit: &str) {
        let Ok(properties) = self.link.properties(unit, "Unit").await else { return };
        let Ok(needs) = start::needs(&properties).await else { return };
        let refused = needs.iter().find(|needed| self.units().contains_key(*needed));
        if let Some(refused) = refused {
            let why = format!("it needs {refused}, which was refused");
            let casualty = Casualty { since: BootTime::now(), credential: None, why };
            return self.remember(unit.to_owned(), casualty);
        }
        self.sealed.note_dependent(unit.to_owned(), needs);
    }

    /// Finds those that failed for one of these before the bus was there to tell: whatever needs it, was never begun to be started in this
    /// boot, and is wanted by something that runs.
    pub(super) async fn look_back(&self, units: &[String]) {
        let mut seen: BTreeSet<String> = units.iter().cloned().collect();
        let mut next: Vec<String> = units.to_vec();
        while let Some(name) = next.pop() {
            for dependent in self.dependents(&name).await.unwrap_or_default() {
                if seen.len() >= MOST || !seen.insert(dependent.clone()) {
                    continue;
                }
                next.push(dependent.clone());
                if self.was_left_out(&dependent).await.unwrap_or(false) {
                    let why = format!("it needs {name}, which did not start");
                    let casualty = Casualty { since: BootTime::now(), credential: None, why };
                    self.remember(dependent, casualty);
                }
            }
        }
    }

    async fn dependents(&self, name: &str) -> zbus::Result<Vec<String>> {
        let unit = self.link.unit(name).await?;
        let mut all = unit.required_by().await?;
        all.extend(unit.requisite_of().await?);
        all.extend(unit.bound_by().await?);
        Ok(all)
    }

    async fn was_left_out(&self, name: &str) -> zbus::Result<bool> {
        let unit = self.link.unit(name).await?;
        if unit.active_state().await? != "inactive" || unit.inactive_exit_timestamp_monotonic().await? != 0 {
            return Ok(false);
        }
        let mut wanters = unit.wanted_by().await?;
        wanters.extend(unit.required_by().await?);
        for wanter in wanters {
            if self.link.unit(&wanter).await?.active_state().await? == "active" {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
