//! Pauses between checks of things that failed, one per key. Each pause is longer than the previous one, and
//! the number of keys is limited. Pure: the caller passes the time.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::clock::BootTime;
use super::pause::after_failures;

/// Pauses by key. If a check after a pause has the same outcome, the next pause is twice as long.
#[derive(Debug)]
pub struct Pauses<K, T> {
    entries: HashMap<K, Entry<T>>,
    first: Duration,
    longest: Duration,
    most: usize,
}

#[derive(Debug)]
struct Entry<T> {
    what: T,
    seen: BootTime,
    until: BootTime,
    earlier: u32,
}

/// An entry whose pause has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paused<T> {
    /// The outcome of the last check.
    pub what: T,
    /// The time since the last check.
    pub ago: Duration,
    /// The time until the next check.
    pub left: Duration,
}

impl<K: Eq + Hash + Clone, T> Pauses<K, T> {
    /// Creates an empty set. Pauses begin with `first` and double up to `longest`. Beyond `most` keys, the
    /// least recently checked key is dropped.
    pub fn new(first: Duration, longest: Duration, most: usize) -> Self {
        Self { entries: HashMap::new(), first, longest, most }
    }

    /// The outcome for a key, if its pause has not ended.
    pub fn present(&self, key: &K, now: BootTime) -> Option<Paused<&T>> {
        let Entry { what, seen, until, .. } = self.entries.get(key)?;
        let left = now.age(*until);
        (!left.is_zero()).then(|| Paused { what, ago: seen.age(now), left })
    }

    /// The last outcome for a key, even if its pause has ended.
    pub fn last(&self, key: &K) -> Option<&T> {
        self.entries.get(key).map(|entry| &entry.what)
    }

    /// Records the outcome for a key. A check during a pause does not move the end of that pause.
    pub fn note(&mut self, key: &K, what: T, now: BootTime) {
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.what, entry.seen) = (what, now);
            if now.age(entry.until).is_zero() {
                entry.earlier = entry.earlier.saturating_add(1);
                entry.until = now.after(after_failures(entry.earlier, self.first, self.longest));
            }
            return;
        }
        if self.entries.len() >= self.most {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.seen).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.entries.remove(&key));
        }
        let until = now.after(self.first);
        self.entries.insert(key.clone(), Entry { what, seen: now, until, earlier: 0 });
    }

    /// Removes a key.
    pub fn end(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// Removes the keys for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &T) -> bool) {
        self.entries.retain(|key, entry| keep(key, &entry.what));
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::default().after(Duration::from_secs(seconds))
    }

    fn pauses() -> Pauses<&'static str, u32> {
        Pauses::new(Duration::from_secs(5), Duration::from_secs(3600), 3)
    }

    fn left(pauses: &Pauses<&'static str, u32>, key: &'static str, now: u64) -> Option<u64> {
        pauses.present(&key, at(now)).map(|paused| paused.left.as_secs())
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut pauses, mut now, mut lengths) = (pauses(), 100, Vec::new());
        for _ in 0..12 {
            assert_eq!(left(&pauses, "a", now), None, "{now}");
            pauses.note(&"a", 1, at(now));
            let pause = left(&pauses, "a", now).unwrap();
            lengths.push(pause);
            assert_eq!(left(&pauses, "a", now + pause - 1), Some(1));
            now += pause;
        }
        assert_eq!(lengths, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        pauses.end(&"a");
        pauses.note(&"a", 1, at(now));
        assert_eq!(left(&pauses, "a", now), Some(5));
    }

    #[test]
    fn an_early_look_neither_prolongs_nor_shortens_a_pause() {
        let mut pauses = pauses();
        pauses.note(&"a", 1, at(100));
        pauses.note(&"a", 2, at(103));
        let seen = pauses.present(&"a", at(104)).unwrap();
        let expected = Paused { what: &2, ago: Duration::from_secs(1), left: Duration::from_secs(1) };
        assert_eq!(seen, expected);
        assert_eq!(left(&pauses, "a", 105), None);
        assert_eq!((pauses.last(&"a"), pauses.last(&"b")), (Some(&2), None), "it outlives the pause");
    }

    #[test]
    fn the_key_that_was_seen_least_recently_is_forgotten_first() {
        let mut pauses = pauses();
        for (second, key) in ["a", "b", "c", "a", "d"].into_iter().enumerate() {
            pauses.note(&key, 0, at(second as u64));
        }
        let present = ["a", "b", "c", "d"].map(|key| left(&pauses, key, 4).is_some());
        assert_eq!(present, [true, false, true, true]);
        pauses.retain(|key, _| *key == "a");
        assert_eq!(["a", "c"].map(|key| left(&pauses, key, 4).is_some()), [true, false]);
        pauses.clear();
        assert_eq!(left(&pauses, "a", 4), None);
    }
}
