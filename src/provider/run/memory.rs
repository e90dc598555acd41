//! Keeps the memory limit of onecred.service at what the active configuration needs.
//!
//! Pages of the store and of published files count towards the limit and can't be reclaimed. So the limit must never be below their size: the
//! kernel would kill each new provider at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use crate::host::memory::{self, Limit};
use crate::host::pause::Growing;
use crate::host::systemd::private;
use crate::provider::base::events::Event;
use crate::provider::context::Context;

const UNIT: &str = "onecred.service";
/// `MemoryMax=` in onecred.service, in bytes.
const PACKAGED: u64 = 384 << 20;
/// The pauses after failed attempts.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// Sets the limit now, and after each change of the configuration.
pub(super) async fn keep_limit(context: Arc<Context>) {
    let mut events = context.broker.events.follow();
    let mut last = PACKAGED;
    loop {
        set_limit(&context, &mut last).await;
        loop {
            match events.recv().await {
                Ok(Event::Configured) | Err(RecvError::Lagged(_)) => break,
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

async fn set_limit(context: &Context, last: &mut u64) {
    let mut pauses = Growing::doubling(PAUSES[0], PAUSES[1]);
    let mut is_known = false;
    loop {
        let (_, stored) = context.broker.size();
        let needed = context.config.get().settings.limits.memory(stored, context.publisher.bytes());
        if !is_due(needed, memory::own_limit(), *last) {
            return;
        }
        match private::set_memory_max(UNIT, needed).await {
            Ok(()) => {
                tracing::info!("the memory limit of {UNIT} is {} MiB now", needed >> 20);
                *last = needed;
                return;
            }
            Err(error) if !is_known => {
                is_known = true;
                tracing::warn!(
                    "the memory limit of {UNIT} can't be set to {} MiB, which the configuration needs; onecred tries again: {error}",
                    needed >> 20
                );
            }
            Err(_) => {}
        }
        sleep(pauses.pause()).await;
    }
}

/// Whether the limit must be set. `limit` is the present one, and `last` the one that was last set, in bytes.
fn is_due(needed: u64, limit: Option<Limit>, last: u64) -> bool {
    match limit {
        Some(Limit::Unlimited) => false, // an administrator has removed it
        Some(Limit::Bytes(bytes)) => bytes != needed,
        None => needed != last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn the_limit_is_set_if_it_differs() {
        assert_eq!(Limits::default().memory(0, 0), PACKAGED);
        let unit = include_str!("../../../units/systemd/onecred.service");
        assert!(unit.contains(&format!("\nMemoryMax={}M\n", PACKAGED >> 20)));
        for (needed, limit, last, due) in [
            (1, Some(Limit::Unlimited), 2, false),
            (1, Some(Limit::Bytes(1)), 2, false),
            (1, Some(Limit::Bytes(2)), 1, true),
            (2, Some(Limit::Bytes(1)), 2, true),
            (1, None, 1, false),
            (1, None, 2, true),
        ] {
            assert_eq!(is_due(needed, limit, last), due, "{needed} {limit:?} {last}");
        }
    }
}
