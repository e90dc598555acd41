//! Decides when to check sources and fetch items. Pure: the caller passes the content of the store and the
//! time.
//!
//! - A check compares all items of a source, so it counts for all secrets of the source, whether it succeeds
//!   or fails.
//! - An item that a check found changed is fetched at the next opportunity, whatever its interval. If that
//!   fails, it is tried again after a pause that grows up to the interval. The same applies to a field that
//!   failed for a temporary reason.
//! - A check cannot return a missing value, so an item without a value is fetched at its own interval.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::domain::name::SourceName;
use crate::domain::reference::FieldRef;
use crate::host::clock::BootTime;
use crate::host::pause::after_failures;
use crate::provider::base::item_key::ItemKey;

/// The pause after the first failed fetch of a changed item. It doubles after each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// A secret with a refresh interval, and what the store has of it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Its item.
    pub(super) key: ItemKey,
    pub(super) field: FieldRef,
    /// Its refresh interval.
    pub(super) interval: Duration,
    /// When its item was last known to be current.
    pub(super) confirmed: BootTime,
    /// When its item was last fetched.
    pub(super) fetched: BootTime,
    /// Whether 1Password has another version of its item.
    pub(super) changed: bool,
    /// Whether the last fetch of its item failed for this field, for a temporary reason.
    pub(super) incomplete: bool,
    /// Whether the store has a value of its field.
    pub(super) has_value: bool,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The sources to check.
    pub(super) checks: BTreeSet<SourceName>,
    /// The items to fetch, each with one of the due fields.
    pub(super) fetches: BTreeMap<ItemKey, FieldRef>,
}

/// The last attempts.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    sources: HashMap<SourceName, Turn>,
    items: HashMap<ItemKey, Fetches>,
}

/// The checks of a source.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// The fraction of each interval after which the next check is due.
    part: f64,
    /// When the last check began.
    checked: Option<BootTime>,
}

/// The fetches of an item.
#[derive(Debug, Clone, Copy)]
struct Fetches {
    /// When the last one began.
    tried: BootTime,
    /// How many consecutive fetches have failed while the item was changed.
    failures: u32,
}

impl Schedule {
    /// Takes what is due now, and counts it as tried. Skips busy sources. `part` returns a random fraction of
    /// the interval for the next check of a source, so that machines do not check at the same time.
    pub(super) fn take(
        &mut self,
        candidates: &[Candidate],
        is_busy: impl Fn(&SourceName) -> bool,
        now: BootTime,
        mut part: impl FnMut() -> f64,
    ) -> Due {
        let items: BTreeSet<&ItemKey> = candidates.iter().map(|candidate| &candidate.key).collect();
        self.items.retain(|key, _| items.contains(key));
        let mut due = Due::default();
        for candidate in candidates {
            let source = &candidate.key.source;
            self.sources.entry(source.clone()).or_insert_with(|| Turn { part: part(), checked: None });
            if is_busy(source) || self.due_at(candidate) > now {
                continue;
            }
            if candidate.changed || !candidate.has_value {
                due.fetches.entry(candidate.key.clone()).or_insert_with(|| candidate.field.clone());
                let tried = self.items.get(&candidate.key).map(|fetches| fetches.tried);
                if !candidate.incomplete && tried.is_some_and(|tried| candidate.fetched >= tried) {
                    self.items.remove(&candidate.key); // it was fetched since then for a unit
                }
            } else {
                due.checks.insert(source.clone());
            }
        }
        for source in &due.checks {
            self.sources.insert(source.clone(), Turn { part: part(), checked: Some(now) });
        }
        for key in due.fetches.keys() {
            self.items.entry(key.clone()).or_insert(Fetches { tried: now, failures: 0 }).tried = now;
        }
        due
    }

    /// Records the outcome of a fetch of a changed item. The fetch has failed if the item is still changed or
    /// incomplete.
    pub(super) fn ended(&mut self, key: &ItemKey, still_changed: bool) {
        if let Some(fetches) = self.items.get_mut(key) {
            fetches.failures = if still_changed { fetches.failures.saturating_add(1) } else { 0 };
        }
    }

    /// When a secret is due.
    fn due_at(&self, candidate: &Candidate) -> BootTime {
        let turn = self.sources.get(&candidate.key.source);
        let interval = candidate.interval.mul_f64(turn.map_or(1.0, |turn| turn.part));
        let fetches = self.items.get(&candidate.key);
        if candidate.incomplete && !candidate.changed {
            let failures = fetches.map_or(0, |fetches| fetches.failures.saturating_sub(1));
            let tried = fetches.map(|fetches| fetches.tried).max(Some(candidate.fetched)).unwrap_or_default();
            return tried.after(after_failures(failures, FIRST_PAUSE, interval));
        }
        if candidate.changed {
            return match fetches {
                Some(Fetches { tried, failures: failures @ 1.. }) if candidate.fetched < *tried => {
                    tried.after(after_failures(failures - 1, FIRST_PAUSE, interval))
                }
                _ => BootTime::default(),
            };
        }
        let tried = match candidate.has_value {
            true => turn.and_then(|turn| turn.checked).max(Some(candidate.confirmed)),
            false => fetches.map(|fetches| fetches.tried).max(Some(candidate.fetched)),
        };
        tried.unwrap_or_default().after(interval)
    }
}

#[cfg(test)]
mod tests;
