//! The backend for service accounts: reads lists and items by the SDK core's own calls, each of which costs
//! one request.
//!
//! Items are read whole (`ItemsGetAll`), not by reference (`SecretsResolveAll`), for four reasons. The answer
//! has each item's title, which confirms a remembered ID. It costs one request less. It reports failures
//! properly, whereas `SecretsResolveAll` turns a 429 into "no vault matched". And references are interpreted
//! by the same code as for other sources.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::super::backend::{About, Backend};
use super::batch::{Batches, Get};
use super::items::{self, All, CoreItem, CoreOverview, CoreVault};
use super::session::Session;
use super::worker::{Work, Worker};
use crate::domain::secret::SecretValue;
use crate::ipc::{Class, Failure, ItemId};
use crate::resolver::items::model::{File, FullItem, ItemOverview, Vault};

/// A service account.
pub(super) struct Account<W = Worker> {
    calls: Arc<Calls<W>>,
    batches: Batches<Calls<W>>,
}

impl<W: Work> Account<W> {
    pub(super) fn new(session: Session<W>) -> Self {
        let calls = Arc::new(Calls { session, one_by_one: AtomicBool::new(false) });
        Self { batches: Batches::new(Arc::clone(&calls)), calls }
    }
}

impl<W: Work> Backend for Account<W> {
    const CALLS_COST: bool = true;
    const VERSIONS_GROW: bool = false; // they are derived from times
    const HOLDERS: Option<&'static str> = Some("service accounts");

    /// The token contains neither its permissions nor its expiry.
    fn about(&self) -> About {
        About { at: self.calls.session.host().to_owned(), ..About::default() }
    }

    async fn vaults(&self, by: Instant) -> Result<Vec<Vault>, Failure> {
        let what = "the list of vaults";
        let vaults: Vec<CoreVault> = self.calls.get("VaultsList", json!({}), what, by).await?;
        if vaults.is_empty() {
            let cause = format!(
                "1Password at {} denied every vault: the token has access to none",
                self.calls.session.host()
            );
            let remedy = "give the service account access to the vaults; Private, Personal and Employee vaults cannot be granted";
            return Err(Failure::new(Class::Denied, cause, remedy));
        }
        Ok(vaults.into_iter().map(Vault::from).collect())
    }

    async fn items(&self, vault: &str, by: Instant) -> Result<Vec<ItemOverview>, Failure> {
        let what = format!("the list of items in vault {vault:?}");
        // without a filter, archived items are omitted, as in the core's own look-ups
        let parameters = json!({ "vault_id": vault, "filters": [] });
        let items: Vec<CoreOverview> = self.calls.get("ItemsList", parameters, &what, by).await?;
        let items: Vec<ItemOverview> = items.into_iter().map(ItemOverview::from).collect();
        if items.iter().any(|item| item.vault.as_ref().is_none_or(|v| v.id != vault)) {
            return Err(self.calls.malformed(&what, "it contains items of another vault"));
        }
        Ok(items)
    }

    async fn item(&self, id: &ItemId, by: Instant) -> Result<FullItem, Failure> {
        self.batches.item(id, by).await
    }

    async fn file(&self, id: &ItemId, file: &File, by: Instant) -> Result<SecretValue, Failure> {
        let what = format!("file {:?} of item {:?} in vault {:?}", file.name, id.item, id.vault);
        let attributes = json!({ "name": file.name, "id": file.id, "size": 0 });
        let parameters = json!({ "vault_id": id.vault, "item_id": id.item, "attr": attributes });
        let mut bytes: Zeroizing<Vec<u8>> = self.calls.get("ItemsFilesRead", parameters, &what, by).await?;
        Ok(SecretValue::new(std::mem::take(&mut *bytes)))
    }
}

struct Calls<W> {
    session: Session<W>,
    /// The SDK core is older than 0.4 and does not support batches.
    one_by_one: AtomicBool,
}

impl<W: Work> Calls<W> {
    async fn get<T: DeserializeOwned>(
        &self,
        name: &str,
        parameters: serde_json::Value,
        what: &str,
        by: Instant,
    ) -> Result<T, Failure> {
        let json = self.session.call(name, parameters, what, by).await?;
        items::parse(&json).map_err(|why| self.malformed(what, &why))
    }

    fn malformed(&self, what: &str, why: &str) -> Failure {
        let cause = format!("the answer of 1Password's SDK core for {what} is malformed: {why}");
        Failure::new(Class::Malformed, cause, "install a known version of the core: onecred core install")
    }

    fn checked(&self, item: CoreItem, id: &ItemId, what: &str) -> Result<FullItem, Failure> {
        if item.id() != id.item || item.vault_id() != id.vault {
            return Err(self.malformed(what, "it is another item than was asked for"));
        }
        Ok(item.into())
    }
}

impl<W: Work> Get for Calls<W> {
    async fn several(
        &self,
        vault: &str,
        items: &[String],
        by: Instant,
    ) -> Result<BTreeMap<String, FullItem>, Failure> {
        let what = format!("{} items in vault {vault:?}", items.len());
        let parameters = json!({ "vault_id": vault, "item_ids": items });
        if self.one_by_one.load(Ordering::Relaxed) {
            return Ok(BTreeMap::new());
        }
        let all: All = match self.get("ItemsGetAll", parameters, &what, by).await {
            Err(failure) if failure.class == Class::Misconfigured => {
                self.one_by_one.store(true, Ordering::Relaxed);
                tracing::warn!(
                    "1Password's SDK core is older than 0.4, so each item costs a separate request"
                );
                return Ok(BTreeMap::new());
            }
            all => all?,
        };
        let mut got = BTreeMap::new();
        for item in all.individual_responses.into_iter().filter_map(|one| one.content) {
            let id = ItemId { vault: vault.to_owned(), item: item.id().to_owned() };
            got.insert(id.item.clone(), self.checked(item, &id, &what)?);
        }
        Ok(got)
    }

    async fn one(&self, id: &ItemId, by: Instant) -> Result<FullItem, Failure> {
        let what = format!("item {:?} in vault {:?}", id.item, id.vault);
        let parameters = json!({ "vault_id": id.vault, "item_id": id.item });
        let item: CoreItem = self.get("ItemsGet", parameters, &what, by).await?;
        self.checked(item, id, &what)
    }

    fn host(&self) -> &str {
        self.session.host()
    }
}
