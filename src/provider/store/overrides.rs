//! Overrides: values that an administrator entered, or previous values, which replace a secret until they are
//! removed. They are in the store, so they outlive the process.

use std::sync::Arc;

use super::folder::{BadFolder, Folder};
use super::{
    Inner, NewSnapshot, Origin, Snapshot, StandIn, Store, StoreError, StoredField, format, in_pages,
};
use crate::domain::reference::FieldRef;
use crate::domain::secret::{SecretValue, Wanted};
use crate::host::clock::BootTime;
use crate::ipc::{Fetched, FetchedValue, ItemId};
use crate::provider::base::item_key::ItemKey;

/// The prefix of their files.
const HELD: &str = "held.";

/// An override.
#[derive(Debug, Clone)]
pub struct Held {
    /// The origin of its value.
    pub origin: Origin,
    /// When it was set.
    pub since: BootTime,
    /// The version of its value, if it comes from a version.
    pub version: u64,
    /// The snapshot that contains it.
    pub snapshot: Arc<Snapshot>,
    /// Its position in the snapshot.
    pub offset: u64,
    /// Its length in bytes.
    pub len: usize,
}

impl Held {
    /// Whether it belongs to the current definition of a secret. Another secret may have had the same name
    /// before.
    pub fn is_of(&self, wanted: &Wanted) -> bool {
        self.snapshot.key == ItemKey::new(&wanted.source, &wanted.reference.item)
            && self.snapshot.fields().any(|field| *field == wanted.reference.field)
    }

    fn of(snapshot: Snapshot) -> Option<(String, Self)> {
        let StandIn { name, origin } = snapshot.stand_in.clone()?;
        let field = snapshot.fields().next()?.clone();
        let Some(&StoredField::Value { offset, len, .. }) = snapshot.entry(&field) else { return None };
        let (since, version) = (snapshot.fetched, snapshot.version);
        Some((name, Self { origin, since, version, snapshot: Arc::new(snapshot), offset, len }))
    }
}

/// The name of the file of a secret's override.
pub(super) fn file_name(secret: &str) -> String {
    format!("{HELD}{}", format::digest_of(secret))
}

impl Inner {
    /// Finds the overrides of an earlier process.
    pub(super) fn find_held(&mut self, folder: &Folder) -> Result<(), BadFolder> {
        for (file, content) in folder.snapshots(HELD)? {
            match format::read(content, &self.digests).map(Held::of) {
                Ok(Some((name, held))) if file_name(&name) == file => {
                    self.used += in_pages(held.snapshot.size);
                    self.held.insert(name, held);
                }
                _ => tracing::warn!("an override in the store can't be used and is removed"),
            }
        }
        Ok(())
    }
}

impl Store {
    /// The override of a secret.
    pub fn held(&self, secret: &str) -> Option<Held> {
        let inner = self.inner();
        if inner.held.is_empty() { None } else { inner.held.get(secret).cloned() }
    }

    /// Overrides a secret from now on.
    pub fn hold(
        &self,
        secret: &str,
        origin: Origin,
        place: (&ItemKey, &FieldRef),
        version: u64,
        value: SecretValue,
    ) -> Result<(), StoreError> {
        let stand_in = StandIn { name: secret.to_owned(), origin };
        let new = NewSnapshot {
            key: place.0,
            asked: std::slice::from_ref(place.1),
            asked_at: BootTime::now(),
            source_print: "",
            by_rule: false,
            stand_in: Some(&stand_in),
        };
        let id = ItemId { vault: String::new(), item: String::new() };
        let fields = vec![Ok(FetchedValue { value, expires: None })];
        let encoded = format::encode(&new, Fetched { id, version, vault_version: None, fields });
        let mut inner = self.inner();
        let before = inner.held.get(secret).map_or(0, |held| in_pages(held.snapshot.size));
        let would = inner.used - before + in_pages(encoded.size());
        if would > inner.limit {
            return Err(StoreError::Full { would, limit: inner.limit });
        }
        let file = self.folder.replace(&file_name(secret), encoded.pieces());
        let file = file.map_err(|error| self.unwritable(error))?;
        inner.used = would;
        if let Some((name, held)) = Held::of(encoded.into_snapshot(place.0.clone(), file, &inner.digests)) {
            inner.held.insert(name, held);
        }
        Ok(())
    }

    /// Removes the override of a secret. Returns whether there was one.
    pub fn release(&self, secret: &str) -> bool {
        let mut inner = self.inner();
        let Some(held) = inner.held.remove(secret) else { return false };
        inner.used -= in_pages(held.snapshot.size);
        self.folder.remove(&file_name(secret));
        true
    }

    /// The names of all overridden secrets.
    pub fn all_held(&self) -> Vec<String> {
        self.inner().held.keys().cloned().collect()
    }
}
