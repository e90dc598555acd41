//! What a running fake holds: the data, the faults, and the requests seen.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

use super::fault::{Fault, Plan, strike};
use super::routes::Asked;
use super::tls::Identity;
use super::vault::Vaults;

/// What answers are made from.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) vaults: Vaults,
    pub(super) token: String,
    /// IDs of the vaults that the token may not see.
    pub(super) denied: HashSet<String>,
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
    pub(super) fn new(data: Data, identity: Option<Identity>, acceptor: Option<TlsAcceptor>) -> Shared {
        Shared {
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
        self.faults().clear();
        self.forget_seen();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
