//! What the fuzzer tries on snapshots' files: what is read is whole, and what was cut or made longer is none.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::digest::DigestKey;
use super::format::{Encoded, encode, read};
use super::{NewSnapshot, Snapshot, StoredField};
use crate::domain::name::SourceName;
use crate::domain::reference::{FieldRef, Reference};
use crate::domain::secret::SecretValue;
use crate::fuzzing::{Input, text};
use crate::host::clock::BootTime;
use crate::ipc::{Class, Failure, Fetched, FetchedValue, ItemId};
use crate::provider::base::item_key::ItemKey;

/// A file as it stands; or metadata, for which a file is made; or values, from which we make one.
pub(crate) fn snapshot(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() {
        0 => {
            let (meta, values) = (input.upto(0), input.rest());
            let length = u32::try_from(meta.len()).unwrap_or_default();
            let whole = [b"onecred1".as_slice(), &length.to_le_bytes(), meta, values].concat();
            if let Some(snapshot) = open(&whole) {
                is_whole(&snapshot, whole.len(), values);
            }
        }
        1 => round(input),
        _ => {
            if let Some(snapshot) = open(data) {
                is_whole(&snapshot, data.len(), data);
            }
        }
    }
}

fn open(bytes: &[u8]) -> Option<Snapshot> {
    // one file for all: what was read of the one before is dropped
    static FILE: LazyLock<Option<File>> =
        LazyLock::new(|| memfd_create("fuzz", MFdFlags::MFD_CLOEXEC).ok().map(File::from));
    let file = FILE.as_ref()?;
    file.set_len(bytes.len() as u64).ok()?;
    file.write_all_at(bytes, 0).ok()?;
    static KEY: LazyLock<DigestKey> = LazyLock::new(DigestKey::random);
    read(file.try_clone().ok()?, &KEY).ok()
}

/// All values of it can be read, and together they are no more than there is.
fn is_whole(snapshot: &Snapshot, size: usize, values: &[u8]) {
    assert_eq!(snapshot.size, size as u64);
    let mut sum = 0;
    for field in snapshot.fields() {
        if let Some(&StoredField::Value { offset, len, .. }) = snapshot.entry(field) {
            let Ok(value) = snapshot.read(offset, len) else { panic!("a value that is not there") };
            let expected = values.len() as u64 - (size as u64 - offset);
            let expected = &values[usize::try_from(expected).unwrap_or(usize::MAX)..][..len];
            assert!(value.expose() == expected, "another value");
            sum += len;
        }
    }
    assert!(sum <= values.len());
}

/// What was fetched comes back from its file; from a part of it nothing does.
fn round(mut input: Input<'_>) {
    let (cut, kinds) = (usize::from(input.byte()), input.upto(0));
    let parts: Vec<&[u8]> = input.rest().split(|byte| *byte == 0).take(kinds.len()).collect();
    let Ok(reference) = Reference::parse("op://v/i/f") else { return };
    let key = ItemKey::new(&SourceName::default_source(), &reference.item);
    let field = |number: usize| FieldRef { section: None, ..named(&reference.field, number) };
    let asked: Vec<FieldRef> = (0..parts.len()).map(field).collect();
    let outcome = |(kind, part): (&u8, &&[u8])| match kind % 4 {
        0 => Err(Failure::new(Class::NotFound, text(part), "none")),
        1 => Ok(FetchedValue { value: SecretValue::new(part.to_vec()), expires: Some(u64::MAX) }),
        _ => Ok(FetchedValue { value: SecretValue::new(part.to_vec()), expires: None }),
    };
    let fetched = Fetched {
        id: ItemId { vault: "v".into(), item: "i".into() },
        version: 7,
        vault_version: None,
        fields: kinds.iter().zip(&parts).map(outcome).collect(),
    };
    let new = NewSnapshot {
        key: &key,
        asked: &asked,
        asked_at: BootTime::default(),
        source_print: "print",
        by_rule: false,
        stand_in: None,
    };
    let encoded: Encoded = encode(&new, fetched);
    let whole = encoded.pieces().collect::<Vec<_>>().concat();
    assert_eq!(whole.len() as u64, encoded.size());
    let Some(snapshot) = open(&whole) else { panic!("what was written can't be read") };
    assert_eq!((&snapshot.key, snapshot.version, snapshot.fields().count()), (&key, 7, asked.len()));
    for ((kind, part), field) in kinds.iter().zip(&parts).zip(&asked) {
        match snapshot.entry(field) {
            Some(&StoredField::Value { offset, len, .. }) if kind % 4 != 0 => {
                let Ok(value) = snapshot.read(offset, len) else { panic!("a value that is not there") };
                assert!(value.expose() == *part, "another value");
            }
            Some(StoredField::Failed(failure)) if kind % 4 == 0 => assert_eq!(failure.cause, text(part)),
            other => panic!("{field} is {other:?}"),
        }
    }
    if cut > 0 {
        assert!(open(&whole[..whole.len().saturating_sub(cut)]).is_none(), "cut by {cut}");
        assert!(
            open(&[whole.as_slice(), &whole[..cut.min(whole.len())]].concat()).is_none(),
            "longer by {cut}"
        );
    }
}

fn named(field: &FieldRef, number: usize) -> FieldRef {
    let mut field = field.clone();
    field.field.text = format!("f{number}").into();
    field
}
