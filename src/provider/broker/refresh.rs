//! Refreshing on demand: what changed is fetched, whatever its age.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Broker, FETCH_PATIENCE, MOST_FETCHES, never_fresh};
use crate::clock::BootTime;
use crate::provider::store::{Entry, ItemKey};
use crate::secret::Wanted;
use crate::wire::Failure;

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

impl Broker {
    /// Brings a secret up to date: what it is from here on is at least as new as this call.
    pub async fn refresh(
        self: &Arc<Self>,
        wanted: &Wanted,
        thoroughness: Thoroughness,
    ) -> Result<Refreshed, Failure> {
        let (asked, deadline) = (BootTime::now(), Instant::now() + FETCH_PATIENCE);
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        let field = &wanted.reference.field;
        let before = self.slot(&key);
        let has_value = before
            .as_ref()
            .is_some_and(|slot| matches!(slot.snapshot.entry(field), Some(Entry::Value { .. })));
        if thoroughness == Thoroughness::Versions && has_value {
            // a check that was under way may have asked before this was wanted: then one more
            for _ in 0..2 {
                self.checked(&wanted.source, deadline).await?;
                match self.slot(&key) {
                    Some(slot) if slot.confirmed >= asked && !slot.changed => {
                        return Ok(Refreshed::Unchanged(slot.snapshot.version));
                    }
                    Some(slot) if !slot.changed => {}
                    _ => break,
                }
            }
        }
        for _ in 0..MOST_FETCHES {
            self.fetched(&key, field).await?;
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
