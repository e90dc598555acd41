//! Refreshing on demand: what changed is fetched, whatever its age.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Broker, FETCH_PATIENCE, MOST_FETCHES, never_fresh};
use crate::domain::secret::Wanted;
use crate::host::clock::BootTime;
use crate::ipc::Failure;
use crate::provider::base::asker::Asker;
use crate::provider::base::item_key::ItemKey;
use crate::provider::store::{Entry, Slot};

/// How to refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoroughness {
    /// Versions are compared, one call for a source; what has another one is fetched.
    Versions,
    /// The value is fetched, whatever its version.
    Values,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// It is what it was, of this version.
    Unchanged(u64),
    /// It is another value now, or was never fetched before; of this version.
    Changed(u64),
}

/// The moment in which a refresh was asked for, and what there was of the secret then.
#[derive(Debug)]
pub struct Asked {
    at: BootTime,
    before: Option<Slot>,
}

impl Broker {
    /// Asks for a refresh that is carried out in its turn.
    pub fn ask(&self, wanted: &Wanted) -> Asked {
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        Asked { at: BootTime::now(), before: self.slot(&key) }
    }

    /// Brings a secret up to date: what it is from here on is at least as new as the moment of asking. Those that were all asked for before
    /// the first had its turn share one check of their source.
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
            .is_some_and(|slot| matches!(slot.snapshot.entry(field), Some(Entry::Value { .. })));
        if thoroughness == Thoroughness::Versions && has_value {
            // a check that was under way may have asked before this was wanted: then one more
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
            // the same of a fetch
            let Some(slot) = self.slot(&key).filter(|slot| slot.snapshot.fetched >= asked) else { continue };
            return match slot.snapshot.entry(field) {
                Some(Entry::Failed(failure)) => Err(failure.clone()),
                _ if before.is_some_and(|before| before.snapshot.agrees(&slot.snapshot, field)) => {
                    Ok(Refreshed::Unchanged(slot.snapshot.version))
                }
                _ => Ok(Refreshed::Changed(slot.snapshot.version)),
            };
        }
        Err(never_fresh())
    }
}
