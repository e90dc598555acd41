use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::digest::DigestKey;
use super::*;
use crate::domain::name::SourceName;
use crate::domain::secret::SecretValue;
use crate::ipc::{Class, Failure, FetchedValue, ItemId, ItemState};

/// Snapshots for the tests of this module and others.
pub(crate) mod testing {
    use super::*;
    use crate::domain::reference::Reference;

    pub(crate) fn field(name: &str) -> FieldRef {
        Reference::parse(&format!("op://v/i/{name}")).unwrap().field
    }

    pub(crate) fn key(item: &str) -> ItemKey {
        let item = Reference::parse(&format!("op://v/{item}/f")).unwrap().item;
        ItemKey { source: SourceName::default_source(), item }
    }

    pub(crate) fn failure() -> Failure {
        Failure::new(Class::NotFound, "no field", "make one")
    }

    pub(crate) fn fetched(version: u64, values: &[Result<&[u8], Failure>]) -> Fetched {
        let value = |bytes: &&[u8]| FetchedValue { value: SecretValue::new(bytes.to_vec()), expires: None };
        Fetched {
            id: ItemId { vault: "v".into(), item: "i".into() },
            version,
            vault_version: Some(7),
            fields: values.iter().map(|v| v.as_ref().map(value).map_err(Clone::clone)).collect(),
        }
    }

    pub(crate) fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    pub(crate) fn slot<const N: usize>(values: &[(&str, Result<&[u8; N], Failure>)]) -> Slot {
        let folder = folder();
        let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
        let asked: Vec<FieldRef> = values.iter().map(|(name, _)| field(name)).collect();
        let values: Vec<_> = values.iter().map(|(_, v)| v.clone().map(<[u8; N]>::as_slice)).collect();
        put(&store, "i", &asked, fetched(1, &values)).unwrap();
        store.slot(&key("i")).unwrap()
    }

    pub(crate) fn put(
        store: &Store,
        item: &str,
        asked: &[FieldRef],
        fetched: Fetched,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let (asked_at, key) = (BootTime::now(), key(item));
        store.put(
            NewSnapshot { key: &key, asked, asked_at, source_print: "p", by_rule: false, stand_in: None },
            fetched,
        )
    }
}

use testing::{failure, fetched, field, folder, key, put};

fn value(snapshot: &Snapshot, name: &str) -> Vec<u8> {
    match snapshot.entry(&field(name)) {
        Some(StoredField::Value { offset, len, .. }) => {
            snapshot.read(*offset, *len).unwrap().expose().to_vec()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_is_the_same_after_a_restart() {
    let folder = folder();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    let asked = [field("a"), field("b"), field("c")];
    put(&store, "one", &asked, fetched(3, &[Ok(b"first"), Err(failure()), Ok(b"")])).unwrap();
    let known = store.known(&SourceName::default_source());
    let later = BootTime::now().after(std::time::Duration::from_secs(5));
    store.confirm(
        &SourceName::default_source(),
        later,
        vec![(known[0].clone(), ItemState::Unchanged { vault_version: Some(9) })],
    );
    store.save_confirmations();
    drop(store);
    fs::write(folder.path().join("new.0123"), "of a process that died").unwrap();
    fs::write(folder.path().join("0123456789abcdef0123456789abcdef"), "garbage").unwrap();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    let slot = store.slot(&key("one")).unwrap();
    assert_eq!((slot.snapshot.version, slot.vault_version, slot.confirmed), (3, Some(9), later));
    assert_eq!((value(&slot.snapshot, "a"), value(&slot.snapshot, "c")), (b"first".to_vec(), vec![]));
    assert_eq!(slot.snapshot.entry(&field("b")), Some(&StoredField::Failed(failure())));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the snapshot and the state, no rubbish");
    assert_eq!(store.size().0, 1);
}

#[test]
fn who_has_a_snapshot_reads_it_whole_whatever_replaces_it() {
    let folder = folder();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    let old = put(&store, "one", &[field("a")], fetched(1, &[Ok(b"old")])).unwrap();
    put(&store, "one", &[field("a")], fetched(2, &[Ok(b"new value")])).unwrap();
    assert_eq!(value(&old, "a"), b"old");
    assert_eq!(value(&store.slot(&key("one")).unwrap().snapshot, "a"), b"new value");
    store.remove(&key("one"));
    assert!(store.slot(&key("one")).is_none());
    assert_eq!(store.size(), (0, 0));
    assert_eq!(value(&old, "a"), b"old");
}

#[test]
fn a_full_store_refuses_and_keeps_what_it_has() {
    let folder = folder();
    let store = Store::open(folder.path(), Kind::Anything, 4096).unwrap();
    put(&store, "one", &[field("a")], fetched(1, &[Ok(b"kept")])).unwrap();
    let large = vec![0; 4096];
    let error = put(&store, "one", &[field("a")], fetched(2, &[Ok(&large)])).unwrap_err();
    assert!(matches!(error, StoreError::Full { limit: 4096, .. }), "{error}");
    assert!(put(&store, "two", &[field("a")], fetched(1, &[Ok(&large)])).is_err());
    assert_eq!(value(&store.slot(&key("one")).unwrap().snapshot, "a"), b"kept");
}

#[test]
fn a_snapshot_that_was_cut_or_changed_is_no_snapshot() {
    let folder = folder();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    put(&store, "one", &[field("a")], fetched(1, &[Ok(b"a secret value")])).unwrap();
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    for cut in 0..whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        assert!(format::read(fs::File::open(&file).unwrap(), &DigestKey::random()).is_err(), "cut at {cut}");
    }
    fs::write(&file, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(format::read(fs::File::open(&file).unwrap(), &DigestKey::random()).is_err(), "longer");
    fs::write(&file, &whole).unwrap();
    assert!(format::read(fs::File::open(&file).unwrap(), &DigestKey::random()).is_ok());
}

#[test]
fn a_check_speaks_of_the_version_that_it_asked_about() {
    let folder = folder();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    let source = SourceName::default_source();
    put(&store, "one", &[field("a")], fetched(1, &[Ok(b"old")])).unwrap();
    let known = store.known(&source);
    put(&store, "one", &[field("a")], fetched(2, &[Ok(b"new")])).unwrap();
    let gone = store.confirm(&source, BootTime::now(), vec![(known[0].clone(), ItemState::Gone(failure()))]);
    assert!(gone.is_empty(), "it was about a version that is there no more");
    let known = store.known(&source);
    store.confirm(&source, BootTime::now(), vec![(known[0].clone(), ItemState::Changed)]);
    assert!(store.slot(&key("one")).unwrap().changed && store.known(&source).is_empty());
    put(&store, "one", &[field("a")], fetched(3, &[Ok(b"newer")])).unwrap();
    let gone = store.confirm(
        &source,
        BootTime::now(),
        vec![(store.known(&source)[0].clone(), ItemState::Gone(failure()))],
    );
    assert_eq!(gone.len(), 1);
    assert!(store.slot(&key("one")).is_none());
}

#[test]
fn a_check_of_a_thousand_that_finds_nothing_new_writes_nothing() {
    let folder = folder();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 30).unwrap();
    let source = SourceName::default_source();
    for n in 0..1000 {
        put(&store, &format!("item{n}"), &[field("a")], fetched(1, &[Ok(b"a value")])).unwrap();
    }
    let files = || {
        let of = |entry: fs::DirEntry| {
            let metadata = entry.metadata().unwrap();
            (entry.file_name(), metadata.ino(), metadata.modified().unwrap())
        };
        let mut all: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| of(entry.unwrap())).collect();
        all.sort();
        all
    };
    let check = |state: ItemState| {
        let at = BootTime::now().after(std::time::Duration::from_secs(60));
        let known = store.known(&source).into_iter().map(|known| (known, state.clone())).collect();
        store.confirm(&source, at, known);
        at
    };
    let before = files();
    let at = check(ItemState::Unchanged { vault_version: Some(7) });
    assert_eq!(store.slot(&key("item0")).unwrap().confirmed, at);
    assert_eq!((files(), before.len()), (before, 1000), "nothing is written");
    store.save_confirmations();
    let saved = files();
    assert_eq!(saved.len(), 1001);
    store.save_confirmations();
    assert_eq!(files(), saved, "it is written once");
    let next = Store::open(folder.path(), Kind::Anything, 1 << 30).unwrap();
    assert_eq!(next.slot(&key("item0")).unwrap().confirmed, at, "the next process knows it");
    drop(next);
    check(ItemState::Changed);
    assert_ne!(files(), saved, "that something has changed is written at once");
    assert!(
        Store::open(folder.path(), Kind::Anything, 1 << 30).unwrap().slot(&key("item0")).unwrap().changed
    );
}

#[test]
fn only_a_folder_of_our_own_in_memory_is_a_store() {
    let folder = folder();
    assert!(matches!(Store::open(&folder.path().join("no"), Kind::Anything, 1), Err(BadFolder::Open(..))));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(
        Store::open(folder.path(), Kind::Anything, 1),
        Err(BadFolder::NotOurs { mode: 0o750, .. })
    ));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
    assert!(matches!(Store::open(&folder.path().join("link"), Kind::Anything, 1), Err(BadFolder::Open(..))));
    // the directory of a test is wherever /tmp is; a case on a booted machine verifies that a disk is
    // rejected
    let here = Folder::open(Path::new("/proc"), Kind::Memory);
    assert!(matches!(here, Err(BadFolder::NotMemory(_))), "{here:?}");
}
