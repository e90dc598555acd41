//! A snapshot and the format of its file: a magic number, the length of the metadata, the metadata (JSON),
//! then the values, one after another.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::NewSnapshot;
use super::digest::{Digest, DigestKey, hex};
use crate::domain::reference::FieldRef;
use crate::domain::secret::SecretValue;
use crate::host::clock::{BootTime, Expiry};
use crate::ipc::{Failure, Fetched, ItemId};
use crate::provider::base::item_key::ItemKey;

const MAGIC: &[u8; 8] = b"onecred1";
const MAX_META: u32 = 8 << 20;

/// The values of an item at one time. Immutable.
#[derive(Debug)]
pub struct Snapshot {
    /// The item.
    pub key: ItemKey,
    /// Its location in 1Password.
    pub id: ItemId,
    /// Its version.
    pub version: u64,
    /// The content version of its vault at that time, if known.
    pub vault_version: Option<u64>,
    /// When it was requested.
    pub fetched: BootTime,
    /// The fingerprint of the source's definition.
    pub source_print: String,
    /// Whether only a rule refers to it, and no secret.
    pub by_rule: bool,
    /// The override that it belongs to, if it is not the snapshot of an item.
    pub stand_in: Option<StandIn>,
    /// The size of its file in bytes.
    pub size: u64,
    entries: HashMap<FieldRef, Kept>,
    file: File,
    digests: DigestKey,
}

/// An entry, and what was computed about its value.
#[derive(Debug)]
struct Kept {
    entry: StoredField,
    /// Its place in the file.
    at: usize,
    digest: OnceLock<Digest>,
    /// The length of its value without trailing line breaks, once it was needed.
    trimmed: OnceLock<usize>,
}

/// What a snapshot has of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredField {
    /// A value in the file of the snapshot.
    Value {
        /// Where it begins: relative to the end of the metadata while in the metadata, and to the start of
        /// the file after reading.
        offset: u64,
        /// Its length in bytes.
        len: usize,
        /// When it expires.
        expires: Option<Expiry>,
        /// The version of its item, if that differs from the snapshot's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
    },
    /// Why there is no value.
    Failed(Failure),
}

/// The override of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandIn {
    /// The name of the secret.
    pub name: String,
    /// The origin of the value.
    pub origin: Origin,
}

/// The origin of an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// An administrator entered it.
    Put,
    /// It is the previous value of the secret.
    Rollback,
}

impl Origin {
    /// The name of the origin.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Rollback => "rollback",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    key: ItemKey,
    id: ItemId,
    version: u64,
    vault_version: Option<u64>,
    fetched: BootTime,
    source_print: String,
    by_rule: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stand_in: Option<StandIn>,
    entries: Vec<(FieldRef, StoredField)>,
}

impl Snapshot {
    /// The entry of a field. A value that has expired is ignored.
    pub fn entry(&self, field: &FieldRef) -> Option<&StoredField> {
        self.entries.get(field).map(|kept| &kept.entry).filter(|entry| match entry {
            StoredField::Value { expires: Some(expires), .. } => !expires.is_over(),
            _ => true,
        })
    }

    /// The digest of a field's value; `None` without a readable value. All one-time passwords have the same
    /// digest.
    pub fn digest(&self, field: &FieldRef) -> Option<Digest> {
        let kept = self.entries.get(field)?;
        match kept.entry {
            StoredField::Value { expires: Some(_), .. } => Some(Digest::OF_A_CODE),
            StoredField::Value { offset, len, .. } => {
                if let Some(known) = kept.digest.get() {
                    return Some(*known);
                }
                let value = self.read(offset, len).ok()?;
                Some(*kept.digest.get_or_init(|| self.digests.digest(&value)))
            }
            StoredField::Failed(_) => None,
        }
    }

    /// The length in bytes of a field's value without trailing line breaks; `None` without a readable value.
    pub fn trimmed_len(&self, field: &FieldRef) -> Option<usize> {
        let kept = self.entries.get(field)?;
        let StoredField::Value { offset, len, .. } = kept.entry else { return None };
        if let Some(known) = kept.trimmed.get() {
            return Some(*known);
        }
        let value = self.read(offset, len).ok()?;
        Some(*kept.trimmed.get_or_init(|| value.trimmed().len()))
    }

    /// The version of the item that a field's value comes from.
    pub fn version_of(&self, field: &FieldRef) -> u64 {
        match self.entries.get(field).map(|kept| &kept.entry) {
            Some(StoredField::Value { version: Some(version), .. }) => *version,
            _ => self.version,
        }
    }

    /// The fields with an entry.
    pub fn fields(&self) -> impl Iterator<Item = &FieldRef> {
        self.entries.keys()
    }

    /// The fields with a value, in the order in which they were first asked for.
    pub fn values_by_age(&self) -> Vec<FieldRef> {
        let values = self.entries.iter().filter(|(_, kept)| matches!(kept.entry, StoredField::Value { .. }));
        let mut values: Vec<_> = values.collect();
        values.sort_by_key(|(_, kept)| kept.at);
        values.into_iter().map(|(field, _)| field.clone()).collect()
    }

    /// Whether a field has the same value in another snapshot. One-time passwords, which always change, count
    /// as equal.
    pub fn agrees(&self, other: &Self, field: &FieldRef) -> bool {
        let entries = [self, other].map(|it| it.entries.get(field).map(|kept| &kept.entry));
        match entries {
            [Some(StoredField::Value { .. }), Some(StoredField::Value { .. })] => {
                self.digest(field).is_some_and(|digest| other.digest(field) == Some(digest))
            }
            [Some(StoredField::Failed(one)), Some(StoredField::Failed(two))] => one == two,
            _ => false,
        }
    }

    /// Reads a value of this snapshot at the position of its entry.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<SecretValue> {
        let mut bytes = vec![0; len];
        let result = self.file.read_exact_at(&mut bytes, offset);
        let value = SecretValue::new(bytes); // this wipes the value even after a partial read
        result.map(|()| value)
    }
}

/// The name of an item's file: a digest, which reveals nothing about the item.
pub(super) fn file_name(key: &ItemKey) -> String {
    digest_of(&format!("{:?}\0{:?}", key.source, key.folded()))
}

/// The same digest of any text.
pub(super) fn digest_of(text: &str) -> String {
    hex(&digest(&SHA256, text.as_bytes()).as_ref()[..16])
}

/// A snapshot in the format of its file.
pub(super) struct Encoded {
    meta: Meta,
    head: Vec<u8>,
    values: Vec<SecretValue>,
}

/// Encodes a fetched item.
pub(super) fn encode(new: &NewSnapshot<'_>, fetched: Fetched) -> Encoded {
    let (mut entries, mut values, mut offset) = (Vec::new(), Vec::new(), 0);
    for (field, outcome) in new.asked.iter().zip(fetched.fields) {
        let entry = match outcome {
            Err(failure) => StoredField::Failed(failure),
            Ok(got) => {
                let (len, expires) = (got.value.len(), got.expires.map(Expiry::at));
                let entry = StoredField::Value { offset, len, expires, version: None };
                offset += got.value.len() as u64;
                values.push(got.value);
                entry
            }
        };
        entries.push((field.clone(), entry));
    }
    let meta = Meta {
        key: new.key.clone(),
        id: fetched.id,
        version: fetched.version,
        vault_version: fetched.vault_version,
        fetched: new.asked_at,
        source_print: new.source_print.to_owned(),
        by_rule: new.by_rule,
        stand_in: new.stand_in.cloned(),
        entries,
    };
    Encoded::of(meta, values)
}

impl Encoded {
    fn of(meta: Meta, values: Vec<SecretValue>) -> Self {
        // serializing a struct of strings and numbers does not fail; `read` would reject an empty file
        let json = serde_json::to_vec(&meta).unwrap_or_default();
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes());
        head.extend_from_slice(&json);
        Self { meta, head, values }
    }

    pub(super) fn size(&self) -> u64 {
        self.head.len() as u64 + self.values.iter().map(|value| value.len() as u64).sum::<u64>()
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        // exposed: to write the store
        std::iter::once(self.head.as_slice()).chain(self.values.iter().map(SecretValue::expose))
    }

    pub(super) fn into_snapshot(self, key: ItemKey, file: File, digests: &DigestKey) -> Snapshot {
        let size = self.size();
        snapshot(key, self.meta, self.head.len() as u64, size, (file, digests))
    }

    /// The digest of a field's value, as from [`Snapshot::digest`].
    pub(super) fn digest(&self, field: &FieldRef, digests: &DigestKey) -> Option<Digest> {
        let values = self.meta.entries.iter().filter(|(_, entry)| matches!(entry, StoredField::Value { .. }));
        let ((_, entry), value) = values.zip(&self.values).find(|((known, _), _)| known == field)?;
        match entry {
            StoredField::Value { expires: Some(_), .. } => Some(Digest::OF_A_CODE),
            _ => Some(digests.digest(value)),
        }
    }
}

fn snapshot(key: ItemKey, meta: Meta, base: u64, size: u64, (file, digests): (File, &DigestKey)) -> Snapshot {
    let placed = |(at, (field, entry))| {
        let entry = match entry {
            StoredField::Value { offset, len, expires, version } => {
                StoredField::Value { offset: base + offset, len, expires, version }
            }
            failed => failed,
        };
        (field, Kept { entry, at, digest: OnceLock::new(), trimmed: OnceLock::new() })
    };
    Snapshot {
        key,
        id: meta.id,
        version: meta.version,
        vault_version: meta.vault_version,
        fetched: meta.fetched,
        source_print: meta.source_print,
        by_rule: meta.by_rule,
        stand_in: meta.stand_in,
        size,
        entries: meta.entries.into_iter().enumerate().map(placed).collect(),
        file,
        digests: digests.clone(),
    }
}

/// Combines values of two snapshots of one item: these fields of each. Each value keeps the version that it
/// comes from.
pub(super) fn merged(one: (&Snapshot, &[FieldRef]), other: (&Snapshot, &[FieldRef])) -> io::Result<Encoded> {
    let (mut entries, mut values, mut at) = (Vec::new(), Vec::new(), 0);
    for (snapshot, fields) in [one, other] {
        for field in fields {
            let Some(&StoredField::Value { offset, len, expires, .. }) =
                snapshot.entries.get(field).map(|kept| &kept.entry)
            else {
                continue;
            };
            let version = Some(snapshot.version_of(field));
            entries.push((field.clone(), StoredField::Value { offset: at, len, expires, version }));
            values.push(snapshot.read(offset, len)?);
            at += len as u64;
        }
    }
    let Snapshot { key, id, version, vault_version, fetched, source_print, by_rule, .. } = one.0;
    let meta = Meta {
        key: key.clone(),
        id: id.clone(),
        version: *version,
        vault_version: *vault_version,
        fetched: *fetched,
        source_print: source_print.clone(),
        by_rule: *by_rule,
        stand_in: None,
        entries,
    };
    Ok(Encoded::of(meta, values))
}

/// Reads a snapshot's file without the values, which must fill the rest of the file exactly.
pub(super) fn read(file: File, digests: &DigestKey) -> io::Result<Snapshot> {
    let bad = |why: &str| io::Error::new(ErrorKind::InvalidData, why.to_owned());
    let size = file.metadata()?.len();
    let mut start = [0; 12];
    file.read_exact_at(&mut start, 0)?;
    let [magic @ .., a, b, c, d] = start;
    let len = u32::from_le_bytes([a, b, c, d]);
    if magic != *MAGIC || len > MAX_META {
        return Err(bad("it is not of this version's format"));
    }
    let base = start.len() as u64 + u64::from(len);
    if base > size {
        return Err(bad("it is shorter than it says"));
    }
    let mut json = vec![0; len as usize];
    file.read_exact_at(&mut json, start.len() as u64)?;
    let meta: Meta = serde_json::from_slice(&json)?;
    let mut end = base;
    for (_, entry) in &meta.entries {
        if let StoredField::Value { offset, len, .. } = entry {
            let next = end.checked_add(*len as u64).filter(|_| base.checked_add(*offset) == Some(end));
            end = next.ok_or_else(|| bad("its values do not follow each other"))?;
        }
    }
    if end != size {
        return Err(bad("its values do not fill it"));
    }
    Ok(snapshot(meta.key.clone(), meta, base, size, (file, digests)))
}
