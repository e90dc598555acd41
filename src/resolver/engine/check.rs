//! Checks whether known items have changed. This needs one call if nothing has changed, plus one per changed
//! vault, and fetches no values.
//!
//! Partial results count: an item that could not be compared is unknown, and the next check requests its
//! vault first.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::ipc::{Check, Checked, Class, Failure, ItemId, ItemState, Known};

use super::super::backend::Backend;
use super::lists::Need;
use super::{Engine, lock, second_look, too_late};
use crate::resolver::items::matching;
use crate::resolver::items::model::{ItemOverview, Vault, is_absent};

/// How many lists of items one check requests at the same time.
const AT_ONCE: usize = 8;

/// The items of a vault.
type List = Result<Arc<Vec<ItemOverview>>, Failure>;

/// An item whose vault may have changed, so that the vault's list of items decides.
struct Undecided<'v> {
    vault: &'v Vault,
    /// Set if other vaults have the same name. The list then cannot confirm a change, but it can confirm that
    /// the item is unchanged.
    ambiguous: Option<Failure>,
}

/// The lists of items that were requested in one round, by vault ID.
type Lists<'v> = BTreeMap<&'v str, List>;

impl<B: Backend> Engine<B> {
    pub(super) async fn check_by(&self, check: Check, by: Instant) -> Result<Checked, Failure> {
        if check.items.is_empty() {
            return Ok(Checked { items: Vec::new() });
        }
        let mut items = self.round(&check.items.iter().collect::<Vec<_>>(), by).await?;
        let doubtful: Vec<usize> =
            (0..items.len()).filter(|&i| matches!(items[i], ItemState::Gone(_))).collect();
        if !doubtful.is_empty() {
            let known: Vec<&Known> = doubtful.iter().map(|&i| &check.items[i]).collect();
            let again = match second_look(by).await {
                Ok(()) => self.round(&known, by).await,
                Err(failure) => Err(failure),
            };
            // results about the other items count in any case
            let again = again.unwrap_or_else(|failure| {
                let unknown = ItemState::Unknown(failure.sanitized());
                vec![unknown; doubtful.len()]
            });
            for (i, state) in doubtful.into_iter().zip(again) {
                if matches!(state, ItemState::Gone(_)) {
                    self.remember(&check.items[i].item, None);
                }
                items[i] = state;
            }
        }
        Ok(Checked { items })
    }

    /// Compares each item once, with newly requested lists.
    async fn round(&self, items: &[&Known], by: Instant) -> Result<Vec<ItemState>, Failure> {
        let need = Need::Since(self.ticks.now());
        if let Some(failure) = self.senseless.pause(None) {
            return Err(failure);
        }
        let vaults = self.vaults(need, by).await;
        self.senseless.note(None, vaults.as_ref().err());
        let vaults = vaults?;
        self.senseless.retain(|id| vaults.iter().any(|vault| vault.id == id));
        let by_vault: Vec<_> = items.iter().map(|known| self.by_vault(known, &vaults)).collect();
        let undecided: BTreeSet<&str> =
            by_vault.iter().filter_map(|state| Some(state.as_ref().err()?.vault.id.as_str())).collect();
        let lists = self.lists(undecided, need, by).await;
        let states = items.iter().zip(by_vault).map(|(known, state)| match state {
            Ok(state) => state,
            Err(Undecided { vault, ambiguous }) => {
                let state = self.by_list(known, vault, &lists[vault.id.as_str()]);
                match (ambiguous, state) {
                    (None, state) | (Some(_), state @ ItemState::Unknown(_)) => state,
                    (Some(failure), ItemState::Unchanged { .. }) => ItemState::Unknown(failure),
                    (Some(failure), ItemState::Changed | ItemState::Gone(_)) => ItemState::Gone(failure),
                }
            }
        });
        Ok(states.collect())
    }

    /// Requests the lists of items of these vaults, several at the same time.
    async fn lists<'v>(&self, vaults: BTreeSet<&'v str>, need: Need, by: Instant) -> Lists<'v> {
        let mut order: Vec<&str> = vaults.into_iter().collect();
        {
            let late = lock(&self.late);
            order.sort_by_key(|vault| !late.contains(*vault)); // the sort is stable
        }
        let turns = Semaphore::new(AT_ONCE);
        let requests = order.iter().map(|vault| async {
            let request = async {
                let _turn = turns.acquire().await;
                self.list(vault, need, by).await
            };
            timeout_at(by, request).await.unwrap_or_else(|_elapsed| Err(too_late()))
        });
        let lists: Lists<'v> = order.iter().copied().zip(all(requests).await).collect();
        let is_late = |list: &List| list.as_ref().is_err_and(|failure| failure.class.is_transient());
        *lock(&self.late) =
            lists.iter().filter(|(_, list)| is_late(list)).map(|(id, _)| (*id).to_owned()).collect();
        lists
    }

    async fn list(&self, vault: &str, need: Need, by: Instant) -> List {
        if let Some(failure) = self.senseless.pause(Some(vault)) {
            return Err(failure);
        }
        let list = self.items(vault, need, by).await;
        self.senseless.note(Some(vault), list.as_ref().err());
        list
    }

    /// The state of an item, or the vault whose list of items decides it.
    fn by_vault<'v>(&self, known: &Known, vaults: &'v [Vault]) -> Result<ItemState, Undecided<'v>> {
        let vault = match matching::vault(vaults, &known.item.vault, B::HOLDERS) {
            Ok(vault) => vault,
            Err(failure) => {
                let is_same = |vault: &&Vault| {
                    vault.id == known.id.vault
                        && matching::still_means(&known.item.vault, &vault.id, &vault.name)
                };
                let ambiguous = (failure.class == Class::Several).then(|| failure.clone());
                return match vaults.iter().find(is_same).filter(|_| ambiguous.is_some()) {
                    Some(vault) => Err(Undecided { vault, ambiguous }),
                    None => Ok(ItemState::Gone(failure)),
                };
            }
        };
        if vault.id != known.id.vault {
            self.remember(&known.item, None);
            return Ok(ItemState::Changed);
        }
        let vault_version = vault.content_version;
        if vault_version.is_some() && vault_version == known.vault_version {
            return Ok(ItemState::Unchanged { vault_version });
        }
        let what = format!("vault {:?}", vault.name);
        match self.not_behind(&what, vault_version, known.vault_version) {
            Ok(()) => Err(Undecided { vault, ambiguous: None }),
            Err(failure) => Ok(ItemState::Unknown(failure.sanitized())),
        }
    }

    /// The state of an item according to the list of its vault.
    fn by_list(&self, known: &Known, vault: &Vault, list: &List) -> ItemState {
        let vault_version = vault.content_version;
        let items = match list {
            Ok(items) => items,
            // the token may not list this vault: fetching the items will show their state
            Err(failure) if matches!(failure.class, Class::Denied | Class::NotFound) => {
                return ItemState::Changed;
            }
            // a missing or invalid list says nothing about this vault, and does not affect the others
            Err(failure) => return ItemState::Unknown(failure.clone().sanitized()),
        };
        let item = match matching::item(items, &vault.name, &known.item.item) {
            Ok(item) => item,
            // the known item still exists: that another item also matches does not confirm that the known
            // item changed
            Err(failure) if failure.class == Class::Several && is_unchanged(items, known) => {
                return ItemState::Unknown(failure);
            }
            Err(failure) => return ItemState::Gone(failure),
        };
        self.remember(&known.item, Some(ItemId { vault: vault.id.clone(), item: item.id.clone() }));
        if item.id == known.id.item && item.version == Some(known.version) {
            return ItemState::Unchanged { vault_version };
        }
        if item.id == known.id.item {
            let what = format!("item {:?}", item.title);
            if let Err(failure) = self.not_behind(&what, item.version, Some(known.version)) {
                return ItemState::Unknown(failure.sanitized());
            }
            if let Some(version) = item.version {
                lock(&self.seen).insert(known.id.clone(), version);
            }
        }
        ItemState::Changed
    }
}

/// Runs all futures concurrently. The results have the order of the futures.
async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut results: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, result) in pending.iter_mut().zip(&mut results) {
            if let Some(Poll::Ready(output)) = future.as_mut().map(|future| future.as_mut().poll(context)) {
                (*future, *result) = (None, Some(output));
            }
        }
        if pending.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Whether a list contains the item unchanged, and the reference still matches it.
fn is_unchanged(items: &[ItemOverview], known: &Known) -> bool {
    let is_same = |item: &ItemOverview| {
        item.id == known.id.item
            && item.version == Some(known.version)
            && !is_absent(item.state.as_deref())
            && matching::still_means(&known.item.item, &item.id, &item.title)
    };
    items.iter().any(is_same)
}
