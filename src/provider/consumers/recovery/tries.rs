//! Decides when to check whether sources are back. Each source has its own time, so that sources are not
//! asked all at once, and machines do not ask all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::name::SourceName;
use crate::host::pause::{Growing, varied};

/// The pause before the first try, and the longest pause.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

/// How often to check causes that an administrator must correct, if nothing indicates that they were
/// corrected.
const CORRECTIONS: Duration = Duration::from_secs(300);

/// The tries.
#[derive(Debug, Default)]
pub(super) struct Tries {
    sources: BTreeMap<SourceName, Try>,
    /// When to check causes that an administrator must correct.
    corrections: Option<Instant>,
}

#[derive(Debug)]
struct Try {
    pauses: Growing,
    due: Instant,
}

impl Try {
    fn new(now: Instant) -> Self {
        let mut new = Self { pauses: Growing::doubling(PAUSES[0], PAUSES[1]), due: now };
        new.put_off(now);
        new
    }

    fn put_off(&mut self, now: Instant) {
        self.due = now + varied(self.pauses.pause(), 0.2);
    }
}

impl Tries {
    /// How long to wait until one of these sources is due. Removes other sources.
    pub(super) fn wait(&mut self, sources: &BTreeSet<SourceName>, now: Instant) -> Duration {
        self.sources.retain(|source, _| sources.contains(source));
        for source in sources {
            self.sources.entry(source.clone()).or_insert_with(|| Try::new(now));
        }
        let next = self.sources.values().map(|try_| try_.due).min();
        next.map_or(PAUSES[0], |due| due.saturating_duration_since(now))
    }

    /// Whether a source is due.
    pub(super) fn is_due(&self, source: &SourceName, now: Instant) -> bool {
        self.sources.get(source).is_some_and(|try_| try_.due <= now)
    }

    /// Whether to check causes that an administrator must correct. If so, they are not due again for some
    /// time.
    pub(super) fn take_corrections(&mut self, now: Instant) -> bool {
        let due = *self.corrections.get_or_insert_with(|| now + varied(CORRECTIONS, 0.2));
        if due <= now {
            self.corrections = None;
        }
        due <= now
    }

    /// Makes everything due now.
    pub(super) fn all_now(&mut self) {
        let now = Instant::now();
        self.sources.values_mut().for_each(|source| source.due = now);
        self.corrections = Some(now);
    }

    /// Makes a source due now.
    pub(super) fn now(&mut self, source: &SourceName) {
        if let Some(try_) = self.sources.get_mut(source) {
            try_.due = Instant::now();
        }
    }

    /// Records that a source was tried. If units were started, its pauses begin again with the shortest.
    pub(super) fn tried(&mut self, source: &SourceName, is_back: bool, now: Instant) {
        if let Some(try_) = self.sources.get_mut(source) {
            if is_back {
                try_.pauses.reset();
            }
            try_.put_off(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_source_has_its_own_pauses() {
        let [a, b] = ["a", "b"].map(|name| SourceName::parse(name).unwrap());
        let both = BTreeSet::from([a.clone(), b.clone()]);
        let (mut tries, begun) = (Tries::default(), Instant::now());
        let near = |wait: Duration, seconds: u64| {
            let wanted = Duration::from_secs(seconds);
            assert!((wanted.mul_f64(0.8)..=wanted.mul_f64(1.2)).contains(&wait), "{wait:?}, not {wanted:?}");
        };
        near(tries.wait(&both, begun), 5);
        assert!(!tries.is_due(&a, begun));
        assert!(tries.is_due(&a, begun + PAUSES[0].mul_f64(1.2)));
        for seconds in [10, 20, 40, 60, 60] {
            tries.tried(&a, false, begun);
            near(tries.sources[&a].due - begun, seconds);
            near(tries.wait(&both, begun), 5); // of b
        }
        tries.now(&a);
        assert!(tries.is_due(&a, Instant::now()) && !tries.is_due(&b, Instant::now()));
        assert_eq!(tries.wait(&both, begun), Duration::ZERO);
        tries.tried(&a, true, begun);
        near(tries.sources[&a].due - begun, 5);
        tries.all_now();
        assert!(tries.is_due(&a, begun) && tries.is_due(&b, begun));
        assert_eq!(tries.wait(&BTreeSet::new(), begun), PAUSES[0], "some wait for no source");
        assert!(tries.sources.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_must_be_corrected_is_tried_seldom_or_when_it_may_have_been() {
        let (mut tries, begun) = (Tries::default(), Instant::now());
        assert!(!tries.take_corrections(begun) && !tries.take_corrections(begun + CORRECTIONS.mul_f64(0.7)));
        let later = begun + CORRECTIONS.mul_f64(1.2);
        assert!(tries.take_corrections(later) && !tries.take_corrections(later));
        tries.all_now();
        assert!(tries.take_corrections(later) && !tries.take_corrections(later));
    }
}
