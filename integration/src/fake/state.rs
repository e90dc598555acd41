//! The state of a running fake: data, faults, and received requests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

use super::fault::{Fault, Kind, Plan, strike};
use super::reply::Reply;
use super::service::Asked;
use super::tls::Identity;
use super::vault::Vaults;

/// The data for answers.
#[derive(Debug, Clone)]
pub struct Data {
    pub(crate) vaults: Vaults,
    pub(crate) token: String,
    /// IDs of the vaults that the token may not access.
    pub(crate) denied: HashSet<String>,
}

impl Data {
    /// The vaults that the token may access.
    pub(crate) fn within(&self) -> impl Iterator<Item = &Value> {
        self.vaults
            .vaults
            .iter()
            .filter(|vault| vault["id"].as_str().is_some_and(|id| !self.denied.contains(id)))
    }
}

/// A received request, except control requests.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// `GET`
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// `None` until it is answered.
    pub status: Option<u16>,
    /// `HTTP/1.1` or `HTTP/2.0`
    pub version: String,
    /// Milliseconds since the start of the fake.
    pub at: u64,
}

/// The complete state.
pub(super) struct Shared {
    pub(super) service: Box<dyn Service>,
    url: OnceLock<String>,
    initial: Data,
    data: Mutex<Data>,
    faults: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<(u64, Seen)>>,
    numbers: AtomicU64,
    connections: AtomicU64,
    started: Instant,
    pub(super) identity: Option<Identity>,
    acceptor: Mutex<Option<TlsAcceptor>>,
}

impl Shared {
    pub(super) fn new(
        service: Box<dyn Service>,
        data: Data,
        identity: Option<Identity>,
        acceptor: Option<TlsAcceptor>,
    ) -> Shared {
        Shared {
            service,
            url: OnceLock::new(),
            initial: data.clone(),
            data: Mutex::new(data),
            faults: Mutex::default(),
            seen: Mutex::default(),
            numbers: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            started: Instant::now(),
            identity,
            acceptor: Mutex::new(acceptor),
        }
    }

    pub(super) fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.data)
    }

    /// Its URL for clients, once it listens.
    pub(super) fn url(&self) -> &str {
        self.url.get().map_or("", String::as_str)
    }

    pub(super) fn listens(&self, url: String) {
        let _ = self.url.set(url);
    }

    /// The token in the form for clients.
    pub(super) fn token(&self) -> Result<String, String> {
        self.service.token(&self.data(), self.url())
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        lock(&self.faults)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).iter().map(|(_, seen)| seen.clone()).collect()
    }

    pub(super) fn forget_seen(&self) {
        lock(&self.seen).clear();
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        lock(&self.acceptor).clone()
    }

    pub(super) fn set_acceptor(&self, acceptor: TlsAcceptor) {
        *lock(&self.acceptor) = Some(acceptor);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a request. The returned number identifies it for [`Shared::answered`].
    pub(super) fn arrived(&self, asked: &Asked, version: String) -> u64 {
        let query = if asked.query.is_empty() { String::new() } else { format!("?{}", asked.query) };
        let path = format!("{}{query}", asked.path);
        let at = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let seen = Seen { method: asked.method.clone(), path, status: None, version, at };
        lock(&self.seen).push((number, seen));
        number
    }

    /// Records the status of the answer, unless the list was cleared in the meantime.
    pub(super) fn answered(&self, number: u64, status: u16) {
        if let Some((_, seen)) = lock(&self.seen).iter_mut().rev().find(|(each, _)| *each == number) {
            seen.status = Some(status);
        }
    }

    pub(super) fn plan(&self, asked: &Asked) -> Plan {
        strike(&mut self.faults(), &asked.path, &asked.query)
    }

    /// Resets data, faults and counters to their initial state; keeps the certificate.
    pub(super) fn reset(&self) {
        *self.data() = self.initial.clone();
        self.service.reset();
        self.faults().clear();
        self.forget_seen();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A type of fake. Connections, faults, counters and edits are common to all.
pub trait Service: Send + Sync + 'static {
    /// The reply to a request, without faults.
    fn answer(&self, data: &Data, asked: &Asked) -> Reply;

    /// An error in the format of this service.
    fn error(&self, status: u16, message: &str) -> Reply;

    /// Applies a fault that is specific to this service.
    fn spoil(&self, kind: &Kind, data: &Data, asked: &Asked, reply: Reply) -> Reply;

    /// The token for clients of the service at `url`.
    fn token(&self, data: &Data, url: &str) -> Result<String, String> {
        let _ = url;
        Ok(data.token.clone())
    }

    /// Removes the state that clients have created.
    fn reset(&self) {}
}
