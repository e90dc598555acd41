//! How the sources are, as the resolver tells it: asked seldom, never waited for long, and nothing that a credential would wait for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::broker::Broker;
use crate::name::SourceName;
use crate::wire::{SourceStatus, Status};

/// How long an answer is good for: one look at all sources asks many times.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// How long the resolver is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The resolver's last answer.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<Option<(Instant, Arc<Told>)>>);

/// What the resolver told; nothing, where it gave no answer.
pub type Told = Option<Status>;

impl Statuses {
    /// How all sources are. Whoever comes while the resolver is asked, waits for the same answer.
    pub async fn get(&self, broker: &Broker) -> Arc<Told> {
        let mut last = self.0.lock().await;
        if let Some((_, told)) = last.as_ref().filter(|(at, _)| at.elapsed() < GOOD_FOR) {
            return Arc::clone(told);
        }
        let answer = timeout(PATIENCE, broker.status()).await;
        let told = answer.ok().and_then(|answer| {
            answer.inspect_err(|failure| tracing::debug!("the sources can't be asked for: {failure}")).ok()
        });
        let told = Arc::new(told);
        *last = Some((Instant::now(), Arc::clone(&told)));
        told
    }

    /// How one of them is; nothing, where that is not known.
    pub async fn of(&self, broker: &Broker, name: &SourceName) -> Option<SourceStatus> {
        let told = self.get(broker).await;
        told.as_ref().as_ref()?.sources.iter().find(|source| source.name == *name).cloned()
    }
}

#[cfg(test)]
#[path = "statuses_tests.rs"]
mod tests;
