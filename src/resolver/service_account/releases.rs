//! The core's releases that are known by their SHA-256: a library that is none of them is used, with a notice, unless the configuration pins one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// One row a wheel of PyPI's onepassword-sdk: version, architecture, SHA-256 of the wheel, SHA-256 of its libop_uniffi_core.so, Python's
/// tag. It is written anew by: integration/core --sums
const RELEASES: &str = include_str!("releases.tsv");

/// The release that a library is.
pub(super) fn release(sha256: &str) -> Option<&'static str> {
    RELEASES.lines().find_map(|row| {
        let mut columns = row.split('\t');
        let version = columns.next()?;
        (columns.nth(2)? == sha256).then_some(version)
    })
}

/// Tells once which core is in use.
pub(super) fn notice(path: &Path, sha256: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if !TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256.to_owned()) {
        return;
    }
    let path = path.display();
    match release(sha256) {
        Some(version) => tracing::info!("1Password's SDK core {version} is in use: {path}"),
        None => tracing::warn!(
            "the SDK core {path} is of no release that is known here (SHA-256 {sha256}); \
             to be sure of it, pin it as the source's \"librarySha256\""
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_known_by_their_library() {
        let newest = "d030d05c5dca54f82c6cf8a4c00e82b19734d1ce6f5dfa2e5702c3cd2cd060d7";
        assert_eq!((release(newest), release("")), (Some("0.4.2"), None));
        assert!(RELEASES.lines().all(|row| row.split('\t').count() == 5));
    }
}
