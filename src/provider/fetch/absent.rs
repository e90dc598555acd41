//! Fields that failed for a lasting reason. Fetching them costs calls too, so they are fetched again at
//! growing intervals, or when their item changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::reference::FieldRef;
use crate::host::clock::BootTime;
use crate::host::pauses::{Paused, Pauses};
use crate::ipc::Failure;
use crate::provider::base::item_key::ItemKey;
use crate::provider::store::{Snapshot, StoredField};

/// The pause after the first fetch, and the longest pause.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3600)];
/// The maximum number of fields that are remembered.
const MOST: usize = 10_000;

type Field = (ItemKey, FieldRef);

/// Fields that failed for a lasting reason, each with the version of its item at that time and the reason.
#[derive(Debug)]
pub struct AbsentFields(Mutex<Pauses<Field, (u64, Failure)>>);

impl Default for AbsentFields {
    fn default() -> Self {
        Self(Mutex::new(Pauses::new(PAUSES[0], PAUSES[1], MOST)))
    }
}

impl AbsentFields {
    /// Why a field of this version of its item has no value, and how long it is not fetched again.
    pub fn present(
        &self,
        key: &ItemKey,
        field: &FieldRef,
        version: u64,
        now: BootTime,
    ) -> Option<Paused<Failure>> {
        let fields = self.lock();
        let Paused { what: (of, failure), ago, left } = fields.present(&(key.clone(), field.clone()), now)?;
        (*of == version).then(|| Paused { what: failure.clone(), ago, left })
    }

    /// Records which fields of a fetched item failed for a lasting reason.
    pub fn note(&self, snapshot: &Snapshot, now: BootTime) {
        let mut fields = self.lock();
        for field in snapshot.fields() {
            let of = (snapshot.key.clone(), field.clone());
            let failure = match snapshot.entry(field) {
                Some(StoredField::Failed(failure)) if !failure.class.is_transient() => Some(failure),
                _ => None,
            };
            let is_of_version = fields.last(&of).is_none_or(|(version, _)| *version == snapshot.version);
            if failure.is_none() || !is_of_version {
                fields.end(&of);
            }
            if let Some(failure) = failure {
                fields.note(&of, (snapshot.version, failure.clone()), now);
            }
        }
    }

    /// Removes all fields.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Pauses<Field, (u64, Failure)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::Class;
    use crate::provider::store::testing::{self, failure, field};

    #[test]
    fn only_lasting_failures_of_the_same_version_are_remembered() {
        let (absent, now) = (AbsentFields::default(), BootTime::now());
        let slot = |password: Result<&[u8; 1], Failure>| testing::slot(&[("password", password)]).snapshot;
        let is_remembered =
            |version| absent.present(&testing::key("i"), &field("password"), version, now).is_some();
        absent.note(&slot(Err(Failure::new(Class::Away, "", ""))), now);
        assert!(!is_remembered(1), "it passes");
        absent.note(&slot(Err(failure())), now);
        assert!(is_remembered(1) && !is_remembered(2));
        absent.note(&slot(Ok(b"x")), now);
        assert!(!is_remembered(1), "it is there");
        absent.note(&slot(Err(failure())), now);
        absent.clear();
        assert!(!is_remembered(1), "the configuration was reloaded");
    }
}
