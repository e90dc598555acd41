//! The core's releases that are known by their SHA-256: a library that is none of them is used, with a notice, unless the configuration pins one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Version of the SDK, architecture, and the SHA-256 of its libop_uniffi_core.so.
const RELEASES: [(&str, &str, &str); 1] =
    [("0.4.2", "x86_64", "d030d05c5dca54f82c6cf8a4c00e82b19734d1ce6f5dfa2e5702c3cd2cd060d7")];

/// The release that a library is.
pub(super) fn release(sha256: &str) -> Option<&'static str> {
    RELEASES.iter().find(|(_, _, known)| *known == sha256).map(|(version, _, _)| *version)
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
