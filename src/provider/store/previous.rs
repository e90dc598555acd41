//! The previous values of an item: for each field the last value that differs from the current one, for a
//! rollback.
//!
//! Values are compared, not versions. The version of an item also changes with its other fields, and service
//! accounts may return different content with the same version.

use std::collections::BTreeSet;
use std::io;

use super::format::{self, Encoded, Snapshot};
use super::{Digest, DigestKey};
use crate::domain::reference::FieldRef;

/// Which previous values to keep when an item is replaced.
pub(super) enum Keep {
    /// None.
    Nothing,
    /// Those that are already kept.
    Earlier,
    /// The snapshot that is being replaced.
    Current,
    /// Some of each.
    Merged(Box<Encoded>),
}

/// Where the previous value of a field comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Current,
    Earlier,
}

/// Decides for one field, by the digests of its value in the snapshot that is being replaced, in the earlier
/// one, and in the new one; `None` without a value. The value of a removed field is kept.
fn choose(current: Option<Digest>, earlier: Option<Digest>, new: Option<Digest>) -> Option<From> {
    match (current, earlier) {
        (Some(current), _) if new != Some(current) => Some(From::Current),
        (_, Some(earlier)) if new != Some(earlier) => Some(From::Earlier),
        _ => None,
    }
}

/// Decides for an item.
pub(super) fn keep(
    current: &Snapshot,
    earlier: Option<&Snapshot>,
    new: &Encoded,
    digests: &DigestKey,
) -> io::Result<Keep> {
    let fields: BTreeSet<&FieldRef> =
        current.fields().chain(earlier.into_iter().flat_map(Snapshot::fields)).collect();
    let (mut of_current, mut of_earlier) = (Vec::new(), Vec::new());
    for field in fields {
        let before = earlier.and_then(|earlier| earlier.digest(field));
        match choose(current.digest(field), before, new.digest(field, digests)) {
            Some(From::Current) => of_current.push(field.clone()),
            Some(From::Earlier) => of_earlier.push(field.clone()),
            None => {}
        }
    }
    Ok(match (earlier, of_current.is_empty(), of_earlier.is_empty()) {
        (Some(earlier), false, false) => {
            Keep::Merged(Box::new(format::merged((current, &of_current), (earlier, &of_earlier))?))
        }
        (_, false, _) => Keep::Current,
        (_, true, false) => Keep::Earlier,
        (_, true, true) => Keep::Nothing,
    })
}

/// Whether a snapshot has a value that differs from the current one. If it has none, a process died while it
/// replaced the item.
pub(super) fn differs(previous: &Snapshot, current: &Snapshot) -> bool {
    previous
        .fields()
        .any(|field| previous.digest(field).is_some_and(|digest| current.digest(field) != Some(digest)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::testing::{failure, fetched, field, folder, key, put};
    use super::super::{Kind, Store, StoredField};
    use super::*;

    #[test]
    fn the_previous_value_of_a_field_differs_from_the_current_one() {
        let digest = |n: u8| (n > 0).then(|| Digest::testing(n));
        for (case, current, earlier, new, expected) in [
            ("a first value", 0, 0, 1, None),
            ("a second value", 1, 0, 2, Some(From::Current)),
            ("a third value", 2, 1, 3, Some(From::Current)),
            ("the same value again", 2, 1, 2, Some(From::Earlier)),
            ("back to the first value", 2, 1, 1, Some(From::Current)),
            ("no value any more", 2, 1, 0, Some(From::Current)),
            ("another value after none", 0, 2, 3, Some(From::Earlier)),
            ("the same value after none", 0, 2, 2, None),
        ] {
            assert_eq!(choose(digest(current), digest(earlier), digest(new)), expected, "{case}");
        }
    }

    #[test]
    fn each_field_keeps_its_own_previous_value() {
        let folder = folder();
        let open = || Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
        let store = open();
        let fields = [field("user"), field("password")];
        let previous = |store: &Store, name: &str| {
            let previous = store.slot(&key("one")).unwrap().previous?;
            let Some(&StoredField::Value { offset, len, .. }) = previous.entry(&field(name)) else {
                return None;
            };
            let value = previous.read(offset, len).unwrap();
            Some((previous.version_of(&field(name)), String::from_utf8(value.expose().to_vec()).unwrap()))
        };
        let some = |version, value: &str| Some((version, value.to_owned()));
        let change = |version, user: &str, password: &str| {
            let values = [Ok(user.as_bytes()), Ok(password.as_bytes())];
            put(&store, "one", &fields, fetched(version, &values)).unwrap();
        };
        change(1, "alice", "one");
        assert_eq!(previous(&store, "password"), None);
        change(2, "alice", "two");
        assert_eq!(previous(&store, "password"), some(1, "one"));
        change(3, "bob", "two");
        for store in [&store, &open()] {
            assert_eq!(previous(store, "password"), some(1, "one"), "another field changed");
            assert_eq!(previous(store, "user"), some(2, "alice"));
        }
        change(3, "bob", "three");
        assert_eq!(previous(&store, "password"), some(3, "two"), "the version is the same");
        change(4, "bob", "three");
        assert_eq!(previous(&open(), "password"), some(3, "two"), "nothing but the version changed");
        assert_eq!(store.size().1, 2 * 4096);
        put(&store, "one", &fields, fetched(5, &[Ok(b"bob"), Err(failure())])).unwrap();
        assert_eq!(previous(&store, "password"), some(4, "three"), "the field is gone");
        store.remove(&key("one"));
        assert_eq!(
            (store.size(), fs::read_dir(folder.path()).unwrap().count()),
            ((0, 0), 0),
            "nothing is left"
        );
    }

    #[test]
    fn a_copy_of_the_current_values_is_not_a_previous_version() {
        let folder = folder();
        let open = || Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
        let store = open();
        put(&store, "one", &[field("a")], fetched(1, &[Ok(b"first")])).unwrap();
        let name = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().file_name();
        let copy = format!("previous.{}", name.to_str().unwrap());
        // as a process leaves it that dies before the new snapshot is written
        fs::hard_link(folder.path().join(&name), folder.path().join(&copy)).unwrap();
        assert!(open().slot(&key("one")).unwrap().previous.is_none());
        assert!(!folder.path().join(copy).exists(), "and it is removed");
    }

    #[test]
    fn a_store_that_is_full_keeps_the_current_values_alone() {
        let folder = folder();
        let store = Store::open(folder.path(), Kind::Anything, 4096).unwrap();
        put(&store, "one", &[field("a")], fetched(1, &[Ok(b"first")])).unwrap();
        put(&store, "one", &[field("a")], fetched(2, &[Ok(b"second")])).unwrap();
        assert!(store.slot(&key("one")).unwrap().previous.is_none());
        assert_eq!(store.size().1, 4096);
    }
}
