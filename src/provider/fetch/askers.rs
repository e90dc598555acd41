//! The units and users that ask, as the resolver sees them: each has a number and a purpose. Also remembers
//! askers whose budget share is used up.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::name::SourceName;
use crate::domain::reference::FieldRef;
use crate::host::clock::BootTime;
use crate::host::pauses::Pauses;
use crate::ipc::{self, Failure, Purpose, Spender};
use crate::provider::base::asker::Asker;
use crate::provider::base::item_key::ItemKey;

/// The maximum number of entries of each table.
const MOST: usize = 10_000;
/// The minimum time that an asker must wait when its share is used up.
const LEAST_WAIT: Duration = Duration::from_secs(10);
/// How often the consumers with the most calls are logged for one source and asker.
const LOGGED_EVERY: Duration = Duration::from_secs(3600);
/// The name of onecred and its administrators in the list of consumers.
const OWN: &str = "onecred and root";

/// What is remembered of askers.
#[derive(Debug)]
pub(super) struct Askers(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    names: HashMap<u64, String>,
    /// The numbers of units, each with a digest of a field that the unit received, or was refused for a
    /// lasting reason.
    answered: HashSet<(u64, u64)>,
    hasher: RandomState,
    /// Until when an asker's share of a source is used up.
    limited: HashMap<(SourceName, ipc::ShareOwner), (BootTime, Failure)>,
    logged: Pauses<(SourceName, u64), ()>,
}

impl Default for Askers {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            names: HashMap::new(),
            answered: HashSet::new(),
            hasher: RandomState::new(),
            limited: HashMap::new(),
            logged: Pauses::new(LOGGED_EVERY, LOGGED_EVERY, MOST),
        }))
    }
}

impl Askers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The form of an asker for the resolver. `number` returns the opaque number of a name; `field` is what
    /// is fetched, if it is a single field.
    pub(super) fn wire(
        &self,
        asker: &Asker,
        number: impl Fn(&str) -> u64,
        field: Option<(&ItemKey, &FieldRef)>,
    ) -> ipc::ShareOwner {
        let class = match asker {
            Asker::Onecred => Purpose::Background,
            Asker::Admin | Asker::Start(_) => Purpose::Start,
            Asker::BusUnit(_) | Asker::BusUser(_) => Purpose::Bus,
        };
        let Some(name) = asker.consumer() else { return ipc::ShareOwner { share: 0, class } };
        let share = number(&name).max(1);
        let mut inner = self.lock();
        let is_first = matches!(asker, Asker::Start(_))
            && field.is_some_and(|field| !inner.answered.contains(&(share, inner.hasher.hash_one(field))));
        if inner.names.len() >= MOST && !inner.names.contains_key(&share) {
            inner.names.clear(); // their names are stored again when they ask again
        }
        inner.names.entry(share).or_insert(name);
        ipc::ShareOwner { share, class: if is_first { Purpose::FirstStart } else { class } }
    }

    /// Records that a unit received a field, or was refused the field for a lasting reason. From now on, its
    /// requests for the field no longer have priority.
    pub(super) fn answered(&self, unit: &str, number: impl Fn(&str) -> u64, field: (&ItemKey, &FieldRef)) {
        let mut inner = self.lock();
        let answer = (number(unit).max(1), inner.hasher.hash_one(field));
        if inner.answered.len() >= MOST * 10 && !inner.answered.contains(&answer) {
            inner.answered.clear();
        }
        inner.answered.insert(answer);
    }

    /// Whether any asker's share of any source is used up.
    pub(super) fn is_any_limited(&self) -> bool {
        !self.lock().limited.is_empty()
    }

    /// Why an asker may not cause calls to a source now.
    pub(super) fn limited(
        &self,
        source: &SourceName,
        asker: ipc::ShareOwner,
        now: BootTime,
    ) -> Option<Failure> {
        let inner = self.lock();
        let (until, failure) = inner.limited.get(&(source.clone(), asker))?;
        let left = now.age(*until);
        (!left.is_zero()).then(|| failure.clone().retry_after(left))
    }

    /// Records that an asker's share of a source is used up.
    pub(super) fn limit(
        &self,
        source: &SourceName,
        asker: ipc::ShareOwner,
        failure: &Failure,
        now: BootTime,
    ) {
        let until = now.after(failure.retry_after.unwrap_or_default().max(LEAST_WAIT));
        let mut inner = self.lock();
        inner.limited.retain(|_, (until, _)| !now.age(*until).is_zero());
        if inner.limited.len() < MOST {
            inner.limited.insert((source.clone(), asker), (until, failure.clone()));
        }
    }

    /// Removes all limits, because sources may have another definition now.
    pub(super) fn forget_limits(&self) {
        self.lock().limited.clear();
    }

    /// Whether to log the consumers with the most calls, now that this asker is limited.
    pub(super) fn is_to_log(&self, source: &SourceName, asker: ipc::ShareOwner, now: BootTime) -> bool {
        let (mut inner, key) = (self.lock(), (source.clone(), asker.share));
        let is_due = inner.logged.present(&key, now).is_none();
        if is_due {
            inner.logged.note(&key, (), now);
        }
        is_due
    }

    /// The name of a unit or user by its number.
    pub(super) fn name(&self, share: u64) -> Option<String> {
        match share {
            0 => Some(OWN.to_owned()),
            _ => self.lock().names.get(&share).cloned(),
        }
    }

    /// The consumers with their names and calls.
    pub(super) fn named(&self, spenders: &[Spender]) -> Vec<(String, u32)> {
        let unknown = || "not seen since onecred.service started".to_owned();
        spenders.iter().map(|it| (self.name(it.share).unwrap_or_else(unknown), it.calls)).collect()
    }
}

/// Formats consumers and their calls as text.
pub(super) fn in_words(spenders: &[(String, u32)]) -> String {
    let mut seen = BTreeSet::new();
    let words = spenders.iter().filter(|(name, _)| seen.insert(name));
    words.map(|(name, calls)| format!("{name} {calls}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::UnitName;
    use crate::ipc::Class;
    use crate::provider::store::testing;

    fn number(name: &str) -> u64 {
        name.len() as u64
    }

    #[test]
    fn what_comes_first_and_what_does_not() {
        let askers = Askers::default();
        let unit = Asker::Start(UnitName::parse("app.service").unwrap());
        let (key, field) = (testing::key("i"), testing::field("f"));
        let class = |asker: &Asker| {
            let wire = askers.wire(asker, number, Some((&key, &field)));
            (wire.share, wire.class)
        };
        assert_eq!(class(&unit), (11, Purpose::FirstStart));
        askers.answered("app.service", number, (&key, &field));
        assert_eq!(class(&unit), (11, Purpose::Start));
        let other = testing::field("other");
        assert_eq!(askers.wire(&unit, number, Some((&key, &other))).class, Purpose::FirstStart);
        assert_eq!(askers.wire(&unit, number, None).class, Purpose::Start, "a check");
        assert_eq!(class(&Asker::Admin), (0, Purpose::Start));
        assert_eq!(class(&Asker::Onecred), (0, Purpose::Background));
        assert_eq!(class(&Asker::BusUser(1000)), (9, Purpose::Bus));
        let spenders = [(11, 30), (0, 9), (9, 2), (5, 1)].map(|(share, calls)| Spender { share, calls });
        let words = in_words(&askers.named(&spenders));
        let expected =
            "app.service 30, onecred and root 9, user 1000 2, not seen since onecred.service started 1";
        assert_eq!(words, expected);
    }

    #[test]
    fn a_limit_is_of_one_asker_and_ends() {
        let (askers, now) = (Askers::default(), BootTime::now());
        let source = SourceName::default_source();
        let asker = |share| ipc::ShareOwner { share, class: Purpose::Bus };
        let failure = Failure::new(Class::Limited, "c", "r").retry_after(Duration::from_secs(60));
        askers.limit(&source, asker(1), &failure, now);
        let later = now.after(Duration::from_secs(20));
        let left = askers.limited(&source, asker(1), later).and_then(|failure| failure.retry_after);
        assert_eq!(left, Some(Duration::from_secs(40)));
        assert_eq!(askers.limited(&source, asker(2), later), None);
        assert_eq!(askers.limited(&source, asker(1), now.after(Duration::from_secs(60))), None);
        assert!(askers.is_to_log(&source, asker(1), now) && !askers.is_to_log(&source, asker(1), later));
    }
}
