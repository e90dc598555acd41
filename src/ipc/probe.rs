//! The question what a token gives access to. Neither the question nor the answer contains a value, and no
//! message contains a token.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounded;
use crate::domain::name::SourceName;

/// Asks what the token of a source gives access to: the configured token, or one that is sent along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The source.
    pub source: SourceName,
    /// The fingerprint of the source's definition.
    pub print: String,
    /// See [`Fetch::definition`](super::Fetch::definition). It is used for this question only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// How long to wait for an answer.
    pub patience: Duration,
}

/// What a token gives access to. Unknown facts are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The host of the account, or the URL of the server.
    pub at: String,
    /// The vaults that the token can read.
    #[serde(deserialize_with = "bounded::vec")]
    pub vaults: Vec<ProbedVault>,
    /// Whether it can change anything in them.
    pub writes: Option<bool>,
    /// When it expires, in seconds since the Unix epoch.
    pub expires: Option<u64>,
    /// The calls to the source, if they are counted.
    pub spent: Option<Spent>,
}

/// A vault that a token can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedVault {
    /// Its name.
    pub name: String,
    /// Its ID.
    pub id: String,
    /// The number of its items.
    pub items: Option<u64>,
}

/// The calls that were made, and the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Calls within the last hour.
    pub hour: u32,
    /// Calls within the last 24 hours.
    pub day: u32,
    /// The budget of this machine for 24 hours.
    pub budget: u32,
}

impl Probed {
    /// The answer without control characters, because the resolver may send anything.
    pub(crate) fn sanitized(mut self) -> Self {
        let names = self.vaults.iter_mut().flat_map(|vault| [&mut vault.name, &mut vault.id]);
        for text in names.chain([&mut self.at]) {
            *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        }
        self
    }
}
