//! The status of a secret: what the store has of it, how old that is, whether units would receive it, and the
//! last failure. Pure. D-Bus and the metrics show it.

use std::fmt;
use std::time::Duration;

use crate::domain::name::CredentialId;
use crate::domain::secret::{MaxAge, Wanted};
use crate::host::clock::BootTime;
use crate::ipc::{Class, Failure};

use crate::provider::base::limits::{self, Form};
use crate::provider::store::{Held, Slot, Snapshot, StoredField};

/// The state of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretState {
    /// It was not requested since boot, or its value was removed.
    NeverFetched,
    /// It is served without a check.
    Fresh,
    /// It is older than its `maxAge`: it is checked against 1Password before it is served again, unless the
    /// source has an outage.
    Stale,
    /// Its last look-up failed, or its value cannot be delivered.
    Failing,
    /// It is overridden.
    Held,
}

impl SecretState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::NeverFetched, Self::Fresh, Self::Stale, Self::Failing, Self::Held];

    /// The name of the state on D-Bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverFetched => "never-fetched",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Failing => "failing",
            Self::Held => "held",
        }
    }
}

/// The status of a secret.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The state.
    pub state: SecretState,
    /// The version of its item in the store.
    pub version: Option<u64>,
    /// The time since that version was known to be current.
    pub age: Option<Duration>,
    /// The last failure, if no look-up has succeeded since.
    pub error: Option<Failure>,
    /// Why units are refused the stored value.
    pub unusable: Option<Unusable>,
    /// The same for units that use the sealed socket, if the plain socket accepts the value.
    pub sealed: Option<Unusable>,
    /// The size in bytes of the stored value, as units receive it.
    pub size: Option<usize>,
    /// The origin of its override: `put` or `rollback`.
    pub held: Option<&'static str>,
}

/// Why a stored value cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It is empty, and the secret does not allow that.
    Empty,
    /// It is larger than systemd accepts.
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The largest size in bytes that systemd accepts.
        limit: usize,
        /// The form in which it was requested.
        form: Form,
    },
}

impl Unusable {
    /// What is wrong with a value of this size for a unit that requests it in this form under this ID.
    pub fn of(size: usize, allow_empty: bool, form: Form, id: &CredentialId) -> Option<Self> {
        let limit = limits::largest(form, id);
        match size {
            0 if !allow_empty => Some(Self::Empty),
            _ if size > limit => Some(Self::TooLarge { size, limit, form }),
            _ => None,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "empty: the field is empty; fill it in, or set \"allowEmpty\": true if it may be empty",
            ),
            Self::TooLarge { size, limit, form: Form::Plain } => write!(
                f,
                "too large: the value has {size} bytes, and systemd accepts {limit}; keep large data elsewhere and only its key here"
            ),
            Self::TooLarge { size, limit, form: Form::Sealed } => write!(
                f,
                "too large for the sealed socket: the value has {size} bytes, and systemd accepts {limit} with LoadCredentialEncrypted=; use LoadCredential= at the plain socket, or keep large data elsewhere and only its key here"
            ),
        }
    }
}

/// The facts that determine the status.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The store's data about the item.
    pub slot: Option<&'a Slot>,
    /// Why the last look-up of the item failed.
    pub failing: Option<&'a Failure>,
    /// Why the source cannot be asked now.
    pub trouble: Option<&'a Failure>,
    /// The override of the secret.
    pub held: Option<&'a Held>,
    /// The IDs under which units request it.
    pub ids: &'a [CredentialId],
    /// The current time.
    pub now: BootTime,
}

impl Condition {
    /// Determines the status of a secret.
    pub fn of(wanted: &Wanted, seen: &Seen<'_>) -> Self {
        let entry = seen.slot.and_then(|slot| slot.snapshot.entry(&wanted.reference.field));
        let age = seen.slot.map(|slot| slot.confirmed.age(seen.now));
        let failed = match entry {
            Some(StoredField::Failed(failure)) => Some(failure),
            _ => None,
        };
        let has_value = matches!(entry, Some(StoredField::Value { .. }));
        let error = failed
            .or(seen.failing)
            .or(seen.trouble)
            .or_else(|| Some(&seen.slot?.doubt.as_ref()?.failure))
            .cloned();
        let fresh = match wanted.max_age {
            MaxAge::Session => true,
            MaxAge::Always => false,
            MaxAge::Age(limit) => age.is_some_and(|age| age <= limit),
        };
        let changed = seen.slot.is_some_and(|slot| slot.changed);
        // a changed item is fetched before it is served, so its size is unknown
        let size = match (seen.held, seen.slot, entry) {
            (Some(held), ..) => Some(size(wanted, &held.snapshot, held.len)),
            (None, Some(slot), Some(StoredField::Value { len, .. })) if !changed => {
                Some(size(wanted, &slot.snapshot, *len))
            }
            _ => None,
        };
        // units receive the stored value as long as it exists
        let ambiguous = seen
            .slot
            .and_then(|slot| slot.doubt.as_ref())
            .is_some_and(|doubt| doubt.failure.class == Class::Several);
        let judge = |form| size.and_then(|size| judge(wanted, size, form, seen.ids));
        let (unusable, sealed) = (judge(Form::Plain), judge(Form::Sealed));
        let state = match (seen.held, has_value) {
            (Some(_), _) => SecretState::Held,
            (None, _) if failed.is_some() || seen.failing.is_some() || unusable.is_some() || ambiguous => {
                SecretState::Failing
            }
            (None, false) => SecretState::NeverFetched,
            (None, true) if fresh && !changed => SecretState::Fresh,
            (None, true) => SecretState::Stale,
        };
        // the store may have the item because of another field
        let is_here = state != SecretState::NeverFetched;
        Self {
            state,
            version: seen.slot.filter(|_| is_here).map(|slot| slot.snapshot.version),
            age: age.filter(|_| is_here),
            error,
            unusable,
            sealed: sealed.filter(|_| unusable.is_none()),
            size,
            held: seen.held.map(|held| held.origin.as_str()),
        }
    }
}

/// The size of a value as units receive it.
fn size(wanted: &Wanted, snapshot: &Snapshot, len: usize) -> usize {
    let trimmed = wanted.trim.then(|| snapshot.trimmed_len(&wanted.reference.field)).flatten();
    trimmed.unwrap_or(len)
}

/// What is wrong under the ID with the smallest limit. A value that no unit requests may have any size.
fn judge(wanted: &Wanted, size: usize, form: Form, ids: &[CredentialId]) -> Option<Unusable> {
    match ids.iter().max_by_key(|id| id.as_str().len()) {
        Some(id) => Unusable::of(size, wanted.allow_empty, form, id),
        None => (size == 0 && !wanted.allow_empty).then_some(Unusable::Empty),
    }
}

#[cfg(test)]
mod tests;
