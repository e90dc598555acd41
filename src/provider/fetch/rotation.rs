//! Secrets that are kept fresh by themselves: each is compared with 1Password at its interval, by one call for all that
//! are due of a source.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::broker::{Broker, Thoroughness};
use crate::domain::name::SourceName;
use crate::host::clock::BootTime;
use crate::provider::base::item_key::ItemKey;

/// How often it is looked what is due: an interval may begin or end with any new configuration.
const LOOK: Duration = Duration::from_secs(5);

/// How many that have changed are fetched at once.
const AT_ONCE: usize = 64;

/// Compares what is due for as long as it is polled. What was never asked for on this machine is left alone.
pub async fn keep_fresh(broker: Arc<Broker>) {
    let mut rotation = Rotation::default();
    loop {
        tokio::time::sleep(LOOK).await;
        rotation.look(&broker, BootTime::now()).await;
    }
}

/// The turns of the sources.
#[derive(Debug, Default)]
struct Rotation(HashMap<SourceName, Turn>);

#[derive(Debug)]
struct Turn {
    /// How much of each interval passes before the next comparison: all of it, give or take a tenth, so that machines do not come at once.
    part: f64,
    /// When the last one began, however it ended: what fails is not tried sooner than what succeeds.
    tried: Option<BootTime>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { part: fastrand::f64().mul_add(0.2, 0.9), tried: None }
    }
}

impl Rotation {
    /// Compares what is due. What somebody else had compared lately is not, so a source that is checked anyway is not asked twice.
    async fn look(&mut self, broker: &Arc<Broker>, now: BootTime) {
        let active = broker.active();
        let mut due = Vec::new();
        for secret in active.settings.policy.secrets() {
            let (Some(interval), wanted) = (secret.refresh, &secret.wanted) else { continue };
            let turn = self.0.entry(wanted.source.clone()).or_default();
            let wait = interval.mul_f64(turn.part);
            let key = ItemKey::new(&wanted.source, &wanted.reference.item);
            let Some(slot) = broker.slot(&key) else { continue };
            let old = slot.changed || slot.confirmed.age(now) >= wait;
            if old && turn.tried.is_none_or(|tried| tried.age(now) >= wait) {
                due.push((wanted.clone(), broker.ask(wanted)));
            }
        }
        for (wanted, _) in &due {
            self.0.insert(wanted.source.clone(), Turn { tried: Some(now), ..Turn::default() });
        }
        let (turns, mut work) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        for (wanted, asked) in due {
            let (broker, turns) = (Arc::clone(broker), Arc::clone(&turns));
            work.spawn(async move {
                let _turn = turns.acquire().await;
                if let Err(failure) = broker.refresh(&wanted, Thoroughness::Versions, asked).await {
                    tracing::debug!("{}: could not be kept fresh: {failure}", wanted.label);
                }
            });
        }
        while work.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
