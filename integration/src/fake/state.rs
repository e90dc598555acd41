//! What a running fake holds: the data, the faults, and the requests seen.

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

/// What answers are made from.
#[derive(Debug, Clone)]
pub struct Data {
    pub(crate) vaults: Vaults,
    pub(crate) token: String,
    /// IDs of the vaults that the token may not see.
    pub(crate) denied: HashSet<String>,
}

impl Data {
    /// The vaults that the token may see.
    pub(crate) fn within(&self) -> impl Iterator<Item = &Value> {
        self.vaults
            .vaults
            .iter()
            .filter(|vault| vault["id"].as_str().is_some_and(|id| !self.denied.contains(id)))
    }
}

/// One request that came, control requests aside.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// `GET`
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// None while it has no answer.
    pub status: Option<u16>,
    /// `HTTP/1.1` or `HTTP/2.0`
    pub version: String,
    /// Milliseconds since the fake's start.
    pub at: u64,
}

/// All of it.
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

    /// Where clients find it, once it listens.
    pub(super) fn url(&self) -> &str {
        self.url.get().map_or("", String::as_str)
    }

    pub(super) fn listens(&self, url: String) {
        let _ = self.url.set(url);
    }

    /// The token as clients are given it.
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

    /// Notes a request; the number names it for [`Shared::answered`].
    pub(super) fn arrived(&self, asked: &Asked, version: String) -> u64 {
        let query = if asked.query.is_empty() { String::new() } else { format!("?{}", asked.query) };
        let path = format!("{}{query}", asked.path);
        let at = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let seen = Seen { method: asked.method.clone(), path, status: None, version, at };
        lock(&self.seen).push((number, seen));
        number
    }

    /// Notes the answer's status, unless the list was emptied meanwhile.
    pub(super) fn answered(&self, number: u64, status: u16) {
        if let Some((_, seen)) = lock(&self.seen).iter_mut().rev().find(|(each, _)| *each == number) {
            seen.status = Some(status);
        }
    }

    pub(super) fn plan(&self, asked: &Asked) -> Plan {
        strike(&mut self.faults(), &asked.path, &asked.query)
    }

    /// Data, faults and counters as at the start; the certificate stays.
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

/// One kind of fake. Connections, faults, counters and edits are the same for all.
pub trait Service: Send + Sync + 'static {
    /// The reply to a request, no fault thought of.
    fn answer(&self, data: &Data, asked: &Asked) -> Reply;

    /// An error, as this kind words it.
    fn error(&self, status: u16, message: &str) -> Reply;

    /// Carries out a fault that only this kind knows how to carry out.
    fn spoil(&self, kind: &Kind, data: &Data, asked: &Asked, reply: Reply) -> Reply;

    /// The token that clients of the service at `url` are given.
    fn token(&self, data: &Data, url: &str) -> Result<String, String> {
        let _ = url;
        Ok(data.token.clone())
    }

    /// Forgets what clients did.
    fn reset(&self) {}
}
