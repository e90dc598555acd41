//! What was published: paths and what tells that a file is still as it was written, kept in the store for the process after this one. No value is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

/// What was published.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The files.
    pub(super) files: BTreeMap<PathBuf, Entry>,
    /// The links, and what each points to.
    pub(super) links: BTreeMap<PathBuf, PathBuf>,
    /// The directories that were made for them.
    pub(super) dirs: BTreeSet<PathBuf>,
}

/// A published file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The root it is below.
    pub(super) root: PathBuf,
    /// What it was when it was written; none where it may not have been.
    pub(super) stamp: Option<Stamp>,
    /// What it was made of: see [`super::plan::File::print`].
    #[serde(default)]
    pub(super) made_of: String,
}

/// A file as it was written. It can't be read again: it may be another user's, and the provider may not read what others own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    owner: (u32, u32),
    mode: u32,
    pub(super) size: u64,
    /// The SHA-256 of its content. The store holds the values themselves, so this gives nothing away.
    digest: String,
}

impl Stamp {
    /// The stamp of a file.
    pub(super) fn new(stat: &FileStat, digest: String) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            owner: (stat.st_uid, stat.st_gid),
            mode: stat.st_mode,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            digest,
        }
    }
}

/// The digest of a content.
pub(super) fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Manifest {
    /// The memory that the files take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(Entry::bytes).sum()
    }
}

impl Entry {
    /// The memory that the file takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.stamp.as_ref().map_or(0, |stamp| in_pages(stamp.size))
    }
}

/// The memory that a file of this size takes, in bytes.
pub(super) fn in_pages(size: u64) -> u64 {
    size.div_ceil(4096) * 4096
}
