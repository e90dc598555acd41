//! The calls of each consumer to a source, so that no consumer can use up what others need. Pure: the caller
//! passes the time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::clock::BootTime;
use crate::ipc::Spender;

/// How many of the consumers with the most calls are shown.
pub(super) const SHOWN: usize = 5;
const DAY: Duration = Duration::from_secs(86_400);
/// The maximum number of consumers that are remembered. Beyond that, the least recent one is dropped.
const MOST: usize = 256;

/// The calls of each consumer by its opaque number. They count for 24 hours from the first of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Shares(BTreeMap<u64, Spending>);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Spending {
    first: BootTime,
    last: BootTime,
    calls: u32,
    /// The calls that are charged to its share.
    shared: u32,
}

impl Shares {
    /// Counts calls of a consumer, charged to its share or not.
    pub(super) fn spend(&mut self, consumer: u64, calls: u32, is_shared: bool, now: BootTime) {
        if self.0.len() >= MOST && !self.0.contains_key(&consumer) {
            let oldest =
                self.0.iter().min_by_key(|(_, spending)| spending.last).map(|(consumer, _)| *consumer);
            oldest.and_then(|consumer| self.0.remove(&consumer));
        }
        let new = Spending { first: now, last: now, calls: 0, shared: 0 };
        let spending = self.0.entry(consumer).or_insert(new);
        if spending.first.age(now) >= DAY {
            *spending = new;
        }
        (spending.last, spending.calls) = (now, spending.calls.saturating_add(calls));
        if is_shared {
            spending.shared = spending.shared.saturating_add(calls);
        }
    }

    /// Refunds calls that were paid for but not made.
    pub(super) fn give_back(&mut self, consumer: u64, calls: u32, is_shared: bool) {
        if let Some(spending) = self.0.get_mut(&consumer) {
            spending.calls = spending.calls.saturating_sub(calls);
            if is_shared {
                spending.shared = spending.shared.saturating_sub(calls);
            }
        }
    }

    /// What a consumer has used of its share, and how long that counts.
    pub(super) fn spent(&self, consumer: u64, now: BootTime) -> (u32, Duration) {
        match self.0.get(&consumer) {
            Some(spending) if spending.first.age(now) < DAY => {
                (spending.shared, DAY.saturating_sub(spending.first.age(now)))
            }
            _ => (0, Duration::ZERO),
        }
    }

    /// The number of consumers with calls in the last 24 hours, without onecred itself and including this
    /// one.
    pub(super) fn count(&self, including: u64, now: BootTime) -> u32 {
        let others = self.0.iter().filter(|(consumer, spending)| {
            **consumer != 0 && **consumer != including && spending.last.age(now) < DAY
        });
        u32::try_from(others.count() + 1).unwrap_or(u32::MAX)
    }

    /// The consumers with the most calls, in descending order.
    pub(super) fn top(&self, count: usize, now: BootTime) -> Vec<Spender> {
        let counting =
            self.0.iter().filter(|(_, spending)| spending.first.age(now) < DAY && spending.calls > 0);
        let mut all: Vec<Spender> =
            counting.map(|(share, spending)| Spender { share: *share, calls: spending.calls }).collect();
        all.sort_by_key(|spender| (std::cmp::Reverse(spender.calls), spender.share));
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn calls_count_for_a_day_from_the_first() {
        let mut shares = Shares::default();
        shares.spend(7, 3, true, at(100));
        shares.spend(7, 2, true, at(86_499));
        shares.spend(7, 1, false, at(86_499));
        shares.spend(8, 9, true, at(86_499));
        shares.spend(0, 50, false, at(86_499));
        assert_eq!(shares.spent(7, at(86_499)), (5, Duration::from_secs(1)));
        assert_eq!((shares.count(7, at(86_499)), shares.count(9, at(86_499))), (2, 3));
        let top: Vec<_> = shares.top(2, at(86_499)).iter().map(|it| (it.share, it.calls)).collect();
        assert_eq!(top, [(0, 50), (8, 9)]);
        assert_eq!(shares.spent(7, at(86_500)).0, 0);
        shares.spend(7, 1, true, at(86_500));
        shares.give_back(7, 4, true);
        assert_eq!(shares.spent(7, at(86_500)).0, 0);
        assert_eq!(shares.count(7, at(200_000)), 1);
    }

    #[test]
    fn the_consumers_are_bounded() {
        let mut shares = Shares::default();
        for consumer in 0..10_000 {
            shares.spend(consumer, 1, true, at(consumer));
        }
        assert_eq!(shares.0.len(), MOST);
        assert_eq!((shares.spent(0, at(10_000)).0, shares.spent(9_999, at(10_000)).0), (0, 1));
    }
}
