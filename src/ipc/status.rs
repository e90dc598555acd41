//! The question of how the sources are. It is answered from memory: it asks 1Password nothing, and brings neither value nor token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Class, Failure, Spender, Spent, bounded};
use crate::domain::name::SourceName;

/// How all sources are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Each of them, by its name.
    #[serde(deserialize_with = "bounded::vec")]
    pub sources: Vec<SourceStatus>,
}

/// How a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: SourceName,
    /// The fingerprint of the definition that it was opened with.
    #[serde(default)]
    pub print: String,
    /// What it is, as the configuration writes it: `service-account`, `connect` or `file`.
    pub kind: String,
    /// Whether it can be asked.
    pub state: SourceState,
    /// Why the last call failed, unless it succeeded, or why it can't be asked at all.
    pub last_failure: Option<Failure>,
    /// When a call was last answered with success, in seconds of the Unix epoch.
    pub last_success: Option<u64>,
    /// Calls since the source was opened, by outcome: `ok`, or a [`Class`](super::Class) as the wire writes it (`not-found`). A login is one.
    pub calls: BTreeMap<String, u64>,
    /// What it may cost, where calls are counted.
    pub quota: Option<QuotaStatus>,
    /// The five consumers with the most calls of the last 24 hours, the first with most.
    #[serde(default, deserialize_with = "bounded::vec")]
    pub spenders: Vec<Spender>,
    /// The release of 1Password's core that is in use, or `unknown`; none before the first call.
    pub core: Option<String>,
}

/// Whether a source can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceState {
    /// It can.
    Ready,
    /// There is no token yet.
    NoToken,
    /// It is left alone for a while: 1Password limits its calls, or its budget is used up.
    Limited,
    /// Its token is not accepted, or its definition can't be used.
    Refused,
}

/// What a source may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// What was spent of which budget.
    pub spent: Spent,
    /// Calls that are left of it.
    pub left: u32,
    /// How many of the budget are kept for secrets that a unit can't start without: checks don't get them.
    pub kept_back: u32,
    /// Until when nothing is asked, in seconds of the Unix epoch.
    pub limited_until: Option<u64>,
}

impl SourceState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Ready, Self::NoToken, Self::Limited, Self::Refused];

    /// The state in one word, as the bus and the metrics have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            other => other.as_str(),
        }
    }

    /// The state in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NoToken => "no token",
            Self::Limited => "limited",
            Self::Refused => "refused",
        }
    }
}

impl Status {
    /// The answer as it may be shown and kept, whoever sent it: without control characters, and with the outcomes that there are alone.
    pub(crate) fn sanitized(mut self) -> Self {
        let plain = |text: &mut String| {
            *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(100).collect();
        };
        for source in &mut self.sources {
            plain(&mut source.kind);
            plain(&mut source.print);
            source.spenders.truncate(5);
            source.core.iter_mut().for_each(plain);
            source.last_failure = source.last_failure.take().map(Failure::sanitized);
            source.calls.retain(|outcome, _| {
                outcome == "ok" || Class::ALL.iter().any(|class| class.kind() == outcome)
            });
        }
        self
    }
}
