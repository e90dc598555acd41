//! Secrets that are kept fresh by themselves: each is compared with 1Password at its interval, by one call for all that are due of a source.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::broker::{Broker, Thoroughness};
use super::store::ItemKey;
use crate::clock::BootTime;

/// How often it is looked what is due: an interval may begin or end with any new configuration.
const LOOK: Duration = Duration::from_secs(5);

/// Compares what is due for as long as it is polled. What was never asked for on this machine is left alone.
pub async fn keep_fresh(broker: Arc<Broker>) {
    let mut due: HashMap<String, (Duration, BootTime)> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let active = broker.active();
        let now = BootTime::now();
        let mut work = JoinSet::new();
        let mut next = HashMap::new();
        for secret in active.settings.policy.secrets() {
            let Some(interval) = secret.refresh else { continue };
            let name = secret.name.to_string();
            let at = match due.get(&name) {
                Some(&(known, at)) if known == interval => at,
                _ => now.after(jittered(interval)),
            };
            if now < at {
                next.insert(name, (interval, at));
                continue;
            }
            next.insert(name, (interval, now.after(jittered(interval))));
            let key = ItemKey::new(&secret.wanted.source, &secret.wanted.reference.item);
            if broker.slot(&key).is_some() {
                let (broker, wanted) = (Arc::clone(&broker), secret.wanted.clone());
                work.spawn(async move {
                    if let Err(failure) = broker.refresh(&wanted, Thoroughness::Versions).await {
                        tracing::debug!("{}: could not be kept fresh: {failure}", wanted.label);
                    }
                });
            }
        }
        due = next;
        while work.join_next().await.is_some() {}
    }
}

/// An interval, give or take a tenth, so that machines and secrets do not all come at once.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(fastrand::f64().mul_add(0.2, 0.9))
}
