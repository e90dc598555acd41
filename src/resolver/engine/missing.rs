//! Items that were not found. Looking them up costs calls too, so it is repeated only at growing intervals.

use std::sync::Mutex;
use std::time::Duration;

use super::lock;
use crate::domain::reference::ItemRef;
use crate::host::clock::BootTime;
use crate::host::pauses::Pauses;
use crate::ipc::Failure;

/// The pause after the first look-up, and the longest pause.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3600)];
/// The maximum number of items that are remembered.
const MOST: usize = 10_000;

/// What a list of vaults shows of an item's vault: its ID and content version. `None` if no vault, or more
/// than one, matches.
pub(super) type VaultSeen = Option<(String, Option<u64>)>;

/// The items that were not found.
pub(super) struct MissingItems(Mutex<Pauses<ItemRef, Seen>>);

#[derive(Debug)]
struct Seen {
    failure: Failure,
    vault: VaultSeen,
}

impl Default for MissingItems {
    fn default() -> Self {
        Self(Mutex::new(Pauses::new(PAUSES[0], PAUSES[1], MOST)))
    }
}

impl MissingItems {
    /// Why an item is not looked up now. `vault` is the state of its vault in the newest list of vaults, if
    /// there is such a list. Failures of at least this age are ignored.
    pub(super) fn known(
        &self,
        item: &ItemRef,
        vault: Option<&VaultSeen>,
        not_older_than: Option<Duration>,
    ) -> Option<Failure> {
        let missing = lock(&self.0);
        let paused = missing.present(item, BootTime::now())?;
        let Seen { failure, vault: before } = paused.what;
        if vault.is_some_and(|now| now != before) || not_older_than.is_some_and(|age| paused.ago >= age) {
            return None;
        }
        let mut failure = failure.clone().retry_after(paused.left);
        failure.remedy.push_str(&format!(
            " (not found {} s ago; next look-up in {} s; to look it up now: onecred reload)",
            paused.ago.as_secs(),
            paused.left.as_secs() + 1
        ));
        Some(failure)
    }

    /// Records the outcome of a look-up. Remembers a failure only if 1Password itself has confirmed it.
    pub(super) fn note(&self, item: &ItemRef, failure: Option<&Failure>, vault: VaultSeen) {
        let mut missing = lock(&self.0);
        match failure {
            None => missing.end(item),
            Some(failure) if failure.class.is_confirmed_gone() => {
                missing.note(item, Seen { failure: failure.clone(), vault }, BootTime::now());
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reference::Reference;
    use crate::host::clock::simulated::pass;
    use crate::ipc::Class;

    #[test]
    fn what_ends_a_memory() {
        let item = Reference::parse("op://v/i/f").unwrap().item;
        let gone = Failure::new(Class::NotFound, "no item", "create it");
        let vault = |version| Some(("id".to_owned(), Some(version)));
        let missing = MissingItems::default();
        missing.note(&item, Some(&gone), vault(1));
        pass(Duration::from_secs(2));
        let known = missing.known(&item, None, None).expect("remembered");
        assert_eq!((known.class, known.retry_after.map(|left| left.as_secs())), (Class::NotFound, Some(2)));
        assert!(
            known.remedy.contains("not found 2 s ago") && known.remedy.contains("onecred reload"),
            "{known}"
        );
        let is_known = |vault: Option<VaultSeen>, age: Option<u64>| {
            missing.known(&item, vault.as_ref(), age.map(Duration::from_secs)).is_some()
        };
        for (vault, age, expected, case) in [
            (Some(vault(1)), None, true, "the vault is as it was"),
            (Some(vault(2)), None, false, "the vault has changed"),
            (Some(None), None, false, "the vault is gone"),
            (None, Some(3), true, "a reload before it was seen"),
            (None, Some(1), false, "a reload since"),
            (None, Some(0), false, "an administrator's order"),
        ] {
            assert_eq!(is_known(vault, age), expected, "{case}");
        }
        missing.note(&item, Some(&Failure::new(Class::Away, "", "")), None);
        assert!(is_known(None, None), "an outage says nothing");
        missing.note(&item, None, None);
        assert!(!is_known(None, None), "it was found");
    }
}
