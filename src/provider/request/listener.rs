//! Accepts connections from both sockets, with a limit on the number of open connections.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::handler::Handler;
use super::reply::{Connection, ConnectionPermits};
use crate::host::{accept, sys};
use crate::provider::base::limits::Form;

/// The maximum number of connections to accept before other tasks run.
const AT_A_TIME: usize = 64;

/// Accepts connections and passes them to the handler.
pub struct Listener {
    handler: Arc<Handler>,
    /// One permit per open connection.
    open: Arc<Semaphore>,
    /// The same number of permits, for connections that wait for their value.
    waiting: Arc<Semaphore>,
    most: u32,
    /// One more than there are connections.
    connections: Arc<()>,
}

impl Listener {
    /// A listener with at most this many open connections.
    pub fn new(handler: Arc<Handler>, connections: usize) -> Self {
        let most = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        let open = Arc::new(Semaphore::new(most as usize));
        let waiting = Arc::new(Semaphore::new(most as usize));
        Self { handler, open, waiting, most, connections: Arc::default() }
    }

    /// Accepts connections from a socket until it is dropped. They are answered in the form of this socket.
    pub async fn accept(&self, socket: OwnedFd, form: Form) -> std::io::Result<()> {
        let socket = sys::register(socket)?;
        self.accept_first(&socket, form);
        let mut failures = accept::Failures::of("onecred.service");
        loop {
            let mut permit =
                Some(Arc::clone(&self.open).acquire_owned().await.map_err(std::io::Error::other)?);
            let mut guard = socket.readable().await?;
            for _ in 0..AT_A_TIME {
                // without a permit, connections wait in the listen queue; if the provider dies, the kernel
                // resets them
                let Some(permit) = permit.take().or_else(|| Arc::clone(&self.open).try_acquire_owned().ok())
                else {
                    break;
                };
                match guard.try_io(|socket| sys::accept(socket.get_ref())) {
                    Ok(Ok(accepted)) => self.hand_over(accepted, permit, form),
                    Ok(Err(error)) => failures.wait_out(error).await?,
                    Err(_would_block) => break,
                }
            }
            drop(guard);
            tokio::task::yield_now().await;
        }
    }

    /// Accepts the connections that activated the provider, before other tasks run. An error here occurs
    /// again in the loop.
    fn accept_first(&self, socket: &AsyncFd<OwnedFd>, form: Form) {
        for _ in 0..AT_A_TIME {
            let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() else { return };
            let Ok(accepted) = sys::accept(socket.get_ref()) else { return };
            self.hand_over(accepted, permit, form);
        }
    }

    fn hand_over(&self, socket: OwnedFd, permit: OwnedSemaphorePermit, form: Form) {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().ok();
        let place = ConnectionPermits::new(permit, waiting, Arc::clone(&self.connections));
        self.handler.handle(Connection::new(socket, place), form);
    }

    /// How many connections are open and have not taken a complete refusal.
    pub fn connections(&self) -> usize {
        Arc::strong_count(&self.connections) - 1
    }

    /// Waits until every connection is closed, or has taken a complete refusal.
    pub async fn idle(&self) {
        let _ = self.open.acquire_many(self.most).await;
    }

    /// Waits until every connection has its value or is being refused, which the keeper can finish.
    pub async fn answered(&self) {
        let _ = self.waiting.acquire_many(self.most).await;
    }
}
