//! The record of a source: the outcomes of its calls, for status reports.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{About, Backend};
use crate::domain::secret::SecretValue;
use crate::host::clock::{self, BootTime};
use crate::ipc::{Class, Failure, ItemId, SourceState};
use crate::resolver::items::model::{File, FullItem, ItemOverview, Vault};
use crate::resolver::payer;
use crate::resolver::shares::Shares;

/// The outcomes of a source's calls since it was opened.
#[derive(Default)]
pub(super) struct Record(Mutex<Entries>);

#[derive(Clone, Default)]
pub(super) struct Entries {
    /// Calls by outcome.
    pub(super) calls: BTreeMap<String, u64>,
    /// Why the last call failed; `None` if it succeeded.
    pub(super) last_failure: Option<Failure>,
    pub(super) last_success: Option<u64>,
    /// The release of the SDK core that is loaded.
    pub(super) core: Option<String>,
    /// The calls of each consumer, for sources without a quota.
    pub(super) shares: Shares,
    /// Whether the token was rejected when it was last used.
    denied: bool,
    /// Until when the source must not be asked.
    limited_until: Option<BootTime>,
}

impl Record {
    /// Counts a call.
    pub(super) fn count<T>(&self, outcome: &Result<T, Failure>) {
        let mut entries = self.lock();
        let key = match outcome {
            Ok(_) => "ok".to_owned(),
            Err(failure) => key(failure.class),
        };
        *entries.calls.entry(key).or_default() += 1;
        match outcome {
            Ok(_) => {
                entries.last_success = Some(clock::unix());
                entries.limited_until = None;
                entries.last_failure = None;
            }
            Err(failure) => {
                let wait = failure.retry_after.filter(|_| failure.class == Class::Limited);
                if let Some(wait) = wait {
                    entries.limited_until = Some(BootTime::now().after(wait));
                }
                entries.last_failure = Some(failure.clone());
            }
        }
    }

    /// Charges a call to a consumer.
    fn spend(&self, consumer: u64) {
        self.lock().shares.spend(consumer, 1, false, BootTime::now());
    }

    /// Records whether a login succeeded, which shows whether the token is accepted.
    pub(super) fn logged_in(&self, outcome: Result<(), &Failure>) {
        match outcome {
            Ok(()) => self.lock().denied = false,
            Err(failure) if failure.class == Class::Denied => self.lock().denied = true,
            Err(_tells_nothing_of_the_token) => {}
        }
    }

    /// Records the release of the loaded SDK core.
    pub(super) fn core(&self, release: &str) {
        self.lock().core = Some(release.to_owned());
    }

    /// The current record.
    pub(super) fn entries(&self) -> Entries {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    pub(super) fn state(&self) -> SourceState {
        let limited = self.limited_until.map(|until| BootTime::now().age(until));
        match limited {
            Some(left) if left > Duration::ZERO => SourceState::Limited,
            _ if self.denied => SourceState::Refused,
            _ => SourceState::Ready,
        }
    }
}

/// The serialized form of a class.
fn key(class: Class) -> String {
    match serde_json::to_value(class) {
        Ok(serde_json::Value::String(key)) => key,
        _ => class.as_str().to_owned(),
    }
}

/// A backend that counts its calls.
pub(super) struct Counted<B> {
    backend: B,
    record: Arc<Record>,
}

impl<B: Backend> Counted<B> {
    pub(super) fn new(backend: B, record: Arc<Record>) -> Self {
        Self { backend, record }
    }

    async fn count<T: Send>(
        &self,
        call: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        let outcome = call.await;
        self.record.count(&outcome);
        if B::CALLS_COST {
            self.record.spend(payer::asker().share);
        }
        outcome
    }
}

impl<B: Backend> Backend for Counted<B> {
    const CALLS_COST: bool = B::CALLS_COST;
    const VERSIONS_GROW: bool = B::VERSIONS_GROW;
    const HOLDERS: Option<&'static str> = B::HOLDERS;

    fn about(&self) -> About {
        self.backend.about()
    }

    async fn vaults(&self, by: Instant) -> Result<Vec<Vault>, Failure> {
        self.count(self.backend.vaults(by)).await
    }

    async fn items(&self, vault: &str, by: Instant) -> Result<Vec<ItemOverview>, Failure> {
        self.count(self.backend.items(vault, by)).await
    }

    async fn item(&self, id: &ItemId, by: Instant) -> Result<FullItem, Failure> {
        self.count(self.backend.item(id, by)).await
    }

    async fn file(&self, id: &ItemId, file: &File, by: Instant) -> Result<SecretValue, Failure> {
        self.count(self.backend.file(id, file, by)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_calls() {
        let record = Record::default();
        assert_eq!(record.entries().state(), SourceState::Ready);
        record.count(&Ok(()));
        record.count::<()>(&Err(Failure::new(Class::NotFound, "no item", "")));
        let limited = Failure::new(Class::Limited, "429", "").retry_after(Duration::from_secs(60));
        record.count::<()>(&Err(limited.clone()));
        let entries = record.entries();
        let calls: Vec<_> = entries.calls.iter().map(|(key, count)| (key.as_str(), *count)).collect();
        assert_eq!(calls, [("limited", 1), ("not-found", 1), ("ok", 1)]);
        assert_eq!((entries.state(), entries.last_failure), (SourceState::Limited, Some(limited)));
        assert!(entries.last_success.is_some());
        record.count(&Ok(()));
        assert_eq!(record.entries().last_failure, None, "an outage ends with an answer");
        let denied = Failure::new(Class::Denied, "the token", "");
        record.logged_in(Err(&denied));
        assert_eq!(record.entries().state(), SourceState::Refused);
        record.logged_in(Err(&Failure::new(Class::Away, "", "")));
        assert_eq!(record.entries().state(), SourceState::Refused);
        record.logged_in(Ok(()));
        assert_eq!(record.entries().state(), SourceState::Ready);
    }
}
