//! The resolver's status of the sources. It is queried rarely and with a short timeout, and credentials never
//! wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::broker::Broker;
use crate::domain::name::SourceName;
use crate::ipc::{Declarations, SourceStatus, Status};

/// How long an answer is valid. Reading all properties of all sources asks many times.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// How long to wait for the resolver.
const PATIENCE: Duration = Duration::from_secs(3);

/// The resolver's last answer.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<Option<Answer>>);

/// An answer, its time, and the definitions that it is about.
#[derive(Debug)]
struct Answer {
    at: Instant,
    of: Declarations,
    told: Arc<Told>,
}

impl Answer {
    /// Whether it is still valid. An answer without one of the sources is not, because the resolver may read
    /// that source soon.
    fn is_good_for(&self, sources: &Declarations) -> bool {
        let is_whole = self.told.as_ref().as_ref().is_none_or(|told| told.sources.len() == sources.len());
        self.at.elapsed() < GOOD_FOR && self.of == *sources && is_whole
    }
}

/// The resolver's answer; `None` if it did not answer.
pub type Told = Option<Status>;

impl Statuses {
    /// The status of all sources as they are defined now. Concurrent callers share one query.
    pub async fn get(&self, broker: &Broker) -> Arc<Told> {
        let mut last = self.0.lock().await;
        let of = broker.config().declarations().clone();
        if let Some(answer) = last.as_ref().filter(|answer| answer.is_good_for(&of)) {
            return Arc::clone(&answer.told);
        }
        let answer = timeout(PATIENCE, broker.status(of.clone())).await;
        let told = answer.ok().and_then(|answer| {
            answer.inspect_err(|failure| tracing::debug!("the sources can't be asked for: {failure}")).ok()
        });
        let told = Arc::new(told.map(|status| of_definitions(status, &of)));
        *last = Some(Answer { at: Instant::now(), of, told: Arc::clone(&told) });
        told
    }

    /// The status of one source, if known.
    pub async fn of(&self, broker: &Broker, name: &SourceName) -> Option<SourceStatus> {
        let told = self.get(broker).await;
        told.as_ref().as_ref()?.sources.iter().find(|source| source.name == *name).cloned()
    }
}

/// Removes the status of sources with other definitions, which the resolver may still have under the same
/// names.
fn of_definitions(mut status: Status, declared: &Declarations) -> Status {
    status.sources.retain(|source| declared.get(&source.name).is_some_and(|own| own.print == source.print));
    status
}

#[cfg(test)]
mod tests;
