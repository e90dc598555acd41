//! How a secret stands: what the store has of it, how old that is, and what went wrong last. Pure; the bus and the metrics show it.

use std::time::Duration;

use crate::clock::BootTime;
use crate::secret::{MaxAge, Wanted};
use crate::wire::Failure;

use super::store::{Entry, Held, Slot};

/// In one word, how a secret stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was never asked for since this boot, or what was had of it is gone.
    NeverFetched,
    /// It is served without a look at 1Password.
    Fresh,
    /// It is older than its `maxAge`: it is compared with 1Password before it is served again, where that can be asked.
    Stale,
    /// The last time that it was looked up, it could not be had.
    Failing,
    /// An admin's value stands in for it.
    Held,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] = [Self::NeverFetched, Self::Fresh, Self::Stale, Self::Failing, Self::Held];

    /// The state as the bus has it.
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

/// How a secret stands.
#[derive(Debug, Clone)]
pub struct Condition {
    /// In one word.
    pub state: State,
    /// The version of its item that the store has.
    pub version: Option<u64>,
    /// How long ago that was known to be what 1Password has.
    pub age: Option<Duration>,
    /// What went wrong last, if nothing has gone right since.
    pub error: Option<Failure>,
    /// What stands in for it, if anything: `put`, `rollback`.
    pub held: Option<&'static str>,
}

/// What there is to judge by.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What the store has of the item.
    pub slot: Option<&'a Slot>,
    /// Why the item could not be had the last time.
    pub failing: Option<&'a Failure>,
    /// Why the source can't be asked now.
    pub trouble: Option<&'a Failure>,
    /// What stands in for the secret.
    pub held: Option<&'a Held>,
    /// Now.
    pub now: BootTime,
}

impl Condition {
    /// Judges a secret.
    pub fn of(wanted: &Wanted, seen: &Seen<'_>) -> Self {
        let entry = seen.slot.and_then(|slot| slot.snapshot.entry(&wanted.reference.field));
        let age = seen.slot.map(|slot| slot.confirmed.age(seen.now));
        let failed = match entry {
            Some(Entry::Failed(failure)) => Some(failure),
            _ => None,
        };
        let has_value = matches!(entry, Some(Entry::Value { .. }));
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
        let state = match (seen.held, has_value) {
            (Some(_), _) => State::Held,
            (None, _) if failed.is_some() || seen.failing.is_some() => State::Failing,
            (None, false) => State::NeverFetched,
            (None, true) if fresh && !changed => State::Fresh,
            (None, true) => State::Stale,
        };
        Self {
            state,
            version: seen.slot.map(|slot| slot.snapshot.version),
            age,
            error,
            held: seen.held.map(|held| held.origin.as_str()),
        }
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
