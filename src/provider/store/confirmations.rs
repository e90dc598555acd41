//! Results of checks, which show the next process how fresh the snapshots are.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Doubt, Inner, Slot, Store, format};
use crate::domain::name::SourceName;
use crate::host::clock::BootTime;
use crate::ipc::{Failure, ItemState, Known};
use crate::provider::base::item_key::ItemKey;

/// How long an item that could not be compared is not checked again.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(10);

/// Results of checks, stored beside the snapshots so that the next process need not check again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Confirmations(pub(super) BTreeMap<String, Confirmation>);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Confirmation {
    pub(super) confirmed: BootTime,
    pub(super) vault_version: Option<u64>,
    pub(super) changed: bool,
}

impl Store {
    /// What is known of the items of a source, for a check.
    pub fn known(&self, source: &SourceName) -> Vec<Known> {
        let inner = self.inner();
        let slots = inner.slots.values().filter(|slot| slot.snapshot.key.source == *source && !slot.changed);
        slots
            .map(|slot| Known {
                item: slot.snapshot.key.item.clone(),
                id: slot.snapshot.id.clone(),
                version: slot.snapshot.version,
                vault_version: slot.vault_version,
            })
            .collect()
    }

    /// Applies the results of a check that began at this time. Returns the items that are gone.
    pub fn confirm(
        &self,
        source: &SourceName,
        at: BootTime,
        items: Vec<(Known, ItemState)>,
    ) -> Vec<(ItemKey, Failure)> {
        let (mut gone, mut news) = (Vec::new(), false);
        let mut inner = self.inner();
        for (known, state) in items {
            let key = ItemKey { source: source.clone(), item: known.item };
            let Some(slot) = inner.slots.get_mut(&key) else { continue };
            if slot.snapshot.id != known.id || slot.snapshot.version != known.version {
                continue; // it was replaced in the meantime
            }
            match state {
                ItemState::Unchanged { vault_version } => {
                    slot.confirmed = slot.confirmed.max(at);
                    slot.doubt = None;
                    news |= slot.vault_version != vault_version;
                    slot.vault_version = vault_version;
                }
                ItemState::Changed => {
                    slot.changed = true;
                    slot.doubt = None;
                    news = true;
                }
                ItemState::Gone(failure) => gone.push((key, failure)),
                ItemState::Unknown(failure) => {
                    let pause = failure.retry_after.unwrap_or_default().max(LEFT_ALONE_FOR);
                    let until = BootTime::now().after(pause);
                    slot.doubt = Some(Doubt { at, until, failure });
                }
            }
        }
        inner.unsaved = true;
        drop(inner);
        for (key, _) in &gone {
            self.remove(key);
        }
        if news {
            self.save_confirmations();
        }
        gone
    }

    /// Writes the results of checks, for the next process. Call it periodically and at the end, because a check
    /// without changes is not worth a separate write. If the process dies before, the next one makes an
    /// additional check.
    pub fn save_confirmations(&self) {
        let confirmations = {
            let mut inner = self.inner();
            if !std::mem::take(&mut inner.unsaved) {
                return;
            }
            inner.confirmations()
        };
        match serde_json::to_vec(&confirmations) {
            Ok(bytes) => {
                if let Err(error) = self.folder.write_state(&bytes) {
                    tracing::warn!("the results of a check can't be written to the store: {error}");
                }
            }
            Err(error) => tracing::warn!("the results of a check can't be written to the store: {error}"),
        }
    }
}

impl Inner {
    fn confirmations(&self) -> Confirmations {
        let of = |slot: &Slot| Confirmation {
            confirmed: slot.confirmed,
            vault_version: slot.vault_version,
            changed: slot.changed,
        };
        Confirmations(self.slots.iter().map(|(key, slot)| (format::file_name(key), of(slot))).collect())
    }
}
