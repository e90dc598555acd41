//! The question about the state of the sources. It is answered from memory, without calls to 1Password, and
//! contains neither values nor tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Class, Failure, Spender, Spent, bounded};
use crate::domain::name::SourceName;

/// The state of all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// One state per source.
    #[serde(deserialize_with = "bounded::vec")]
    pub sources: Vec<SourceStatus>,
}

/// The state of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: SourceName,
    /// The fingerprint of the definition with which the source was opened.
    #[serde(default)]
    pub print: String,
    /// Its type, as in the configuration: `service-account`, `connect` or `file`.
    pub kind: String,
    /// Whether it can be used.
    pub state: SourceState,
    /// Why the last call failed, or why the source cannot be used; `None` if the last call succeeded.
    pub last_failure: Option<Failure>,
    /// The time of the last successful call, in seconds since the Unix epoch.
    pub last_success: Option<u64>,
    /// Calls since the source was opened, by outcome: `ok`, or a [`Class`](super::Class) in its serialized
    /// form (`not-found`). A login counts as a call.
    pub calls: BTreeMap<String, u64>,
    /// The budget, if calls are counted.
    pub quota: Option<QuotaStatus>,
    /// The five consumers with the most calls in the last 24 hours, in descending order.
    #[serde(default, deserialize_with = "bounded::vec")]
    pub spenders: Vec<Spender>,
    /// The release of 1Password's SDK library that is loaded, or `unknown`; `None` before the first call.
    pub core: Option<String>,
}

/// Whether a source can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceState {
    /// It can.
    Ready,
    /// The token is missing.
    NoToken,
    /// It is not asked for a while: 1Password limits its calls, or its budget is used up.
    Limited,
    /// Its token is rejected, or its definition cannot be used.
    Refused,
}

/// The budget of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// The calls that were made, and the budget.
    pub spent: Spent,
    /// The calls that remain.
    pub left: u32,
    /// The part of the budget that checks may not use: it is reserved for secrets that units need to start.
    pub kept_back: u32,
    /// Until when the source is not asked, in seconds since the Unix epoch.
    pub limited_until: Option<u64>,
}

impl SourceState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Ready, Self::NoToken, Self::Limited, Self::Refused];

    /// The identifier of the state on D-Bus and in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            other => other.as_str(),
        }
    }

    /// The description of the state.
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
    /// The answer without control characters and without unknown outcomes, because the resolver may send
    /// anything.
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
