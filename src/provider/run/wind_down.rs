//! The provider's end: it answers what it can answer soon and refuses the rest. The keeper, if it lives, finishes what is still being sent.

use std::time::Duration;

use tokio::time::timeout;

use super::Served;
use super::guard::{EXTENSION, Guard};
use crate::host::systemd::notify;

/// How long those that wait are still answered after a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// How long values that are being sent may then take. The keeper refuses the rest, and finishes all refusals.
const FINISHING: Duration = Duration::from_secs(2);

/// Ends what was begun. What has not been accepted waits for the next provider.
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
    // nothing would refuse what is left open, so nothing is
    loop {
        notify::extend_timeout(EXTENSION);
        notify::alive();
        if timeout(EXTENSION / 6, listener.idle()).await.is_ok() {
            break;
        }
    }
    keep_state(served);
}

/// Writes what the next provider must know to the store.
fn keep_state(Served { context, handler, .. }: &Served) {
    context.recovery.keep(context.broker.store());
    handler.log.sweep(true);
    context.broker.sweep();
    if context.broker.has_store() {
        context.restarts.save_received(context.broker.store());
    }
}
