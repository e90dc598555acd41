//! What a backend is: vaults, items and files by ID. All that a reference means is decided above it.

use std::future::Future;

use tokio::time::Instant;

use crate::domain::secret::SecretValue;
use crate::ipc::{Failure, ItemId};

use crate::resolver::items::model::{File, FullItem, ItemOverview, Vault};

/// What a backend knows without asking.
#[derive(Default)]
pub(super) struct About {
    /// The account's host, the server's URL, or the file.
    pub(super) at: String,
    /// Whether its token can change anything there.
    pub(super) writes: Option<bool>,
    /// When its token ends, in seconds of the Unix epoch.
    pub(super) expires: Option<u64>,
}

/// A place with vaults in Connect's shapes. Every call gives up by itself at the moment `by`.
///
/// A failure that tells that something is gone ([`Class::NotFound`](crate::ipc::Class::NotFound)) is said only where the
/// backend itself has answered so.
pub(super) trait Backend: Send + Sync + 'static {
    /// Whether a call costs something: a request over a network, or a part of a quota.
    const CALLS_COST: bool;

    /// Whether versions are numbers that 1Password only ever raises. Then a lower one than was seen before tells that the server has not
    /// synchronised, and nothing that it says of that vault or item is news.
    const VERSIONS_GROW: bool;

    /// Whom vaults are granted to there, in the plural; none where all can be read.
    const HOLDERS: Option<&'static str>;

    /// Where it is, and what its token tells of itself.
    fn about(&self) -> About;

    /// All vaults that can be seen.
    fn vaults(&self, by: Instant) -> impl Future<Output = Result<Vec<Vault>, Failure>> + Send;

    /// All items of a vault, archived and deleted ones included where it tells them.
    fn items(
        &self,
        vault: &str,
        by: Instant,
    ) -> impl Future<Output = Result<Vec<ItemOverview>, Failure>> + Send;

    /// One item, and no other than the one asked for.
    fn item(&self, id: &ItemId, by: Instant) -> impl Future<Output = Result<FullItem, Failure>> + Send;

    /// The content of one of an item's files.
    fn file(
        &self,
        id: &ItemId,
        file: &File,
        by: Instant,
    ) -> impl Future<Output = Result<SecretValue, Failure>> + Send;
}
