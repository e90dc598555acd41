//! The interface of a backend: vaults, items and files by ID. The layers above it interpret references.

use std::future::Future;

use tokio::time::Instant;

use crate::domain::secret::SecretValue;
use crate::ipc::{Failure, ItemId};

use crate::resolver::items::model::{File, FullItem, ItemOverview, Vault};

/// Facts that a backend knows without a call.
#[derive(Default)]
pub(super) struct About {
    /// The host of the account, the URL of the server, or the path of the file.
    pub(super) at: String,
    /// Whether the token can change anything there.
    pub(super) writes: Option<bool>,
    /// When the token expires, in seconds since the Unix epoch.
    pub(super) expires: Option<u64>,
}

/// A store of vaults that uses the data model of Connect. Every call ends by itself at the time `by`.
///
/// A call fails with [`Class::NotFound`](crate::ipc::Class::NotFound) only if the backend itself has answered
/// so.
pub(super) trait Backend: Send + Sync + 'static {
    /// Whether a call has a cost: a network request, or a part of a quota.
    const CALLS_COST: bool;

    /// Whether versions are numbers that 1Password only increases. If so, a version lower than an earlier one
    /// means that the server has not synchronised, and its answers about that vault or item are ignored.
    const VERSIONS_GROW: bool;

    /// Who is granted access to vaults, in the plural; `None` if all vaults are readable.
    const HOLDERS: Option<&'static str>;

    /// Its location, and what its token states about itself.
    fn about(&self) -> About;

    /// All vaults that the token can read.
    fn vaults(&self, by: Instant) -> impl Future<Output = Result<Vec<Vault>, Failure>> + Send;

    /// All items of a vault. Includes archived and deleted items if the backend lists them.
    fn items(
        &self,
        vault: &str,
        by: Instant,
    ) -> impl Future<Output = Result<Vec<ItemOverview>, Failure>> + Send;

    /// The item with exactly this ID.
    fn item(&self, id: &ItemId, by: Instant) -> impl Future<Output = Result<FullItem, Failure>> + Send;

    /// The content of a file of an item.
    fn file(
        &self,
        id: &ItemId,
        file: &File,
        by: Instant,
    ) -> impl Future<Output = Result<SecretValue, Failure>> + Send;
}
