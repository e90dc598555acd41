//! What the two halves say to each other: the questions, the answers, and the classes of failure. Nothing else do they share.
//!
//! One connection carries one question and one answer, so an answer can only count for the flight that asked. Each is one packet
//! with sealed memfds (see [`packet`]): metadata as JSON, values as bytes, so that no value is ever part of a message.

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

pub use asker::{Asker, Purpose, Spender};
pub use probe::{Probe, Probed, ProbedVault, Spent};
pub use status::{QuotaStatus, SourceState, SourceStatus, Status};

/// The longest time that a failure can ask to be left alone.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What the provider asks, or an administrator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Values of one item.
    Fetch(Fetch),
    /// Whether items that it knows have changed.
    Check(Check),
    /// What a token is good for: the one in place, or one that comes in the place of values.
    Probe(Probe),
    /// How the sources are.
    Status,
    /// The same of these sources, which the provider has. A resolver before this question closes the connection.
    StatusOf(Declarations),
}

/// A source as the provider's active configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The fingerprint of its definition.
    pub print: String,
    /// The definition; see [`Fetch::definition`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// Sources by their names, as the provider has them.
pub type Declarations = BTreeMap<SourceName, Declared>;

/// Asks for values of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The source that resolves it.
    pub source: SourceName,
    /// The fingerprint of the source's definition, as the provider has it: the halves read the configuration each for itself, and
    /// what the resolver has under that name may just be something else.
    pub print: String,
    /// The definition as JSON, opaque here. The resolver works by it if its own reading of the configuration differs: the files may have changed
    /// since the provider read them, or have errors now. A resolver that does not know this key, or can't read it, has its own reading only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// The item.
    pub item: ItemRef,
    /// Its IDs, where an earlier answer told them: then one call is enough.
    pub known: Option<ItemId>,
    /// The version of it that the asker has, if any: a server that has an older one is behind.
    #[serde(default)]
    pub version: Option<u64>,
    /// What is wanted of it.
    pub fields: Vec<FieldRef>,
    /// What was not found this long ago, or longer, is looked up again instead of answered from memory: the configuration was reloaded since, or
    /// an administrator orders it now (zero). A resolver that does not know this key looks again when its own pause ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_again: Option<Duration>,
    /// For whom it is.
    #[serde(default, deserialize_with = "Asker::tolerant")]
    pub asker: Asker,
    /// How long an answer is waited for; the resolver gives up by itself before.
    pub patience: Duration,
}

/// An item's place in 1Password, by IDs.
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
    /// Where the item is.
    pub id: ItemId,
    /// Its version.
    pub version: u64,
    /// The version of its vault's content at that time, where the source has one; never newer than the values.
    pub vault_version: Option<u64>,
    /// One outcome for each field asked for, in that order.
    pub fields: Vec<Result<FetchedValue, Failure>>,
}

/// One value.
#[derive(Debug)]
pub struct FetchedValue {
    /// The bytes.
    pub value: SecretValue,
    /// When it stops being right, in seconds of the Unix epoch: a one-time password's end.
    pub expires: Option<u64>,
}

/// Asks whether items have changed; costs as few calls as the source makes possible, and brings no values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The source of all of them.
    pub source: SourceName,
    /// The fingerprint of the source's definition.
    pub print: String,
    /// See [`Fetch::definition`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// What is known of each.
    pub items: Vec<Known>,
    /// For whom it is.
    #[serde(default, deserialize_with = "Asker::tolerant")]
    pub asker: Asker,
    /// How long an answer is waited for.
    pub patience: Duration,
}

/// An item as a snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// How it is referred to: it must still mean the same item.
    pub item: ItemRef,
    /// Which item that was.
    pub id: ItemId,
    /// Its version then.
    pub version: u64,
    /// Its vault's content version then.
    pub vault_version: Option<u64>,
}

/// One answer for each item of a [`Check`], in that order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The outcomes.
    #[serde(deserialize_with = "bounded::vec")]
    pub items: Vec<ItemState>,
}

impl Checked {
    /// The answer with failures as they may be logged, whoever sent it.
    pub(crate) fn sanitized(mut self) -> Self {
        for state in &mut self.items {
            if let ItemState::Gone(failure) | ItemState::Unknown(failure) = state {
                *failure = failure.clone().sanitized();
            }
        }
        self
    }
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Nothing. Its vault's content has this version now.
    Unchanged {
        /// To be remembered for the next check.
        vault_version: Option<u64>,
    },
    /// It has another version, or its reference means another item now: it has to be fetched.
    Changed,
    /// 1Password confirms that it is gone, ambiguous or out of scope: what is left of it is to be forgotten.
    Gone(Failure),
    /// It can't be compared: the list makes no sense or is older than one that was seen before, or several items match by now, among them this one,
    /// unchanged.
    Unknown(Failure),
}

/// The classes of failure: what kind of thing went wrong decides what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// No such vault, item, section or field, or the field is of another kind than asked for.
    NotFound,
    /// Several vaults, items or fields match; none is picked.
    Several,
    /// The token is not accepted, or what it may see leaves this out.
    Denied,
    /// There is no token yet.
    NoToken,
    /// 1Password limits the calls; it may be asked later.
    Limited,
    /// 1Password could not be reached, or did not answer as it should for reasons that pass.
    Away,
    /// What came is not what 1Password sends.
    Malformed,
    /// A value or an answer goes over a limit.
    TooLarge,
    /// The configuration can't be served: no such source, or a kind that this build lacks.
    Misconfigured,
    /// The provider's own store can't be written. The resolver never answers this.
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

    /// Whether asking again later may help; such a request is held to its deadline.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Limited | Self::Away)
    }

    /// Whether 1Password itself has said that the thing is not there for us: then nothing old is served either.
    pub fn is_confirmed_gone(self) -> bool {
        matches!(self, Self::NotFound | Self::Several)
    }

    /// The class in one word, as the bus, the metrics and the journal's fields have it.
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

    /// The class in the words of the journal.
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

/// A failure: its class, the cause in words, and what to do. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class.
    pub class: Class,
    /// What is wrong, with what: lower case, no full stop.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
    /// When it makes sense to ask again, from now.
    pub retry_after: Option<Duration>,
    /// The token does not have the form of one, so that no server was asked.
    #[serde(default)]
    pub is_malformed_token: bool,
    /// It concerns one item alone: its source has answered.
    #[serde(default)]
    pub is_of_item: bool,
    /// It concerns whoever asked alone: what it may spend is spent, and others may still ask.
    #[serde(default)]
    pub is_of_asker: bool,
}

impl Failure {
    /// A failure that names no time to ask again.
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

    /// The same, with a time before which asking again is useless.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same, of a token that does not have the form of one.
    pub fn malformed_token(mut self) -> Self {
        self.is_malformed_token = true;
        self
    }

    /// The same, of one item alone.
    pub fn of_item(mut self) -> Self {
        self.is_of_item = true;
        self
    }

    /// The same, of whoever asked alone.
    pub fn of_asker(mut self) -> Self {
        self.is_of_asker = true;
        self
    }

    /// Whether the source itself has answered, rather than that it was not asked or something else answered for it.
    pub fn is_answer(&self) -> bool {
        let answered =
            matches!(self.class, Class::NotFound | Class::Several | Class::Denied | Class::TooLarge);
        (answered || self.is_of_item) && !self.is_malformed_token
    }

    /// The failure as it may be logged, whoever sent it: control characters out, cut to lengths fit for a line.
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

/// Whoever resolves items: the resolver behind its socket, or one in the same process.
pub trait Resolve: Send + Sync {
    /// Brings values of one item.
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched>;
    /// Tells what has changed.
    fn check(&self, check: Check) -> Pending<'_, Checked>;
    /// Tells what a token is good for: this one, or else the one in place.
    fn probe(&self, probe: Probe, _token: Option<SecretValue>) -> Pending<'_, Probed> {
        let cause = format!("source {} can't tell what its token is good for", probe.source);
        let failure = Failure::new(Class::Misconfigured, cause, "try it by a secret: onecred get");
        Box::pin(std::future::ready(Err(failure)))
    }
    /// Tells how the sources of these definitions are, without asking them anything.
    fn status(&self, _sources: Declarations) -> Pending<'_, Status> {
        Box::pin(std::future::ready(Ok(Status::default())))
    }
}
