//! The path of a request: accept, attest, judge, look, answer or refuse. What can be answered at once is, without another task.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::broker::{Broker, Order, Ready};
use super::peer::{Attestation, Peer, Stranger};
use super::publish::{Handle, Publisher};
use super::refusal::Refusal;
use super::reply::{Connection, Delivery};
use super::report::Report;
use super::store::Kind;
use crate::clock::BootTime;
use crate::name::CredentialId;
use crate::secret::{SecretValue, Wanted};
use crate::sys;

/// What systemd takes for all credentials of a unit together, their IDs counted in (CREDENTIALS_TOTAL_SIZE_MAX), in bytes.
const SYSTEMD_TAKES: usize = 1 << 20;
/// After how long a wait is told of.
pub(super) const PATIENT_FOR: Duration = Duration::from_secs(2);
/// The most connections that are accepted before others get a turn.
const AT_A_TIME: usize = 64;

/// Serves credentials.
pub struct Server {
    /// Gets values.
    pub broker: Arc<Broker>,
    /// Says what happened.
    pub report: Report,
    /// Publishes files.
    pub publisher: Arc<Publisher>,
    attestation: Attestation,
    permits: Arc<Semaphore>,
    most: u32,
    /// Becomes true when those that still wait have to be refused.
    pub(super) stop: watch::Sender<bool>,
}

impl Server {
    /// A server that has at most this many connections open at once.
    pub fn new(broker: Arc<Broker>, attestation: Attestation, connections: usize) -> Self {
        let most = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        let permits = Arc::new(Semaphore::new(most as usize));
        let kind = if attestation.trusting { Kind::Anything } else { Kind::Memory };
        Self {
            publisher: Arc::new(Publisher::new(Arc::clone(&broker), kind)),
            broker,
            report: Report::default(),
            attestation,
            permits,
            most,
            stop: watch::Sender::new(false),
        }
    }

    /// Takes connections for as long as it is polled.
    pub async fn accept(self: &Arc<Self>, listener: OwnedFd) -> std::io::Result<()> {
        let listener = sys::register(listener)?;
        loop {
            let mut permit =
                Some(Arc::clone(&self.permits).acquire_owned().await.map_err(std::io::Error::other)?);
            let mut guard = listener.readable().await?;
            for _ in 0..AT_A_TIME {
                // none left: the rest waits in the listen queue, the one state that fails safe by itself
                let Some(permit) =
                    permit.take().or_else(|| Arc::clone(&self.permits).try_acquire_owned().ok())
                else {
                    break;
                };
                match guard.try_io(|listener| sys::accept(listener.get_ref())) {
                    Ok(Ok(socket)) => self.serve(socket, permit),
                    Ok(Err(error)) => sys::after_failed_accept(error).await?,
                    Err(_would_block) => break,
                }
            }
            drop(guard);
            tokio::task::yield_now().await;
        }
    }

    /// Waits until every connection is closed.
    pub async fn idle(&self) {
        let _ = self.permits.acquire_many(self.most).await;
    }

    /// Refuses all that still wait for their value.
    pub fn refuse_waiting(&self) {
        self.stop.send_replace(true);
    }

    fn serve(self: &Arc<Self>, socket: OwnedFd, permit: OwnedSemaphorePermit) {
        let arrived = BootTime::now();
        let connection = Connection::new(socket, permit);
        let peer = match self.attest(&connection) {
            Ok(peer) => peer,
            Err(reason) => return connection.refuse(&reason),
        };
        if let Some(handle) = Handle::of(&peer.claim) {
            return self.publish_for(connection, peer, handle);
        }
        let wanted = match self.judge(&peer) {
            Ok(wanted) => wanted,
            Err(refusal) => return self.refuse(connection, &peer, &refusal),
        };
        let order = Order { wanted, process: peer.process, arrived };
        match self.broker.at_once(&order) {
            Some(ready) => self.deliver(connection, &peer, &order.wanted, &ready),
            None => {
                let server = Arc::clone(self);
                tokio::spawn(async move { server.serve_later(connection, peer, order).await });
            }
        }
    }

    fn attest(&self, connection: &Connection) -> Result<Peer, String> {
        let identified =
            connection.socket().ok_or(Stranger::Gone).and_then(|socket| self.attestation.identify(&socket));
        identified.map_err(|stranger| self.report.not_heard(&stranger))
    }

    fn judge(&self, peer: &Peer) -> Result<Arc<Wanted>, Refusal> {
        let active = self.broker.active();
        if let Some(error) = &active.error {
            return Err(Refusal::Unconfigured(error.clone()));
        }
        active.settings.policy.judge(&peer.claim.unit, &peer.claim.credential).map_err(Refusal::Denied)
    }

    async fn serve_later(self: Arc<Self>, connection: Connection, peer: Peer, order: Order) {
        let mut stop = self.stop.subscribe();
        let mut order = order;
        let result = loop {
            let got = tokio::select! {
            biased;
            result = self.wait(&peer, &order) => result,
            () = gone(&connection) => return, // nobody is told, and its place is free
            _ = stop.wait_for(|stop| *stop) => Err(Refusal::Stopping),
            };
            // the configuration may have changed meanwhile: what counts is what is allowed now
            match self.judge(&peer) {
                Ok(wanted) if *wanted == *order.wanted => break got,
                Ok(wanted) => order = Order { wanted, ..order },
                Err(refusal) => break Err(refusal),
            }
        };
        match result {
            Ok(ready) => self.deliver(connection, &peer, &order.wanted, &ready),
            Err(refusal) => self.refuse(connection, &peer, &refusal),
        }
    }

    async fn wait(&self, peer: &Peer, order: &Order) -> Result<Ready, Refusal> {
        let mut work = std::pin::pin!(self.broker.get(order));
        let result = match tokio::time::timeout(PATIENT_FOR, &mut work).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.report.waiting(
                    peer,
                    &order.wanted,
                    self.broker.last_failure(&order.wanted.source).as_ref(),
                );
                work.await
            }
        };
        result.map_err(|failure| Refusal::Failed { reference: order.wanted.reference.clone(), failure })
    }

    fn deliver(self: &Arc<Self>, connection: Connection, peer: &Peer, wanted: &Wanted, ready: &Ready) {
        let value = match ready.read().and_then(|value| fit(value, wanted, &peer.claim.credential)) {
            Ok(value) => value,
            Err(refusal) => return self.refuse(connection, peer, &refusal),
        };
        if let Some(cause) = &ready.stale {
            self.report.stale(peer, wanted, cause);
        }
        match connection.answer_at_once(&value) {
            Ok(delivery) => log(peer, delivery),
            Err((connection, sent)) => {
                let (server, peer, len) = (Arc::clone(self), peer.clone(), value.len());
                tokio::spawn(async move {
                    let delivery = connection.answer_rest(value, sent).await;
                    log(&peer, delivery);
                    if let Delivery::HungUp { sent } = delivery {
                        server.report.hung_up(&peer, sent, len);
                    }
                });
            }
        }
    }

    pub(super) fn refuse(&self, connection: Connection, peer: &Peer, refusal: &Refusal) {
        let reason = self.report.refused(peer, refusal);
        connection.refuse(&reason);
    }
}

/// Waits until the peer has hung up. Looked at now and then: nobody is in a hurry to know.
pub(super) async fn gone(connection: &Connection) {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        look.tick().await;
        if connection.hung_up() {
            return;
        }
    }
}

/// A value as systemd can take it.
fn fit(value: SecretValue, wanted: &Wanted, credential: &CredentialId) -> Result<SecretValue, Refusal> {
    if value.len() + credential.as_str().len() > SYSTEMD_TAKES {
        return Err(Refusal::TooLarge { reference: wanted.reference.clone(), size: value.len() });
    }
    if value.is_empty() && !wanted.allow_empty {
        return Err(Refusal::Empty(wanted.reference.clone()));
    }
    Ok(value)
}

fn log(peer: &Peer, delivery: Delivery) {
    let claim = &peer.claim;
    match delivery {
        Delivery::Whole => tracing::debug!("credential {} for {}: served", claim.credential, claim.unit),
        Delivery::HungUp { .. } => {
            tracing::debug!("credential {} for {}: the caller hung up", claim.credential, claim.unit)
        }
    }
}
