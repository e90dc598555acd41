//! Whether known items have changed: one call where nothing did, one more for each vault that did, and none for values.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::ipc::{Check, Checked, Class, Failure, ItemId, ItemState, Known};

use super::super::backend::Backend;
use super::lists::Need;
use super::{Engine, second_look};
use crate::resolver::items::matching;
use crate::resolver::items::model::{ItemOverview, Vault};

/// The lists of items that one round has asked for, by vault.
type Lists = HashMap<String, Result<Arc<Vec<ItemOverview>>, Failure>>;

impl<B: Backend> Engine<B> {
    pub(super) async fn check_by(&self, check: Check, by: Instant) -> Result<Checked, Failure> {
        if check.items.is_empty() {
            return Ok(Checked { items: Vec::new() });
        }
        let mut items = self.round(&check.items.iter().collect::<Vec<_>>(), by).await?;
        let doubtful: Vec<usize> =
            (0..items.len()).filter(|&i| matches!(items[i], ItemState::Gone(_))).collect();
        if !doubtful.is_empty() {
            second_look(by).await?;
            let again: Vec<&Known> = doubtful.iter().map(|&i| &check.items[i]).collect();
            for (i, state) in doubtful.into_iter().zip(self.round(&again, by).await?) {
                if matches!(state, ItemState::Gone(_)) {
                    self.remember(&check.items[i].item, None);
                }
                items[i] = state;
            }
        }
        Ok(Checked { items })
    }

    /// One look at each item, in lists that are asked for now.
    async fn round(&self, items: &[&Known], by: Instant) -> Result<Vec<ItemState>, Failure> {
        let need = Need::Since(self.ticks.now());
        let vaults = self.vaults(need, by).await?;
        let mut lists = Lists::new();
        let mut states = Vec::with_capacity(items.len());
        for known in items {
            states.push(self.state(known, &vaults, &mut lists, need, by).await?);
        }
        Ok(states)
    }

    async fn state(
        &self,
        known: &Known,
        vaults: &[Vault],
        lists: &mut Lists,
        need: Need,
        by: Instant,
    ) -> Result<ItemState, Failure> {
        let vault = match matching::vault(vaults, &known.item.vault, B::HOLDERS) {
            Ok(vault) => vault,
            Err(failure) => return Ok(ItemState::Gone(failure)),
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
        if let Err(failure) = self.not_behind(&what, vault_version, known.vault_version) {
            return Ok(ItemState::Unknown(failure.sanitized()));
        }
        if !lists.contains_key(&vault.id) {
            let list = self.items(&vault.id, need, by).await;
            lists.insert(vault.id.clone(), list);
        }
        let items = match lists.get(&vault.id) {
            Some(Ok(items)) => items,
            // one vault that the token may not list must not keep the others from being checked: its items are fetched, which tells
            Some(Err(failure)) if matches!(failure.class, Class::Denied | Class::NotFound) => {
                return Ok(ItemState::Changed);
            }
            // what is no list tells nothing, of this vault alone
            Some(Err(failure)) if matches!(failure.class, Class::Malformed | Class::TooLarge) => {
                return Ok(ItemState::Unknown(failure.clone().sanitized()));
            }
            Some(Err(failure)) => return Err(failure.clone()),
            None => return Ok(ItemState::Changed),
        };
        let item = match matching::item(items, &vault.name, &known.item.item) {
            Ok(item) => item,
            Err(failure) => return Ok(ItemState::Gone(failure)),
        };
        self.remember(&known.item, Some(ItemId { vault: vault.id.clone(), item: item.id.clone() }));
        if item.id == known.id.item && item.version == Some(known.version) {
            return Ok(ItemState::Unchanged { vault_version });
        }
        if item.id == known.id.item {
            let what = format!("item {:?}", item.title);
            if let Err(failure) = self.not_behind(&what, item.version, Some(known.version)) {
                return Ok(ItemState::Unknown(failure.sanitized()));
            }
            if let Some(version) = item.version {
                super::lock(&self.seen).insert(known.id.clone(), version);
            }
        }
        Ok(ItemState::Changed)
    }
}
