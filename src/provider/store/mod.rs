//! The store: values that were fetched in this boot, as immutable files in the provider's own ramfs, and the
//! state of each item.
//!
//! A file is written under a temporary name, then renamed, so that it is either complete or the previous one.
//! It is held open while it is current. A reader that has taken a snapshot can read all of it, even after it
//! was replaced.

mod confirmations;
mod digest;
mod fault;
mod folder;
mod format;
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/rules/store.rs"]
pub(crate) mod fuzz;
mod overrides;
mod previous;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::reference::FieldRef;
use crate::host::clock::BootTime;
use crate::ipc::{Failure, Fetched};
use crate::provider::base::item_key::ItemKey;

use confirmations::Confirmations;
pub use digest::Digest;
use digest::DigestKey;
pub use fault::StoreError;
pub(super) use folder::is_memory;
pub use folder::{BadFolder, Folder, Kind};
pub use format::{Origin, Snapshot, StandIn, StoredField};
use previous::Keep;

pub use overrides::Held;

/// An item in the store: its snapshot and its freshness.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The values.
    pub snapshot: Arc<Snapshot>,
    /// When it was last known to be current.
    pub confirmed: BootTime,
    /// The content version of its vault at that time.
    pub vault_version: Option<u64>,
    /// Whether 1Password has another version now.
    pub changed: bool,
    /// Why it could not be compared at the last check.
    pub doubt: Option<Doubt>,
    /// The last values that differ from the current ones, for a rollback.
    pub previous: Option<Arc<Snapshot>>,
}

/// A source has answered, but could not report the state of this item. For a while, its cached values are
/// served unchecked.
#[derive(Debug, Clone)]
pub struct Doubt {
    /// When the source was asked.
    pub at: BootTime,
    /// Until when the item is not checked again.
    pub until: BootTime,
    /// The failure.
    pub failure: Failure,
}

/// The prefix of files with previous values.
const PREVIOUS: &str = "previous.";

/// The store.
#[derive(Debug)]
pub struct Store {
    folder: Folder,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<ItemKey, Slot>,
    /// By the names of the secrets.
    held: HashMap<String, Held>,
    used: u64,
    limit: u64,
    /// Whether checks have confirmed something since the confirmations were last written.
    unsaved: bool,
    digests: DigestKey,
}

impl Store {
    /// Opens the store in a directory, with what an earlier process left there. `limit` is in bytes.
    pub fn open(path: &Path, kind: Kind, limit: u64) -> Result<Self, BadFolder> {
        let folder = Folder::open(path, kind)?;
        let received = folder.read(folder::RECEIVED).and_then(|file| String::from_utf8(file).ok());
        let key = received.and_then(|text| DigestKey::parse(text.lines().next()?));
        let digests = key.unwrap_or_default();
        let mut inner = Inner { limit, digests: digests.clone(), ..Inner::default() };
        let confirmations: Confirmations =
            folder.read_state().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        for (name, file) in folder.snapshots("")? {
            match format::read(file, &digests) {
                Ok(snapshot) if format::file_name(&snapshot.key) == name => {
                    let mut slot = Slot {
                        confirmed: snapshot.fetched,
                        vault_version: snapshot.vault_version,
                        changed: false,
                        doubt: None,
                        previous: None,
                        snapshot: Arc::new(snapshot),
                    };
                    if let Some(known) =
                        confirmations.0.get(&name).filter(|known| known.confirmed >= slot.confirmed)
                    {
                        slot.confirmed = known.confirmed;
                        slot.vault_version = known.vault_version;
                        slot.changed = known.changed;
                    }
                    inner.used += in_pages(slot.snapshot.size);
                    inner.slots.insert(slot.snapshot.key.clone(), slot);
                }
                Ok(_) => tracing::warn!("a snapshot in the store has the wrong file name and is removed"),
                Err(error) => {
                    tracing::warn!("a snapshot in the store can't be used, and is removed: {error}")
                }
            }
        }
        for (name, file) in folder.snapshots(PREVIOUS)? {
            let Ok(snapshot) = format::read(file, &digests) else { continue };
            let right = name.strip_prefix(PREVIOUS) == Some(&format::file_name(&snapshot.key));
            let slot = inner.slots.get_mut(&snapshot.key).filter(|_| right);
            let Some(slot) = slot.filter(|slot| previous::differs(&snapshot, &slot.snapshot)) else {
                continue;
            };
            inner.used += in_pages(snapshot.size);
            slot.previous = Some(Arc::new(snapshot));
        }
        inner.find_held(&folder)?;
        folder.keep_only(&inner.files())?;
        Ok(Self { folder, inner: Mutex::new(inner) })
    }

    /// A missing store: it is empty, and writes to it fail.
    pub fn none() -> Self {
        Self { folder: Folder::none(), inner: Mutex::default() }
    }

    /// Whether the store exists.
    pub fn exists(&self) -> bool {
        self.inner().limit > 0
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An opaque number for a name: the same for all processes that use this store, and meaningless to
    /// others.
    pub fn number(&self, name: &str) -> u64 {
        let digests = self.inner().digests.clone();
        digests.number(name)
    }

    /// The stored data of an item.
    pub fn slot(&self, key: &ItemKey) -> Option<Slot> {
        self.inner().slots.get(key).cloned()
    }

    /// The number of items, and their size in bytes.
    pub fn size(&self) -> (usize, u64) {
        let inner = self.inner();
        (inner.slots.len(), inner.used)
    }

    /// Stores a fetched item, in place of the earlier snapshot. `asked` are the fields, in the order of the
    /// answer.
    pub fn put(&self, new: NewSnapshot<'_>, fetched: Fetched) -> Result<Arc<Snapshot>, StoreError> {
        let fetched_at = new.asked_at;
        let encoded = format::encode(&new, fetched);
        let pages = in_pages(encoded.size());
        let mut inner = self.inner();
        let name = format::file_name(new.key);
        let previous_name = format!("{PREVIOUS}{name}");
        let before = inner.slots.get(new.key).cloned();
        // values from another source with this name are not suitable for a rollback
        let same = before.as_ref().filter(|slot| slot.snapshot.source_print == new.source_print);
        let keep = same
            .map(|slot| previous::keep(&slot.snapshot, slot.previous.as_deref(), &encoded, &inner.digests));
        let keep = keep.transpose().map_err(|error| self.unwritable(error))?.unwrap_or(Keep::Nothing);
        let freed = before.as_ref().map_or(0, Slot::pages);
        let would_without = inner.used - freed + pages;
        if would_without > inner.limit {
            return Err(StoreError::Full { would: would_without, limit: inner.limit });
        }
        // without enough memory for both, the previous values are dropped
        let free = inner.limit - would_without;
        let previous =
            self.keep_previous(keep, before.as_ref(), (&name, &previous_name), free, &inner.digests)?;
        let file = self.folder.replace(&name, encoded.pieces()).map_err(|error| self.unwritable(error))?;
        let snapshot = Arc::new(encoded.into_snapshot(new.key.clone(), file, &inner.digests));
        inner.used = would_without + previous.as_ref().map_or(0, |previous| in_pages(previous.size));
        let slot = Slot {
            confirmed: fetched_at,
            vault_version: snapshot.vault_version,
            changed: false,
            doubt: None,
            snapshot: Arc::clone(&snapshot),
            previous,
        };
        inner.slots.insert(new.key.clone(), slot);
        Ok(snapshot)
    }

    /// Keeps the previous values of an item that is replaced, in at most `free` bytes.
    fn keep_previous(
        &self,
        keep: Keep,
        before: Option<&Slot>,
        (name, previous_name): (&str, &str),
        free: u64,
        digests: &DigestKey,
    ) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let earlier = before.and_then(|slot| slot.previous.as_ref());
        let fits = |size: u64| in_pages(size) <= free;
        let kept = match (keep, before) {
            (Keep::Earlier, _) => earlier.filter(|earlier| fits(earlier.size)).map(Arc::clone),
            (Keep::Current, Some(slot)) if fits(slot.snapshot.size) => {
                let linked = self.folder.also_call(name, previous_name);
                linked.map_err(|error| self.unwritable(error))?;
                Some(Arc::clone(&slot.snapshot))
            }
            (Keep::Merged(merged), Some(slot)) if fits(merged.size()) => {
                let file = self.folder.replace(previous_name, merged.pieces());
                let file = file.map_err(|error| self.unwritable(error))?;
                Some(Arc::new(merged.into_snapshot(slot.snapshot.key.clone(), file, digests)))
            }
            _ => None,
        };
        if kept.is_none() && earlier.is_some() {
            self.folder.remove(previous_name);
        }
        Ok(kept)
    }

    fn unwritable(&self, error: std::io::Error) -> StoreError {
        StoreError::Io { folder: self.folder.path().to_owned(), error }
    }

    /// The stored list of published files.
    pub(super) fn published(&self) -> Option<Vec<u8>> {
        self.folder.read(folder::PUBLISHED)
    }

    /// Stores the list of published files.
    pub(super) fn set_published(&self, list: &[u8]) -> std::io::Result<()> {
        self.folder.replace(folder::PUBLISHED, std::iter::once(list)).map(drop)
    }

    /// Appends to the list of published files. If the process dies in the meantime, a part may have been
    /// written.
    pub(super) fn append_published(&self, more: &[u8]) -> std::io::Result<()> {
        self.folder.append(folder::PUBLISHED, more)
    }

    /// The stored list of refused units.
    pub(super) fn refused(&self) -> Option<Vec<u8>> {
        self.folder.read(folder::REFUSED)
    }

    /// Stores the list of refused units.
    pub(super) fn set_refused(&self, list: &[u8]) -> std::io::Result<()> {
        self.folder.replace(folder::REFUSED, std::iter::once(list)).map(drop)
    }

    /// The stored record of what units received.
    pub(super) fn received(&self) -> Option<Vec<u8>> {
        let file = self.folder.read(folder::RECEIVED)?;
        let end = file.iter().position(|byte| *byte == b'\n')?;
        Some(file[end + 1..].to_vec())
    }

    /// Stores what units received, and the key of its digests.
    pub(super) fn set_received(&self, list: &[u8]) -> std::io::Result<()> {
        let key = format!("{}\n", self.inner().digests.text());
        self.folder.replace(folder::RECEIVED, [key.as_bytes(), list].into_iter()).map(drop)
    }

    /// The stored list of pending restarts.
    pub(super) fn pending(&self) -> Option<Vec<u8>> {
        self.folder.read(folder::PENDING)
    }

    /// Stores the pending restarts.
    pub(super) fn set_pending(&self, list: &[u8]) -> std::io::Result<()> {
        self.folder.replace(folder::PENDING, std::iter::once(list)).map(drop)
    }

    /// The stored last valid configuration.
    pub(super) fn configuration(&self) -> Option<Vec<u8>> {
        self.folder.read(folder::CONFIGURATION)
    }

    /// Stores the last valid configuration.
    pub(super) fn set_configuration(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.folder.replace(folder::CONFIGURATION, std::iter::once(bytes)).map(drop)
    }

    /// Removes the last valid configuration.
    pub(super) fn forget_configuration(&self) {
        if self.configuration().is_some() {
            self.folder.remove(folder::CONFIGURATION);
        }
    }

    /// Removes an item.
    pub fn remove(&self, key: &ItemKey) {
        let mut inner = self.inner();
        if let Some(slot) = inner.slots.remove(key) {
            inner.used -= slot.pages();
            self.folder.remove(&format::file_name(key));
            if slot.previous.is_some() {
                self.folder.remove(&format!("{PREVIOUS}{}", format::file_name(key)));
            }
        }
    }

    /// Removes the items for which `keep` returns false, and sets a new limit in bytes.
    pub fn retain(&self, limit: u64, keep: impl Fn(&Snapshot) -> bool) {
        let mut inner = self.inner();
        if inner.limit == 0 {
            return; // the store is missing
        }
        inner.limit = limit;
        let unwanted: Vec<ItemKey> = inner
            .slots
            .values()
            .filter(|slot| !keep(&slot.snapshot))
            .map(|slot| slot.snapshot.key.clone())
            .collect();
        drop(inner);
        for key in &unwanted {
            self.remove(key);
        }
    }
}

/// The memory that a file of this size uses, in bytes.
fn in_pages(size: u64) -> u64 {
    size.div_ceil(4096) * 4096
}

impl Slot {
    /// Why it cannot be compared now.
    pub fn doubt(&self, now: BootTime) -> Option<&Failure> {
        self.doubt.as_ref().filter(|doubt| now < doubt.until).map(|doubt| &doubt.failure)
    }

    /// The memory that it uses, in bytes.
    fn pages(&self) -> u64 {
        in_pages(self.snapshot.size) + self.previous.as_ref().map_or(0, |previous| in_pages(previous.size))
    }
}

impl Inner {
    /// The names of all files in use.
    fn files(&self) -> HashSet<String> {
        let slots = self.slots.iter().flat_map(|(key, slot)| {
            let name = format::file_name(key);
            let previous = slot.previous.as_ref().map(|_| format!("{PREVIOUS}{name}"));
            std::iter::once(name).chain(previous)
        });
        slots.chain(self.held.keys().map(|name| overrides::file_name(name))).collect()
    }
}

/// The data of a new snapshot besides the values.
#[derive(Debug, Clone, Copy)]
pub struct NewSnapshot<'a> {
    /// The item.
    pub key: &'a ItemKey,
    /// The requested fields.
    pub asked: &'a [FieldRef],
    /// When they were requested: the values are at least as new.
    pub asked_at: BootTime,
    /// The fingerprint of the source's definition at that time.
    pub source_print: &'a str,
    /// Whether only a rule refers to it, and no secret.
    pub by_rule: bool,
    /// The override that it belongs to, if it is not the snapshot of an item.
    pub stand_in: Option<&'a StandIn>,
}

#[cfg(test)]
pub(crate) use tests::testing;

pub mod freshness;
pub mod last_valid;
pub mod start_pins;
#[cfg(test)]
pub(crate) mod tests;
pub mod unanswered;
