//! How the sources are, as the resolver tells it: asked seldom, never waited for long, and nothing that a credential would wait for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::broker::Broker;
use crate::domain::name::SourceName;
use crate::ipc::{Declarations, SourceStatus, Status};

/// How long an answer is good for: one look at all sources asks many times.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// How long the resolver is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The resolver's last answer.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<Option<Answer>>);

/// An answer, when it came, and the definitions that it was asked of.
#[derive(Debug)]
struct Answer {
    at: Instant,
    of: Declarations,
    told: Arc<Told>,
}

impl Answer {
    /// Whether it is still good; one that lacks a source is not, since the resolver may be about to read it.
    fn is_good_for(&self, sources: &Declarations) -> bool {
        let is_whole = self.told.as_ref().as_ref().is_none_or(|told| told.sources.len() == sources.len());
        self.at.elapsed() < GOOD_FOR && self.of == *sources && is_whole
    }
}

/// What the resolver told; nothing, where it gave no answer.
pub type Told = Option<Status>;

impl Statuses {
    /// How all sources are, as they are defined now. Whoever comes while the resolver is asked, waits for the same answer.
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

    /// How one of them is; nothing, where that is not known.
    pub async fn of(&self, broker: &Broker, name: &SourceName) -> Option<SourceStatus> {
        let told = self.get(broker).await;
        told.as_ref().as_ref()?.sources.iter().find(|source| source.name == *name).cloned()
    }
}

/// Only what is told of sources of these definitions: the resolver may still have others under their names.
fn of_definitions(mut status: Status, declared: &Declarations) -> Status {
    status.sources.retain(|source| declared.get(&source.name).is_some_and(|own| own.print == source.print));
    status
}

#[cfg(test)]
mod tests;
