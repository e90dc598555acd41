//! The protocol between provider and resolver: questions, answers and classes of failure. The two processes
//! share nothing else.
//!
//! Each connection carries one question and one answer, so an answer cannot be attributed to another
//! question. Both are single packets with sealed memfds (see [`packet`]). Metadata is JSON; values are bytes
//! in a separate memfd, so messages never contain a value.

mod asker;
pub(crate) mod bounded;
pub mod client;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/rules/ipc.rs"]
pub(crate) mod fuzz;
pub mod packet;
mod probe;
pub mod server;
mod status;
mod turns;
pub mod version;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::name::SourceName;
use crate::domain::reference::{FieldRef, ItemRef};
use crate::domain::secret::SecretValue;

pub use asker::{Purpose, ShareOwner, Spender};
pub use probe::{Probe, Probed, ProbedVault, Spent};
pub use status::{QuotaStatus, SourceState, SourceStatus, Status};

/// The longest pause that a failure can demand.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A question of the provider or of an administrator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Asks for values of one item.
    Fetch(Fetch),
    /// Asks whether known items have changed.
    Check(Check),
    /// Asks what a token gives access to: the configured token, or a token in the question.
    Probe(Probe),
    /// Asks for the state of all sources.
    Status,
    /// Asks for the state of these sources, as the provider has them. Older resolvers do not know it and
    /// close the connection.
    StatusOf(Declarations),
}

/// A source as the provider's active configuration defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The fingerprint of its definition.
    pub print: String,
    /// The definition; see [`Fetch::definition`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// The provider's sources by name.
pub type Declarations = BTreeMap<SourceName, Declared>;

/// Asks for values of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The source to ask.
    pub source: SourceName,
    /// The fingerprint of the provider's definition of the source. Both processes read the configuration
    /// files separately, so the resolver may have another definition under the same name.
    pub print: String,
    /// The definition as JSON, opaque to the protocol. The resolver uses it if its own configuration differs:
    /// the files may have changed after the provider read them, or contain errors now. A resolver that does
    /// not know this key or cannot parse it uses only its own configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// The item.
    pub item: ItemRef,
    /// Its IDs, if an earlier answer contained them: then one call is enough.
    pub known: Option<ItemId>,
    /// The version that the provider has, if any. A server with a lower version is out of date.
    #[serde(default)]
    pub version: Option<u64>,
    /// The fields to return.
    pub fields: Vec<FieldRef>,
    /// Look up again what was not found at least this long ago, instead of answering from memory: the
    /// configuration was reloaded since then, or an administrator requests it now (zero). A resolver that
    /// does not know this key looks again when its own pause ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_again: Option<Duration>,
    /// On whose behalf the question is asked.
    #[serde(default, deserialize_with = "ShareOwner::tolerant")]
    pub asker: ShareOwner,
    /// How long the provider waits for an answer. The resolver gives up earlier.
    pub patience: Duration,
}

/// The location of an item in 1Password, by IDs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemId {
    /// The vault's ID.
    pub vault: String,
    /// The item's ID.
    pub item: String,
}

/// Values of one item.
#[derive(Debug)]
pub struct Fetched {
    /// The location of the item.
    pub id: ItemId,
    /// The version of the item.
    pub version: u64,
    /// The content version of the vault at that time, if the source has one. It is never newer than the
    /// values.
    pub vault_version: Option<u64>,
    /// One outcome per requested field, in the same order.
    pub fields: Vec<Result<FetchedValue, Failure>>,
}

/// One value.
#[derive(Debug)]
pub struct FetchedValue {
    /// The bytes.
    pub value: SecretValue,
    /// When the value expires, in seconds since the Unix epoch, for a one-time password.
    pub expires: Option<u64>,
}

/// Asks whether items have changed. Uses as few calls as the source allows and returns no values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The source of all the items.
    pub source: SourceName,
    /// The fingerprint of the source's definition.
    pub print: String,
    /// See [`Fetch::definition`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// The items, as the provider knows them.
    pub items: Vec<Known>,
    /// On whose behalf the question is asked.
    #[serde(default, deserialize_with = "ShareOwner::tolerant")]
    pub asker: ShareOwner,
    /// How long the provider waits for an answer.
    pub patience: Duration,
}

/// An item as a snapshot contains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its reference, which must still match the same item.
    pub item: ItemRef,
    /// The item that the reference matched.
    pub id: ItemId,
    /// Its version at that time.
    pub version: u64,
    /// The content version of its vault at that time.
    pub vault_version: Option<u64>,
}

/// One state per item of a [`Check`], in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The states.
    #[serde(deserialize_with = "bounded::vec")]
    pub items: Vec<ItemState>,
}

impl Checked {
    /// The answer with all failures made safe to log, because the resolver may send anything.
    pub(crate) fn sanitized(mut self) -> Self {
        for state in &mut self.items {
            if let ItemState::Gone(failure) | ItemState::Unknown(failure) = state {
                *failure = failure.clone().sanitized();
            }
        }
        self
    }
}

/// The state of an item compared with its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// The item has not changed. Contains the current content version of its vault.
    Unchanged {
        /// To be stored for the next check.
        vault_version: Option<u64>,
    },
    /// It has another version, or its reference now matches another item: it must be fetched.
    Changed,
    /// 1Password confirms that it is deleted, ambiguous or inaccessible: its snapshot must be deleted.
    Gone(Failure),
    /// It cannot be compared: the list is invalid or older than an earlier one, or several items match now,
    /// and this item is among them, unchanged.
    Unknown(Failure),
}

/// The class of a failure, which determines how to react to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The vault, item, section or field does not exist, or the field has another type than requested.
    NotFound,
    /// Several vaults, items or fields match; none is chosen.
    Several,
    /// The token is rejected, or gives no access to the vault or item.
    Denied,
    /// The token is missing.
    NoToken,
    /// 1Password limits the calls; a later call may succeed.
    Limited,
    /// 1Password could not be reached, or failed temporarily.
    Away,
    /// The answer is not a valid answer of 1Password.
    Malformed,
    /// A value or an answer exceeds a limit.
    TooLarge,
    /// The configuration cannot be used: the source does not exist, or has a type that this build does not
    /// support.
    Misconfigured,
    /// The provider's own store cannot be written. The resolver never returns this class.
    Store,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 10] = [
        Self::NotFound,
        Self::Several,
        Self::Denied,
        Self::NoToken,
        Self::Limited,
        Self::Away,
        Self::Malformed,
        Self::TooLarge,
        Self::Misconfigured,
        Self::Store,
    ];

    /// Whether a later attempt may succeed. A request that fails this way waits until its deadline.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Limited | Self::Away)
    }

    /// Whether 1Password itself has confirmed that the value does not exist for this token. Then cached
    /// values are not served either.
    pub fn is_confirmed_gone(self) -> bool {
        matches!(self, Self::NotFound | Self::Several)
    }

    /// The identifier of the class on D-Bus, in metrics and in journal fields.
    pub fn kind(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Several => "several",
            Self::Denied => "denied",
            Self::NoToken => "no-token",
            Self::Limited => "limited",
            Self::Away => "away",
            Self::Malformed => "malformed",
            Self::TooLarge => "too-large",
            Self::Misconfigured => "misconfigured",
            Self::Store => "store",
        }
    }

    /// The description of the class for journal messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Several => "several",
            Self::Denied => "denied",
            Self::NoToken => "no token",
            Self::Limited => "rate limited",
            Self::Away => "away",
            Self::Malformed => "malformed",
            Self::TooLarge => "too large",
            Self::Misconfigured => "misconfigured",
            Self::Store => "store",
        }
    }
}

/// A failure: its class, cause and remedy. It never contains a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class.
    pub class: Class,
    /// The cause: what is wrong with what, in lower case and without a full stop.
    pub cause: String,
    /// The remedy.
    pub remedy: String,
    /// How long to wait before asking again.
    pub retry_after: Option<Duration>,
    /// The token does not have the form of a token, so no server was asked.
    #[serde(default)]
    pub is_malformed_token: bool,
    /// The failure concerns only one item; the source itself has answered.
    #[serde(default)]
    pub is_of_item: bool,
    /// The failure concerns only this asker: its share of the budget is used up, but others may still ask.
    #[serde(default)]
    pub is_of_asker: bool,
}

impl Failure {
    /// A failure without a time to wait.
    pub fn new(class: Class, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            class,
            cause: cause.into(),
            remedy: remedy.into(),
            retry_after: None,
            is_malformed_token: false,
            is_of_item: false,
            is_of_asker: false,
        }
    }

    /// Sets how long to wait before asking again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Marks the failure as caused by a token that does not have the form of a token.
    pub fn malformed_token(mut self) -> Self {
        self.is_malformed_token = true;
        self
    }

    /// Marks the failure as concerning one item only.
    pub fn of_item(mut self) -> Self {
        self.is_of_item = true;
        self
    }

    /// Marks the failure as concerning this asker only.
    pub fn of_asker(mut self) -> Self {
        self.is_of_asker = true;
        self
    }

    /// Whether the source itself has answered. Otherwise it was not asked, or another server answered
    /// instead.
    pub fn is_answer(&self) -> bool {
        let answered =
            matches!(self.class, Class::NotFound | Class::Several | Class::Denied | Class::TooLarge);
        (answered || self.is_of_item) && !self.is_malformed_token
    }

    /// Makes the failure safe to log, because its sender may send anything: removes control characters and
    /// limits its length.
    pub(crate) fn sanitized(mut self) -> Self {
        for text in [&mut self.cause, &mut self.remedy] {
            *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
        }
        self.retry_after = self.retry_after.map(|wait| wait.min(LONGEST_WAIT));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.class.as_str(), self.cause, self.remedy)
    }
}

impl std::error::Error for Failure {}

/// A pending answer.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Resolves items: the resolver behind its socket, or one in the same process.
pub trait Resolve: Send + Sync {
    /// Returns values of one item.
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched>;
    /// Returns which items have changed.
    fn check(&self, check: Check) -> Pending<'_, Checked>;
    /// Returns what a token gives access to: this token, or the configured one.
    fn probe(&self, probe: Probe, _token: Option<SecretValue>) -> Pending<'_, Probed> {
        let cause = format!("source {} can't report what its token gives access to", probe.source);
        let failure = Failure::new(Class::Misconfigured, cause, "test it with a secret: onecred get");
        Box::pin(std::future::ready(Err(failure)))
    }
    /// Returns the state of the sources of these definitions without contacting them.
    fn status(&self, _sources: Declarations) -> Pending<'_, Status> {
        Box::pin(std::future::ready(Ok(Status::default())))
    }
}
