//! Counts answers and refusals, for each secret or rule and in total, and the duration of answers.
//!
//! Counting allocates only at the first count of a label, and holds a lock only for a look-up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::host::clock::BootTime;

/// The upper bounds of the latency buckets in microseconds. A last bucket without a bound follows them.
pub const BOUNDS_USEC: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000, 20_000_000, 60_000_000];
/// The maximum number of labels that are counted separately, because reloads may add new ones without limit.
/// Further ones count only in the totals.
const LABELS: usize = 16 << 10;
/// The kind under which unattested requests are counted.
pub const STRANGER: &str = "stranger";

/// Counts since the provider started.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    labels: HashMap<String, Counts>,
    totals: Totals,
}

/// The counts of one secret or rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often its value was delivered completely.
    pub answers: u64,
    /// How often a unit was refused the credential.
    pub refusals: u64,
    /// When it was last delivered.
    pub last_answer: Option<BootTime>,
}

/// The totals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Values that were delivered completely.
    pub answers: u64,
    /// Refusals by kind.
    pub refusals: BTreeMap<&'static str, u64>,
    /// The time from the arrival of a request to the last byte of its answer.
    pub latency: Latency,
    /// Values that were older than allowed.
    pub stale: u64,
    /// Requests whose wait was long enough to be logged.
    pub waits: u64,
}

/// A histogram.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latency {
    /// The count of each bucket of [`BOUNDS_USEC`] and of the last one; not cumulative.
    pub buckets: [u64; BOUNDS_USEC.len() + 1],
    /// The sum of all durations.
    pub sum: Duration,
}

impl Counters {
    /// Counts a value that was delivered completely.
    pub fn answered(&self, label: &str, arrived: BootTime) {
        let now = BootTime::now();
        let took = arrived.age(now);
        let mut inner = self.inner();
        inner.totals.answers += 1;
        inner.totals.latency.add(took);
        inner.count(label, |counts| {
            counts.answers += 1;
            counts.last_answer = counts.last_answer.max(Some(now));
        });
    }

    /// Counts a refusal, with the secret or rule if the policy found one.
    pub fn refused(&self, label: Option<&str>, kind: &'static str) {
        let mut inner = self.inner();
        *inner.totals.refusals.entry(kind).or_default() += 1;
        if let Some(label) = label {
            inner.count(label, |counts| counts.refusals += 1);
        }
    }

    /// Counts a delivered value that is older than allowed.
    pub fn stale(&self) {
        self.inner().totals.stale += 1;
    }

    /// Counts a unit that is kept waiting.
    pub fn waiting(&self) {
        self.inner().totals.waits += 1;
    }

    /// The counts of a label; zero if nothing was counted.
    pub fn of(&self, label: &str) -> Counts {
        self.inner().labels.get(label).copied().unwrap_or_default()
    }

    /// The totals.
    pub fn totals(&self) -> Totals {
        self.inner().totals.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn count(&mut self, label: &str, add: impl FnOnce(&mut Counts)) {
        let room = self.labels.len() < LABELS;
        match self.labels.get_mut(label) {
            Some(counts) => add(counts),
            None if room => add(self.labels.entry(label.to_owned()).or_default()),
            None => {}
        }
    }
}

impl Latency {
    fn add(&mut self, took: Duration) {
        let at = BOUNDS_USEC.partition_point(|bound| u128::from(*bound) < took.as_micros());
        self.buckets[at] += 1;
        self.sum = self.sum.saturating_add(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_refusals_are_counted_by_label_and_kind() {
        let (counters, now) = (Counters::default(), BootTime::now());
        counters.answered("db", now);
        counters.answered("db", now);
        counters.refused(Some("db"), "away");
        counters.refused(None, STRANGER);
        let db = counters.of("db");
        assert_eq!((db.answers, db.refusals), (2, 1));
        assert!(db.last_answer >= Some(now));
        assert_eq!(counters.of("web"), Counts::default());
        let totals = counters.totals();
        assert_eq!(totals.answers, 2);
        assert_eq!(totals.refusals, BTreeMap::from([("away", 1), (STRANGER, 1)]));
        assert_eq!(totals.latency.buckets.iter().sum::<u64>(), 2);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_above_all_to_the_last() {
        let mut latency = Latency::default();
        for usec in [250, 251, 60_000_001] {
            latency.add(Duration::from_micros(usec));
        }
        assert_eq!((latency.buckets[0], latency.buckets[1], latency.buckets[12]), (1, 1, 1));
    }

    #[test]
    fn labels_without_end_are_counted_in_the_totals_alone() {
        let counters = Counters::default();
        for n in 0..=LABELS {
            counters.refused(Some(&n.to_string()), "empty");
        }
        assert_eq!(counters.inner().labels.len(), LABELS);
        assert_eq!(counters.totals().refusals["empty"], LABELS as u64 + 1);
    }
}
