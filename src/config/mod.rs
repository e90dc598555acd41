//! The configuration: as it was written, merged from its files, and checked into what both halves work with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::name::{CredentialId, SourceName};
use crate::policy::Policy;

/// The checked configuration: whatever is in it can be worked with as it stands.
#[derive(Debug, Default)]
pub struct Settings {
    /// Where secrets come from, by name.
    pub sources: BTreeMap<SourceName, Source>,
    /// The secrets and rules, arranged to be asked.
    pub policy: Policy,
    /// What the provider allows itself.
    pub limits: Limits,
}

/// A source of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// The systemd credential of the resolver's unit that holds its token.
    pub token: CredentialId,
    /// Where it was declared, as `FILE:LINE`.
    pub declared_at: String,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A service account, through 1Password's own core.
    ServiceAccount,
    /// A Connect server.
    Connect {
        /// Its base URL, without `/v1`.
        url: String,
        /// Whether plain http may leave this host.
        insecure: bool,
        /// A PEM file of certificate authorities to trust instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// A development vault: a JSON file in Connect's shapes.
    File {
        /// The file.
        path: PathBuf,
    },
}

/// What the provider allows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that snapshots may take in the store.
    pub store_bytes: u64,
    /// The most connections that are served at once; further ones wait in the listen queue.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { store_bytes: 64 << 20, connections: 512 }
    }
}
