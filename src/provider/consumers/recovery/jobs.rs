//! Follows the service manager's jobs. A unit whose start failed because of a refused unit is started again
//! too. A unit that someone else has started or stopped is not.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use zbus::message::Sequence;
use zbus::{Connection, MessageStream};

use super::{MOST, Recovery, start};
use crate::host::clock::BootTime;
use crate::host::systemd::manager::{JobRemoved, Properties, barrier, job_ends};

/// The pause before the next attempt to reach the manager.
const PAUSE: Duration = Duration::from_millis(500);
/// The maximum number of reports that are processed together.
const TOGETHER: usize = 256;
/// How long the manager may take to list jobs while the provider stops.
const AT_THE_END: Duration = Duration::from_secs(1);
/// The unit that has the tokens. After its start, the tokens may have changed.
const RESOLVER: &str = "onecred-resolver.service";

/// The end of a job.
struct End {
    unit: String,
    result: String,
    at: Sequence,
}

impl Recovery {
    /// Follows the jobs until it is dropped.
    pub async fn follow_jobs(self: Arc<Self>) {
        loop {
            if let Err(error) = self.until_the_connection_closes().await {
                tracing::debug!("jobs can't be followed now: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn until_the_connection_closes(&self) -> zbus::Result<()> {
        let connection = self.link.connection().await?;
        let ends = job_ends(&connection).await?;
        let early = self.units().reconnect();
        self.refused.notify_one();
        let (sender, receiver) = unbounded_channel();
        // Take reports even while calls are pending: a connection with a full queue does not deliver answers.
        tokio::select! {
            () = take(ends, &sender) => Ok(()),
            result = async {
                self.look_back(early).await?;
                self.follow(&connection, receiver).await
            } => result,
        }
    }

    /// Finds the units that failed because of one of these before the connection existed: units that never
    /// started in this boot, have no job, and are wanted by a unit that is active or starting.
    async fn look_back(&self, early: Vec<String>) -> zbus::Result<()> {
        let (mut seen, mut next): (BTreeSet<String>, _) = (early.iter().cloned().collect(), early);
        let mut failed = Vec::new();
        while let Some(name) = next.pop() {
            for dependent in self.names(&name, &["RequiredBy", "RequisiteOf", "BoundBy"]).await? {
                if seen.len() < MOST
                    && seen.insert(dependent.clone())
                    && self.was_left_out(&dependent).await?
                {
                    failed.push((dependent.clone(), vec![name.clone()]));
                    next.push(dependent);
                }
            }
        }
        self.units().fail_with(failed, BootTime::now());
        Ok(())
    }

    async fn was_left_out(&self, name: &str) -> zbus::Result<bool> {
        let unit = self.link.properties(name, "Unit").await?;
        let has_job = async |unit: &Properties| {
            zbus::Result::Ok(unit.get::<(u32, zbus::OwnedObjectPath)>("Job").await?.0 != 0)
        };
        if unit.get::<String>("ActiveState").await? != "inactive"
            || unit.get::<u64>("InactiveExitTimestampMonotonic").await? != 0
            || has_job(&unit).await?
        {
            return Ok(false);
        }
        for wanter in self.names(name, &["WantedBy", "RequiredBy"]).await? {
            let wanter = self.link.properties(&wanter, "Unit").await?;
            let runs = wanter.get::<String>("ActiveState").await? == "active";
            if runs || has_job(&wanter).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The values of some properties of a unit that are lists of units.
    async fn names(&self, unit: &str, properties: &[&str]) -> zbus::Result<Vec<String>> {
        let unit = self.link.properties(unit, "Unit").await?;
        let mut all = Vec::new();
        for name in properties {
            all.extend(unit.get::<Vec<String>>(name).await?);
        }
        Ok(all)
    }

    async fn follow(&self, connection: &Connection, mut ends: UnboundedReceiver<End>) -> zbus::Result<()> {
        let mut some = Vec::new();
        loop {
            tokio::select! {
                count = ends.recv_many(&mut some, TOGETHER) => match count {
                    0 => return Ok(()),
                    _ => self.take_note(some.drain(..)).await,
                },
                () = self.refused.notified() => {
                    let number = self.units().unsettled();
                    if let Some(number) = number {
                        let at = barrier(connection).await?;
                        self.units().settle(number, at);
                        self.news.notify_one();
                    }
                }
            }
        }
    }

    async fn take_note(&self, ends: impl Iterator<Item = End>) {
        let mut dependents = Vec::new();
        for End { unit, result, at } in ends {
            self.slots.ended(&unit);
            if self.units().is_empty() && self.sealed.is_empty() {
                continue;
            }
            match result.as_str() {
                "done" | "canceled" => {
                    self.note_dependents(&mut dependents).await;
                    // a unit that its own Restart= has started keeps its dependents until its source is back
                    let is_needed = self.units().is_needed(&unit);
                    match is_needed && result == "done" && self.restarts(&unit).await > 0 {
                        true => self.returned.notify_one(),
                        false => self.units().ended(&unit, at),
                    }
                    self.sealed.job_ended(&unit, result == "done");
                    if unit == RESOLVER {
                        self.try_now();
                    }
                }
                "dependency" => dependents.push(unit),
                _ => {}
            }
        }
        self.note_dependents(&mut dependents).await;
        self.news.notify_one();
    }

    /// The units whose start waits for others, each with the units that it needs. Call it before the provider
    /// refuses waiting requests and stops, because afterwards it cannot see which units fail.
    pub async fn queued(&self) -> Vec<(String, Vec<String>)> {
        let queued = async {
            let jobs = self.link.manager().await?.list_jobs().await?;
            let starts = jobs.into_iter().filter(|(_, _, what, state, ..)| {
                state == "waiting" && matches!(what.as_str(), "start" | "restart")
            });
            let mut queued = Vec::new();
            for (_, unit, ..) in starts.take(TOGETHER) {
                let needs = start::needs(&self.link.properties(&unit, "Unit").await?).await?;
                queued.push((unit, needs));
            }
            zbus::Result::Ok(queued)
        };
        timeout(AT_THE_END, queued).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Reports that units were refused which some of these were waiting for.
    pub fn note_queued(&self, queued: Vec<(String, Vec<String>)>) {
        self.units().fail_with(queued, BootTime::now());
    }

    /// Records that the starts of these units failed because of a unit that they need.
    async fn note_dependents(&self, units: &mut Vec<String>) {
        let mut failed = Vec::new();
        for unit in units.drain(..) {
            let Ok(properties) = self.link.properties(&unit, "Unit").await else { continue };
            let Ok(needs) = start::needs(&properties).await else { continue };
            failed.push((unit, needs));
        }
        let others = self.units().fail_with(failed, BootTime::now());
        for (unit, needs) in others {
            self.sealed.note_dependent(unit, needs);
        }
    }
}

/// Passes on the ends of jobs until the connection closes.
async fn take(mut ends: MessageStream, to: &UnboundedSender<End>) {
    while let Some(Ok(message)) = std::future::poll_fn(|cx| Pin::new(&mut ends).poll_next(cx)).await {
        let at = message.recv_position();
        let Some(end) = JobRemoved::from_message(message) else { continue };
        let Ok(end) = end.args() else { continue };
        if to.send(End { unit: end.unit.clone(), result: end.result.clone(), at }).is_err() {
            return;
        }
    }
}
