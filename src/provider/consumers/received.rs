//! Records which version of each secret every running unit has received. Pure.
//!
//! A record belongs to one invocation of a unit and ends with it. It contains digests, not values. The next
//! provider process continues with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::host::clock::BootTime;
use crate::host::systemd::invocation::Invocation;
use crate::provider::fetch::assemble::Part;
use crate::provider::store::Digest;

/// The maximum number of units that are remembered. Beyond that, those that received something most recently
/// are kept.
const MOST_UNITS: usize = 4096;
/// The maximum number of secrets per unit that are remembered.
const MOST_SECRETS: usize = 256;

/// What running units received.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Received(BTreeMap<String, Run>);

/// What one invocation of a unit received.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    invocation: Invocation,
    /// When it last received something.
    at: BootTime,
    /// Values by the label of the secret in the configuration.
    secrets: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Value {
    digest: Digest,
    version: u64,
}

/// Which value of a secret an invocation of a unit has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Has {
    /// The current value.
    Current,
    /// Unknown: it reads a published file, or received the value before this was recorded.
    Unknown,
    /// A value other than the current one.
    Other,
}

impl Received {
    /// Records what an invocation of a unit received.
    pub(super) fn note(&mut self, unit: &str, invocation: &Invocation, parts: &[Part], at: BootTime) {
        if !self.0.contains_key(unit) && self.0.len() >= MOST_UNITS {
            let oldest = self.0.iter().min_by_key(|(_, run)| run.at).map(|(unit, _)| unit.clone());
            oldest.and_then(|unit| self.0.remove(&unit));
        }
        let new = || Run { invocation: invocation.clone(), at, secrets: BTreeMap::new() };
        let run = self.0.entry(unit.to_owned()).or_insert_with(new);
        if run.invocation != *invocation {
            *run = new();
        }
        run.at = at;
        for part in parts {
            let Some(digest) = part.digest else { continue };
            if run.secrets.len() < MOST_SECRETS || run.secrets.contains_key(&part.name) {
                run.secrets.insert(part.name.clone(), Value { digest, version: part.version });
            }
        }
    }

    /// All units and their invocations.
    pub(super) fn invocations(&self) -> Vec<(String, Invocation)> {
        self.0.iter().map(|(unit, run)| (unit.clone(), run.invocation.clone())).collect()
    }

    /// Removes invocations that have ended. Returns whether there were any.
    pub(super) fn forget(&mut self, ended: &[(String, Invocation)]) -> bool {
        let before = self.0.len();
        for (unit, invocation) in ended {
            if self.0.get(unit).is_some_and(|run| run.invocation == *invocation) {
                self.0.remove(unit);
            }
        }
        self.0.len() < before
    }

    /// Whether any unit received a secret.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.values().any(|run| run.secrets.contains_key(name))
    }

    /// Which value of a secret or template an invocation of a unit has. `parts` are the names and current
    /// digests of its parts.
    pub(super) fn has(&self, unit: &str, invocation: &str, parts: &[(String, Option<Digest>)]) -> Has {
        let Some(run) = self.0.get(unit).filter(|run| run.invocation == invocation) else {
            return Has::Unknown;
        };
        let each = parts.iter().map(|(name, current)| match run.secrets.get(name) {
            Some(value) if Some(value.digest) == *current => Has::Current,
            Some(_) => Has::Other,
            None => Has::Unknown,
        });
        each.fold(Has::Current, |all, one| match (all, one) {
            (Has::Other, _) | (_, Has::Other) => Has::Other,
            (Has::Unknown, _) | (_, Has::Unknown) => Has::Unknown,
            _ => Has::Current,
        })
    }

    /// The units that have a value of a secret other than the current one, with their invocations and the
    /// versions of their values.
    pub(super) fn others(&self, name: &str, current: Digest) -> Vec<(String, Invocation, u64)> {
        let other = |(unit, run): (&String, &Run)| {
            let value = run.secrets.get(name).filter(|value| value.digest != current)?;
            Some((unit.clone(), run.invocation.clone(), value.version))
        };
        self.0.iter().filter_map(other).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, digest: u8) -> Part {
        Part { name: name.into(), digest: Some(Digest::testing(digest)), version: digest.into() }
    }

    fn current(parts: &[(&str, u8)]) -> Vec<(String, Option<Digest>)> {
        let digest = |digest: u8| (digest > 0).then(|| Digest::testing(digest));
        parts.iter().map(|(name, number)| ((*name).to_owned(), digest(*number))).collect()
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::default().after(std::time::Duration::from_secs(seconds))
    }

    fn one() -> Received {
        let mut received = Received::default();
        received.note("app", &"1".into(), &[part("db", 1), part("key", 5)], at(1));
        received
    }

    #[test]
    fn each_unit_has_one_invocation() {
        let mut received = one();
        received.note("web", &"7".into(), &[part("db", 1)], at(2));
        received.note("app", &"2".into(), &[part("db", 1)], at(3));
        let mut invocations = received.invocations();
        invocations.sort();
        assert_eq!(invocations, [("app".to_owned(), "2".into()), ("web".to_owned(), "7".into())]);
    }

    #[test]
    fn a_unit_has_the_current_value_or_another_one() {
        for (case, unit, invocation, parts, expected) in [
            ("the same value", "app", "1", &[("db", 1)][..], Has::Current),
            ("another value", "app", "1", &[("db", 2)], Has::Other),
            ("no value any more", "app", "1", &[("db", 0)], Has::Other),
            ("another invocation", "app", "2", &[("db", 2)], Has::Unknown),
            ("another unit", "web", "1", &[("db", 2)], Has::Unknown),
            ("a secret that it did not ask for", "app", "1", &[("other", 2)], Has::Unknown),
            ("a template of the same values", "app", "1", &[("db", 1), ("key", 5)], Has::Current),
            ("a template of which one value changed", "app", "1", &[("db", 1), ("key", 6)], Has::Other),
            ("a template of which one is not known", "app", "1", &[("db", 1), ("x", 6)], Has::Unknown),
            (
                "a template of which one is not known, one changed",
                "app",
                "1",
                &[("x", 6), ("db", 2)],
                Has::Other,
            ),
        ] {
            assert_eq!(one().has(unit, invocation, &current(parts)), expected, "{case}");
        }
    }

    #[test]
    fn the_last_value_of_an_invocation_counts() {
        let mut received = one();
        received.note("app", &"1".into(), &[part("db", 2)], at(2));
        assert_eq!(received.has("app", "1", &current(&[("db", 2), ("key", 5)])), Has::Current);
        assert_eq!(received.others("db", Digest::testing(3)), [("app".to_owned(), "1".to_owned(), 2)]);
        assert_eq!(received.others("db", Digest::testing(2)), []);
        received.note("app", &"2".into(), &[part("key", 5)], at(3));
        assert_eq!(received.has("app", "2", &current(&[("db", 2)])), Has::Unknown, "it did not ask for it");
        assert!(received.knows("key") && !received.knows("db"));
    }

    #[test]
    fn an_invocation_that_ended_is_forgotten() {
        let mut received = one();
        let ended = received.invocations();
        received.note("app", &"2".into(), &[part("db", 2)], at(2));
        assert!(!received.forget(&ended), "another one has begun");
        assert!(received.forget(&[("app".into(), "2".into())]));
        assert_eq!(received, Received::default());
    }

    #[test]
    fn the_number_of_units_and_secrets_is_bounded() {
        let mut received = Received::default();
        for n in 0..=MOST_UNITS {
            received.note(&format!("app-{n}"), &"1".into(), &[part("db", 1)], at(n as u64));
        }
        assert_eq!(received.0.len(), MOST_UNITS);
        assert!(!received.0.contains_key("app-0") && received.0.contains_key("app-1"), "the oldest goes");
        for n in 0..=MOST_SECRETS {
            received.note("app-1", &"1".into(), &[part(&format!("secret-{n}"), 1)], at(1));
        }
        assert_eq!(received.0["app-1"].secrets.len(), MOST_SECRETS);
        received.note("app-1", &"1".into(), &[part("db", 2)], at(1));
        assert_eq!(received.has("app-1", "1", &current(&[("db", 2)])), Has::Current);
    }

    #[test]
    fn the_next_provider_continues_with_it() {
        let bytes = serde_json::to_vec(&one()).unwrap();
        assert_eq!(serde_json::from_slice::<Received>(&bytes).unwrap(), one());
    }
}
