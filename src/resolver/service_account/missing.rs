//! What was not found is remembered: failed look-ups cost quota too, so that they are repeated in growing intervals only.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::reference::ItemRef;
use crate::ipc::Failure;

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3_600);
/// The most references that are remembered.
const MOST: usize = 10_000;

/// The references that mean nothing at the moment.
#[derive(Default)]
pub(super) struct Missing(Mutex<HashMap<ItemRef, Entry>>);

struct Entry {
    failure: Failure,
    interval: Duration,
    since: Instant,
}

impl Missing {
    /// Why an item is not looked for now.
    pub(super) fn known(&self, item: &ItemRef) -> Option<Failure> {
        let missing = self.lock();
        let entry = missing.get(item)?;
        let left = entry.interval.checked_sub(entry.since.elapsed()).filter(|left| !left.is_zero())?;
        let mut failure = entry.failure.clone().retry_after(left);
        let (ago, left) = (entry.since.elapsed().as_secs(), left.as_secs() + 1);
        failure.remedy.push_str(&format!(
            " (that was seen {ago} s ago, and is looked at again in {left} s, or after: systemctl restart onecred-resolver)"
        ));
        Some(failure)
    }

    /// What came of looking for it. Only what 1Password itself has said counts.
    pub(super) fn learn(&self, item: &ItemRef, failure: Option<&Failure>) {
        let mut missing = self.lock();
        let failure = match failure {
            None => return drop(missing.remove(item)),
            Some(failure) if !failure.class.is_confirmed_gone() => return,
            Some(failure) => failure,
        };
        if missing.len() >= MOST && !missing.contains_key(item) {
            missing.clear();
        }
        let interval = missing.get(item).map_or(FIRST, |entry| (entry.interval * 2).min(LONGEST));
        missing.insert(item.clone(), Entry { failure: failure.clone(), interval, since: Instant::now() });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ItemRef, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reference::Reference;
    use crate::ipc::Class;

    #[tokio::test(start_paused = true)]
    async fn intervals_grow_and_end_with_a_find() {
        let item = Reference::parse("op://v/i/f").unwrap().item;
        let (missing, failure) = (Missing::default(), Failure::new(Class::NotFound, "no item", "create it"));
        let mut total = Duration::ZERO;
        for _ in 0..12 {
            assert!(missing.known(&item).is_none());
            missing.learn(&item, Some(&failure));
            let wait = missing.known(&item).unwrap().retry_after.unwrap();
            assert!(wait <= LONGEST && wait >= FIRST);
            total += wait;
            tokio::time::advance(wait).await;
        }
        assert!(total > 2 * LONGEST);
        missing.learn(&item, Some(&Failure::new(Class::Away, "", "")));
        assert!(missing.known(&item).is_none());
        missing.learn(&item, Some(&failure));
        assert!(missing.known(&item).is_some());
        missing.learn(&item, None);
        assert!(missing.known(&item).is_none());
    }
}
