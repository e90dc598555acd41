//! Looks up references in a backend with as few calls as possible: lists are shared, and known IDs are
//! remembered.

mod check;
mod lists;
mod missing;
mod senseless;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::domain::reference::{FieldRef, ItemRef};
use crate::domain::secret::SecretValue;
use crate::host::clock;
use crate::ipc::{
    Check, Checked, Class, Failure, Fetch, Fetched, FetchedValue, ItemId, Pending, Probe, Probed,
    ProbedVault, Resolve,
};

use super::backend::{About, Backend};
use crate::resolver::items::matching::{self, FieldMatch};
use crate::resolver::items::model::{FullItem, ItemOverview, Vault, is_absent};
use crate::resolver::items::value::{self, Moment};
use crate::resolver::payer::Payer;
use lists::{Need, Shared, Ticks};
use missing::{MissingItems, VaultSeen};
use senseless::Senseless;

/// The maximum number of references whose IDs are remembered. Only rules for template units could use so
/// many.
const MAX_REMEMBERED: usize = 10_000;

/// One source: a backend, and what is remembered of it.
pub(super) struct Engine<B> {
    backend: B,
    ticks: Ticks,
    vaults: Shared<Vec<Vault>>,
    items: Mutex<HashMap<String, Arc<Shared<Vec<ItemOverview>>>>>,
    /// The newest list of vaults, of any age.
    newest: Mutex<Option<Arc<Vec<Vault>>>>,
    /// The items that references match. `None` means that no remembered ID is reliable, not even one from the
    /// provider.
    ids: Mutex<HashMap<ItemRef, Option<ItemId>>>,
    /// The versions of items that a check has found changed. A server that returns a lower version is out of
    /// date.
    seen: Mutex<HashMap<ItemId, u64>>,
    senseless: Senseless,
    missing: MissingItems,
    /// The vaults whose lists were missing last time; the next check requests them first.
    late: Mutex<HashSet<String>>,
}

impl<B: Backend> Resolve for Engine<B> {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        Box::pin(Payer::of_fetch(fetch.asker).scope(async move {
            let end = Instant::now() + fetch.patience;
            let by = end - margin(fetch.patience);
            let (item, not_older_than) = (fetch.item.clone(), fetch.look_again);
            if B::CALLS_COST
                && let Some(failure) =
                    self.missing.known(&item, self.vault_seen(&item).as_ref(), not_older_than)
            {
                return Err(failure);
            }
            let outcome = timeout_at(end, self.fetch_by(fetch, by)).await.unwrap_or_else(|_| Err(too_late()));
            self.missing.note(&item, outcome.as_ref().err(), self.vault_seen(&item).flatten());
            outcome
        }))
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        Box::pin(Payer::of_check(check.asker).scope(async move {
            let end = Instant::now() + check.patience;
            let by = end - margin(check.patience);
            timeout_at(end, self.check_by(check, by)).await.unwrap_or_else(|_| Err(too_late()))
        }))
    }

    /// Probes the token that the backend was created with. Another token needs another backend.
    fn probe(&self, probe: Probe, _token: Option<SecretValue>) -> Pending<'_, Probed> {
        Box::pin(async move {
            let end = Instant::now() + probe.patience;
            let by = end - margin(probe.patience);
            let asked = timeout_at(end, self.backend.vaults(by)).await;
            let vaults = asked.unwrap_or_else(|_| Err(too_late()))?;
            let vault = |v: Vault| ProbedVault { name: v.name, id: v.id, items: v.items };
            let About { at, writes, expires } = self.backend.about();
            Ok(Probed { at, vaults: vaults.into_iter().map(vault).collect(), writes, expires, spent: None })
        })
    }
}

impl<B: Backend> Engine<B> {
    pub(super) fn new(backend: B) -> Self {
        Self {
            backend,
            ticks: Ticks::default(),
            vaults: Shared::default(),
            items: Mutex::default(),
            newest: Mutex::default(),
            ids: Mutex::default(),
            seen: Mutex::default(),
            senseless: Senseless::default(),
            missing: MissingItems::default(),
            late: Mutex::default(),
        }
    }

    async fn fetch_by(&self, fetch: Fetch, by: Instant) -> Result<Fetched, Failure> {
        let mut need = Need::Recent;
        let known = self.remembered(&fetch);
        if let Some(id) = &known {
            let arrived = self.ticks.now();
            match self.fetch_known(&fetch, id, None, by).await {
                Ok(Some(fetched)) => return Ok(fetched),
                // renamed, deleted or inaccessible: only new lists can show what the reference matches now
                Ok(None) => {}
                Err(failure) if matches!(failure.class, Class::NotFound | Class::Denied) => {}
                Err(failure) => return Err(failure),
            }
            need = Need::Since(arrived);
        }
        loop {
            let arrived = self.ticks.now();
            let mut found = self.look_up(&fetch.item, need, by).await;
            if known.is_some() && is_gone(&found) {
                second_look(by).await?;
                found = self.look_up(&fetch.item, Need::Since(self.ticks.now()), by).await;
            }
            if is_gone(&found) {
                self.remember(&fetch.item, None);
            }
            let (id, overview) = found?;
            match self.fetch_known(&fetch, &id, Some(&overview), by).await {
                Ok(Some(fetched)) => return Ok(fetched),
                Ok(None) if need != Need::Recent => return Err(in_motion(&fetch.item)),
                Err(failure) if failure.class != Class::NotFound => return Err(failure),
                Err(failure) if need != Need::Recent => return Err(listed_only("item", &failure)),
                Ok(None) | Err(_) => need = Need::Since(arrived), // the list was slightly out of date
            }
        }
    }

    /// The item with this ID, if the reference still matches it.
    async fn fetch_known(
        &self,
        fetch: &Fetch,
        id: &ItemId,
        overview: Option<&ItemOverview>,
        by: Instant,
    ) -> Result<Option<Fetched>, Failure> {
        // from a list that was read before the item, so that it cannot be newer than the values
        let vault_version = self.vault_version(&id.vault);
        let asked = clock::unix();
        let item = self.backend.item(id, by).await?;
        let moment = Moment { asked, came: clock::unix() };
        let meant = match (&item.title, overview) {
            (Some(title), _) => matching::still_means(&fetch.item.item, &item.id, title),
            (None, overview) => overview.is_some(),
        };
        if !meant || is_absent(item.state.as_deref()) {
            return Ok(None);
        }
        let listed = overview.and_then(|o| o.version);
        let had = fetch.version.filter(|_| fetch.known.as_ref() == Some(id));
        self.not_behind(
            &format!("item {:?}", item.title.as_deref().unwrap_or(&item.id)),
            item.version,
            had.max(listed).max(lock(&self.seen).get(id).copied()),
        )?;
        lock(&self.seen).remove(id);
        let version = item.version.or(listed).unwrap_or(0);
        let mut fields = Vec::with_capacity(fetch.fields.len());
        for wanted in &fetch.fields {
            fields.push(self.value(&item, id, wanted, moment, by).await);
        }
        self.remember(&fetch.item, Some(id.clone()));
        Ok(Some(Fetched { id: id.clone(), version, vault_version, fields }))
    }

    /// Fails if a version is lower than an earlier one, for backends whose versions only increase: then an
    /// old replica has answered.
    fn not_behind(&self, what: &str, now: Option<u64>, before: Option<u64>) -> Result<(), Failure> {
        match (now, before) {
            (Some(now), Some(before)) if B::VERSIONS_GROW && now < before => {
                let at = self.backend.about().at;
                let cause = format!(
                    "{at} returned version {now} of {what}, but had already returned version {before}"
                );
                let remedy = "wait until it has synchronised, or check whether it does";
                Err(Failure::new(Class::Away, cause, remedy).of_item())
            }
            _ => Ok(()),
        }
    }

    async fn value(
        &self,
        item: &FullItem,
        id: &ItemId,
        wanted: &FieldRef,
        moment: Moment,
        by: Instant,
    ) -> Result<FetchedValue, Failure> {
        let title = item.title.as_deref().unwrap_or(&item.id);
        let file = match matching::field(item, wanted)? {
            FieldMatch::Field(field) => return value::of_field(field, wanted.query, title, moment),
            FieldMatch::File(file) => file,
        };
        let name = format!("file {:?} of item {title:?}", file.name);
        if wanted.query.is_some() {
            return Err(Failure::new(
                Class::NotFound,
                format!("{name} is not an OTP field and not a private key"),
                "remove the ?query from the reference",
            ));
        }
        let content = self.backend.file(id, file, by).await?;
        Ok(FetchedValue { value: value::limited(content, &name)?, expires: None })
    }

    /// The item that a reference matches. If a cached list does not contain it, requests a new list.
    async fn look_up(
        &self,
        item: &ItemRef,
        need: Need,
        by: Instant,
    ) -> Result<(ItemId, ItemOverview), Failure> {
        let arrived = self.ticks.now();
        match self.look_up_once(item, need, by).await {
            Err(failure) if failure.class.is_confirmed_gone() && need == Need::Recent => {
                self.look_up_once(item, Need::Since(arrived), by).await
            }
            outcome => outcome,
        }
    }

    async fn look_up_once(
        &self,
        item: &ItemRef,
        need: Need,
        by: Instant,
    ) -> Result<(ItemId, ItemOverview), Failure> {
        let vaults = self.vaults(need, by).await?;
        let vault = matching::vault(&vaults, &item.vault, B::HOLDERS)?;
        let items = self.items(&vault.id, need, by).await.map_err(|failure| match (failure.class, need) {
            (Class::NotFound, Need::Since(_)) => listed_only("vault", &failure),
            _ => failure,
        })?;
        let found = matching::item(&items, &vault.name, &item.item)?;
        Ok((ItemId { vault: vault.id.clone(), item: found.id.clone() }, found.clone()))
    }

    async fn vaults(&self, need: Need, by: Instant) -> Result<Arc<Vec<Vault>>, Failure> {
        let vaults = self.vaults.get(&self.ticks, need, by, || self.backend.vaults(by)).await;
        let vaults = vaults.map_err(|failure| match failure.class {
            // a missing list does not mean that a vault is gone
            Class::NotFound | Class::Several => Failure { class: Class::Malformed, ..failure },
            _ => failure,
        })?;
        *lock(&self.newest) = Some(vaults.clone());
        Ok(vaults)
    }

    async fn items(&self, vault: &str, need: Need, by: Instant) -> Result<Arc<Vec<ItemOverview>>, Failure> {
        let list = {
            let mut lists = lock(&self.items);
            lists.retain(|name, list| name == vault || !list.is_stale());
            lists.entry(vault.to_owned()).or_default().clone()
        };
        list.get(&self.ticks, need, by, || self.backend.items(vault, by)).await
    }

    fn vault_version(&self, vault: &str) -> Option<u64> {
        lock(&self.newest).as_ref()?.iter().find(|v| v.id == vault)?.content_version
    }

    /// What the newest list of vaults shows of an item's vault, if there is such a list.
    fn vault_seen(&self, item: &ItemRef) -> Option<VaultSeen> {
        let newest = lock(&self.newest).clone()?;
        let vault = matching::vault(&newest, &item.vault, B::HOLDERS).ok();
        Some(vault.map(|vault| (vault.id.clone(), vault.content_version)))
    }

    /// The IDs that a reference had, known to this process or the provider, unless the newest list of vaults
    /// contradicts them.
    fn remembered(&self, fetch: &Fetch) -> Option<ItemId> {
        let own = lock(&self.ids).get(&fetch.item).cloned();
        let id = own.unwrap_or_else(|| fetch.known.clone())?;
        let newest = lock(&self.newest).clone();
        let vault = newest.as_ref().map(|vaults| matching::vault(vaults, &fetch.item.vault, B::HOLDERS));
        match vault {
            Some(Ok(vault)) if vault.id != id.vault => None,
            Some(Err(_)) => None,
            Some(Ok(_)) | None => Some(id),
        }
    }

    fn remember(&self, item: &ItemRef, id: Option<ItemId>) {
        let mut ids = lock(&self.ids);
        if ids.len() >= MAX_REMEMBERED && !ids.contains_key(item) {
            ids.clear();
        }
        ids.insert(item.clone(), id);
    }
}

fn is_gone<T>(found: &Result<T, Failure>) -> bool {
    found.as_ref().is_err_and(|failure| failure.class.is_confirmed_gone())
}

/// The pause before looking for a known item again. A single miss does not confirm that an item is gone,
/// because a server that has just started may not have loaded everything.
async fn second_look(by: Instant) -> Result<(), Failure> {
    const PAUSE: Duration = Duration::from_secs(1);
    if Instant::now() + PAUSE >= by {
        return Err(too_late());
    }
    sleep(PAUSE).await;
    Ok(())
}

/// How long before the deadline an answer must be ready, so that it still arrives in time.
fn margin(patience: Duration) -> Duration {
    (patience / 10).min(Duration::from_millis(250))
}

/// Locks a mutex even if it is poisoned: its content is always replaced as a whole, never left half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_late() -> Failure {
    Failure::new(
        Class::Away,
        "no answer came in time",
        "check whether the source can be reached from this host, or set a longer deadline",
    )
}

fn in_motion(item: &ItemRef) -> Failure {
    let cause = format!("{item} changes while it is read");
    Failure::new(Class::Away, cause, "ask again in a moment").of_item()
}

/// The failure if a list and an item contradict each other. This does not confirm that the item is gone.
fn listed_only(what: &str, failure: &Failure) -> Failure {
    let cause = format!("the {what} is listed, but {}", failure.cause);
    let remedy = "ask again in a moment; check whether the server has synchronised";
    Failure::new(Class::Away, cause, remedy).of_item()
}

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
