//! The question of what a token is good for. It brings no value, and no token is ever part of a message or an answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounded;
use crate::domain::name::SourceName;

/// Asks what a source's token reaches: the one in place, or one that comes along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The source.
    pub source: SourceName,
    /// The fingerprint of the source's definition.
    pub print: String,
    /// See [`Fetch::definition`](super::Fetch::definition). It counts for this question only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// How long an answer is waited for.
    pub patience: Duration,
}

/// What a token is good for. What can't be known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Where it goes: the account's host, or the server's URL.
    pub at: String,
    /// The vaults in its reach.
    #[serde(deserialize_with = "bounded::vec")]
    pub vaults: Vec<ProbedVault>,
    /// Whether it can change anything there.
    pub writes: Option<bool>,
    /// When it ends, in seconds of the Unix epoch.
    pub expires: Option<u64>,
    /// What the source has cost, where calls are counted.
    pub spent: Option<Spent>,
}

/// A vault in a token's reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedVault {
    /// Its name.
    pub name: String,
    /// Its ID.
    pub id: String,
    /// How many items it holds.
    pub items: Option<u64>,
}

/// Calls that were made, and may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Within the last hour.
    pub hour: u32,
    /// Within the last 24 hours.
    pub day: u32,
    /// The budget of this machine for 24 hours.
    pub budget: u32,
}

impl Probed {
    /// The answer as it may be shown, whoever sent it: without control characters.
    pub(crate) fn sanitized(mut self) -> Self {
        let names = self.vaults.iter_mut().flat_map(|vault| [&mut vault.name, &mut vault.id]);
        for text in names.chain([&mut self.at]) {
            *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        }
        self
    }
}
