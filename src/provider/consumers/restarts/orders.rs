//! Carries out restarts, reloads and signals concurrently. A slow unit does not delay the others.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use nix::sys::signal::Signal;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use zbus::OwnedObjectPath;

use super::pending::Causes;
use super::{Due, Measure};
use crate::host::systemd::manager::{ManagerProxy, subscribe};
use crate::host::systemd::message_id;

/// The maximum number of simultaneous jobs, not counting slow ones.
const AT_ONCE: usize = 32;
/// A job that takes longer than this is slow.
const LONG: Duration = Duration::from_secs(5);
/// How long a job is followed.
const WATCHED: Duration = Duration::from_secs(180);

/// An action to carry out.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) due: Due,
    /// `secret NAME` or `template NAME`.
    pub(super) what: String,
    /// Its causes.
    pub(super) causes: Causes,
}

/// The running jobs, each with the time of the request.
type Jobs = HashMap<OwnedObjectPath, (Order, Instant)>;

/// The end of a job: its object path and its result.
type End = (OwnedObjectPath, String);

/// Carries out all actions and reports the end of each.
pub(super) async fn carry_out(
    manager: zbus::Result<ManagerProxy<'static>>,
    orders: Vec<Order>,
    ended: UnboundedSender<Order>,
) {
    let watched = async {
        let manager = manager?;
        let ends = manager.receive_job_removed().await?;
        subscribe(&manager).await?;
        zbus::Result::Ok((manager, ends))
    };
    let (manager, mut ends) = match watched.await {
        Ok(watched) => watched,
        Err(error) => {
            for order in orders {
                failed(&order, &error.to_string());
                let _ = ended.send(order);
            }
            return;
        }
    };
    // receive signals at once, because a full queue would block answers
    let (sender, mut results) = mpsc::unbounded_channel();
    let mut pump = JoinSet::new();
    pump.spawn(async move {
        while let Some(end) = poll_fn(|context| Pin::new(&mut ends).poll_next(context)).await {
            let Ok(end) = end.args() else { continue };
            let _ = sender.send((end.job.clone(), end.result.clone()));
        }
    });
    run(&manager, orders.into(), &mut results, &ended).await;
}

async fn run(
    manager: &ManagerProxy<'_>,
    mut orders: VecDeque<Order>,
    results: &mut UnboundedReceiver<End>,
    ended: &UnboundedSender<Order>,
) {
    let mut jobs = Jobs::new();
    loop {
        while quick(&jobs) < AT_ONCE
            && let Some(order) = orders.pop_front()
        {
            match request(manager, &order.due).await {
                Ok(Some(job)) => drop(jobs.insert(job, (order, Instant::now()))),
                Ok(None) => done(order, ended),
                Err(error) => {
                    failed(&order, &error.to_string());
                    let _ = ended.send(order);
                }
            }
        }
        let Some(first) = jobs.values().map(|(_, at)| *at).min() else {
            if orders.is_empty() {
                return;
            }
            continue;
        };
        let next = jobs.values().map(|(_, at)| *at + LONG).filter(|at| *at > Instant::now()).min();
        let wake = next.filter(|_| !orders.is_empty()).unwrap_or(first + WATCHED).min(first + WATCHED);
        match timeout_at(wake, results.recv()).await {
            Ok(Some((job, result))) => {
                let Some((order, _)) = jobs.remove(&job) else { continue };
                if result == "done" {
                    done(order, ended);
                } else {
                    failed(&order, &result);
                    let _ = ended.send(order);
                }
            }
            Ok(None) => give_up(&mut jobs, |_| true, "the connection to the bus was lost", ended),
            Err(_elapsed) => {
                let is_over = |at: Instant| at.elapsed() >= WATCHED;
                give_up(&mut jobs, is_over, "it takes more than 3 minutes", ended);
            }
        }
    }
}

/// How many jobs are not slow.
fn quick(jobs: &Jobs) -> usize {
    jobs.values().filter(|(_, at)| at.elapsed() < LONG).count()
}

fn give_up(jobs: &mut Jobs, which: impl Fn(Instant) -> bool, why: &str, ended: &UnboundedSender<Order>) {
    for (_, (order, _)) in jobs.extract_if(|_, (_, at)| which(*at)) {
        tracing::warn!("it is not known whether {} was {}: {why}", order.due.unit, order.due.measure.past());
        let _ = ended.send(order);
    }
}

/// Requests the action from the service manager. Returns the job, if there is one to wait for.
async fn request(manager: &ManagerProxy<'_>, due: &Due) -> zbus::Result<Option<OwnedObjectPath>> {
    match due.measure {
        Measure::Restart => manager.try_restart_unit(&due.unit, "replace").await.map(Some),
        Measure::Reload => manager.reload_unit(&due.unit, "replace").await.map(Some),
        Measure::Signal(signal) => {
            let number =
                signal.as_str().parse::<Signal>().map_err(|error| zbus::Error::Failure(error.to_string()))?;
            manager.kill_unit(&due.unit, "main", number as i32).await.map(|()| None)
        }
    }
}

fn done(order: Order, ended: &UnboundedSender<Order>) {
    let Order { due: Due { unit, measure, secret }, what, .. } = &order;
    tracing::info!(
        message_id = message_id::TOLD,
        object_systemd_unit = unit.as_str(),
        onecred_unit = unit.as_str(),
        onecred_secret = secret.as_str(),
        "{unit} was {}, since {what} has changed",
        measure.past()
    );
    let _ = ended.send(order);
}

/// Logs a failure. The action is not repeated: a unit that does not start with a new secret would fail again.
fn failed(order: &Order, why: &str) {
    let Order { due: Due { unit, measure, secret }, what, .. } = order;
    tracing::error!(
        message_id = message_id::NOT_TOLD,
        object_systemd_unit = unit.as_str(),
        onecred_unit = unit.as_str(),
        onecred_secret = secret.as_str(),
        "{unit} could not be {}, since {what} has changed: {why}; it is not tried again: {} {unit}",
        measure.past(),
        measure.command()
    );
}
