//! Refreshes secrets on demand: fetches what changed, whatever its age.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Broker, FETCH_PATIENCE, MOST_FETCHES, never_fresh};
use crate::domain::secret::Wanted;
use crate::host::clock::BootTime;
use crate::ipc::Failure;
use crate::provider::base::asker::Asker;
use crate::provider::base::item_key::ItemKey;
use crate::provider::store::{Slot, StoredField};

/// How to refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoroughness {
    /// Compares versions, with one call per source, and fetches items with another version.
    Versions,
    /// Fetches the value, whatever its version.
    Values,
}

/// The result of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The value did not change. Contains its version.
    Unchanged(u64),
    /// The value changed, or was never fetched before. Contains its version.
    Changed(u64),
}

/// When a refresh was requested, and the state of the secret at that time.
#[derive(Debug)]
pub struct Asked {
    at: BootTime,
    before: Option<Slot>,
}

impl Broker {
    /// Requests a refresh, to be carried out later.
    pub fn ask(&self, wanted: &Wanted) -> Asked {
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        Asked { at: BootTime::now(), before: self.slot(&key) }
    }

    /// Refreshes a secret: afterwards it is at least as new as the request. Refreshes that were requested
    /// before the first one was carried out share one check of their source.
    pub async fn refresh(
        self: &Arc<Self>,
        wanted: &Wanted,
        thoroughness: Thoroughness,
        Asked { at: asked, before }: Asked,
        asker: &Asker,
    ) -> Result<Refreshed, Failure> {
        let deadline = Instant::now() + FETCH_PATIENCE;
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        let field = &wanted.reference.field;
        let has_value = before
            .as_ref()
            .is_some_and(|slot| matches!(slot.snapshot.entry(field), Some(StoredField::Value { .. })));
        if thoroughness == Thoroughness::Versions && has_value {
            // a running check may have begun before the request: then make another one
            for checks in 0..=2 {
                match self.slot(&key) {
                    Some(slot) if slot.confirmed >= asked && !slot.changed => {
                        return Ok(match before {
                            Some(before) if !before.snapshot.agrees(&slot.snapshot, field) => {
                                Refreshed::Changed(slot.snapshot.version)
                            }
                            _ => Refreshed::Unchanged(slot.snapshot.version),
                        });
                    }
                    Some(Slot { doubt: Some(doubt), changed: false, .. }) if doubt.at >= asked => {
                        return Err(doubt.failure);
                    }
                    Some(slot) if !slot.changed && checks < 2 => {
                        self.checked(&wanted.source, deadline, asker).await?;
                    }
                    _ => break,
                }
            }
        }
        if *asker != Asker::Admin
            && let Some(failure) = self.absence(wanted)
        {
            return Err(failure);
        }
        for _ in 0..MOST_FETCHES {
            self.fetched(&key, field, asker).await?;
            // the same applies to a fetch
            let Some(slot) = self.slot(&key).filter(|slot| slot.snapshot.fetched >= asked) else { continue };
            return match slot.snapshot.entry(field) {
                Some(StoredField::Failed(failure)) => Err(failure.clone()),
                _ if before.is_some_and(|before| before.snapshot.agrees(&slot.snapshot, field)) => {
                    Ok(Refreshed::Unchanged(slot.snapshot.version))
                }
                _ => Ok(Refreshed::Changed(slot.snapshot.version)),
            };
        }
        Err(never_fresh())
    }
}
