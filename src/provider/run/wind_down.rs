//! The provider's shutdown: it answers the requests that it can answer soon, and refuses the rest. The keeper finishes refusals that are still being sent.

use std::time::Duration;

use tokio::time::timeout;

use super::Served;
use super::guard::{EXTENSION, Guard};
use crate::host::systemd::notify;

/// How long waiting requests are still answered after a request to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long values that are being sent may take after that. The keeper refuses the rest, and finishes all refusals.
const FINISHING: Duration = Duration::from_secs(2);

/// Finishes open requests. Connections that were not accepted wait for the next provider.
pub(super) async fn wind_down(served: &Served, guard: &Guard) {
    notify::stopping("finishing open requests");
    let Served { context, handler, listener } = served;
    if timeout(GRACE, listener.answered()).await.is_err() {
        let queued = context.recovery.queued().await;
        handler.refuse_waiting();
        let _ = timeout(FINISHING, listener.answered()).await;
        context.recovery.note_queued(queued);
    }
    keep_state(served);
    if !guard.has_ended() {
        return;
    }
    // no process would refuse connections that are left open, so wait until all are closed
    loop {
        notify::extend_timeout(EXTENSION);
        notify::alive();
        if timeout(EXTENSION / 6, listener.idle()).await.is_ok() {
            break;
        }
    }
    keep_state(served);
}

/// Writes the state for the next provider to the store.
fn keep_state(Served { context, handler, .. }: &Served) {
    context.recovery.keep(context.broker.store());
    handler.log.sweep(true);
    context.broker.sweep();
    if context.broker.has_store() {
        context.restarts.save_received(context.broker.store());
    }
}
