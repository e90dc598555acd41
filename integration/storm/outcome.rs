//! The result of a request as systemd sees it, with counts.

use super::values::{value, version_of};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// What systemd would do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The unit starts with its value.
    Right,
    /// The unit does not start: the answer is larger than systemd accepts.
    Refused,
    /// The unit does not start: the answer is not authentic (at the sealed socket), or no connection was
    /// possible.
    Unopened,
    /// It would start with an empty value.
    Empty,
    /// It would start with a truncated value.
    Cut,
    /// It would start with its value and more.
    Doubled,
    /// It would start with something else.
    Foreign,
    /// It would start with an earlier version than before.
    Old,
}

impl Outcome {
    /// The results that must never occur.
    pub const WRONG: [Self; 5] = [Self::Empty, Self::Cut, Self::Doubled, Self::Foreign, Self::Old];

    /// The result of a start with these bytes. `least` is the version that was seen before.
    pub fn of(got: &[u8], unit: &str, id: &str, least: u64) -> Self {
        if got.is_empty() {
            return Self::Empty;
        }
        let version = version_of(got).unwrap_or(1);
        let right = value(unit, id, version);
        match got {
            _ if got == right && (version >= least || got.len() == 1) => Self::Right,
            _ if got == right => Self::Old,
            _ if right.starts_with(got) => Self::Cut,
            _ if got.starts_with(&right) => Self::Doubled,
            _ => Self::Foreign,
        }
    }

    /// The exit code of a unit that reports it.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The result that a unit's exit code reports; 243 is systemd's own for missing credentials.
    pub fn of_code(code: u8) -> Option<Self> {
        let all = [Self::Right, Self::Unopened].into_iter().chain(Self::WRONG);
        if code == 243 { Some(Self::Refused) } else { all.into_iter().find(|outcome| outcome.code() == code) }
    }
}

/// How often each result occurred.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counts(pub BTreeMap<Outcome, u64>);

impl Counts {
    /// Counts one.
    pub fn note(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(outcome, times)| *self.0.entry(*outcome).or_default() += times);
    }

    /// How often this result occurred.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0.get(&outcome).copied().unwrap_or_default()
    }

    /// The sum of all.
    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }

    /// The sum of those that must never occur.
    pub fn wrong(&self) -> u64 {
        Outcome::WRONG.into_iter().map(|outcome| self.of(outcome)).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |outcome| self.of(outcome);
        use Outcome::{Cut, Doubled, Empty, Foreign, Old, Refused, Right, Unopened};
        write!(
            f,
            "{} right, {} refused, {} unopened; {} empty, {} cut, {} doubled, {} foreign, {} old",
            of(Right),
            of(Refused),
            of(Unopened),
            of(Empty),
            of(Cut),
            of(Doubled),
            of(Foreign),
            of(Old)
        )
    }
}
