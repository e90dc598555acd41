//! Invalid lists. A check requests such a list again only after a pause, which grows with each attempt.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::lock;
use crate::host::pause::{after_failures, varied};
use crate::ipc::{Class, Failure};

/// The pause after the first invalid list, and the longest pause.
const PAUSES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(1800)];

/// Lists that were invalid, by the ID of their vault. `None` is the list of vaults.
#[derive(Default)]
pub(super) struct Senseless(Mutex<HashMap<Option<String>, Answers>>);

/// Consecutive invalid answers.
struct Answers {
    count: u32,
    until: Instant,
    failure: Failure,
}

impl Senseless {
    /// Why a list is not requested now.
    pub(super) fn pause(&self, vault: Option<&str>) -> Option<Failure> {
        let lists = lock(&self.0);
        let answers = lists.get(&vault.map(str::to_owned))?;
        let left = answers.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let mut failure = answers.failure.clone();
        failure.cause.push_str(&format!("; the list is requested again in {} s", left.as_secs() + 1));
        Some(failure)
    }

    /// Records the outcome of a request for a list. Failures that say nothing about the list itself are
    /// ignored.
    pub(super) fn note(&self, vault: Option<&str>, failure: Option<&Failure>) {
        let mut lists = lock(&self.0);
        let key = vault.map(str::to_owned);
        match failure {
            None => drop(lists.remove(&key)),
            Some(failure) if matches!(failure.class, Class::Malformed | Class::TooLarge) => {
                let count = lists.get(&key).map_or(0, |it| it.count);
                let pause = varied(after_failures(count, PAUSES[0], PAUSES[1]), 0.1);
                let until = Instant::now() + pause;
                lists
                    .insert(key, Answers { count: count.saturating_add(1), until, failure: failure.clone() });
            }
            Some(_) => {}
        }
    }

    /// Removes the vaults that do not exist any more.
    pub(super) fn retain(&self, is_listed: impl Fn(&str) -> bool) {
        lock(&self.0).retain(|vault, _| vault.as_deref().is_none_or(&is_listed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_grows_until_a_list_makes_sense() {
        let (lists, failure) = (Senseless::default(), Failure::new(Class::Malformed, "not JSON", "look"));
        let is_paused = || lists.pause(Some("v")).is_some();
        for seconds in [60, 120, 240, 480, 960, 1800, 1800] {
            assert!(!is_paused(), "{seconds}");
            lists.note(Some("v"), Some(&failure));
            tokio::time::advance(Duration::from_secs(seconds * 8 / 10)).await;
            assert!(is_paused(), "{seconds}");
            tokio::time::advance(Duration::from_secs(seconds * 4 / 10)).await;
        }
        assert!(lists.pause(None).is_none() && lists.pause(Some("w")).is_none());
        lists.note(Some("v"), Some(&Failure::new(Class::Away, "away", "wait")));
        assert!(!is_paused(), "an outage says nothing of the list");
        lists.note(Some("v"), None);
        lists.note(Some("v"), Some(&failure));
        tokio::time::advance(Duration::from_secs(72)).await;
        assert!(!is_paused(), "it begins again with the first pause");
        lists.note(None, Some(&failure));
        lists.note(Some("v"), Some(&failure));
        lists.retain(|_| false);
        assert!(!is_paused() && lists.pause(None).is_some(), "the vault is gone");
    }
}
