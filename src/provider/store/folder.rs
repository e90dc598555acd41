//! The directory of the store: in memory that is never written to a disk, readable only by this user. Files
//! are replaced by renaming.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

const RAMFS_MAGIC: i64 = 0x8584_58f6;
const STATE: &str = "state.json";
/// The published files; kept after the process ends.
pub(super) const PUBLISHED: &str = "published.json";
/// The units that must be started again; kept after the process ends.
pub(super) const REFUSED: &str = "refused.json";
/// The pending restarts; kept after the process ends.
pub(super) const PENDING: &str = "pending.json";
/// What units received; kept after the process ends. The first line is the key of the digests.
pub(super) const RECEIVED: &str = "received.json";
/// The last valid configuration; kept after the process ends.
pub(super) const CONFIGURATION: &str = "configuration.json";
/// The requests that were open when a provider was killed. The number of its keeper follows.
pub(super) const UNANSWERED: &str = "unanswered.";
const UNFINISHED: &str = "new.";

/// Where the directory may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On a ramfs, or a tmpfs that never swaps.
    Memory,
    /// Anywhere. For development only.
    Anything,
}

/// Why a directory cannot be used as the store.
#[derive(Debug, thiserror::Error)]
pub enum BadFolder {
    /// It does not exist, or cannot be read.
    #[error("the store {0} can't be opened: {1}; it is mounted by run-onecred-store.mount")]
    Open(PathBuf, #[source] io::Error),
    /// It is on a file system that may be written to a disk.
    #[error(
        "the store {0} is neither on a ramfs nor on a tmpfs with noswap, so secrets could be written to a disk; \
         start run-onecred-store.mount (or, for experiments, use --development)"
    )]
    NotMemory(PathBuf),
    /// Other users could read it or write to it.
    #[error(
        "the store {path} belongs to user {owner} with mode {mode:04o}; it must belong to this user, with mode 0700"
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
}

/// The open directory.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens a directory as the store, if it is suitable.
    pub fn open(path: &Path, kind: Kind) -> Result<Self, BadFolder> {
        let wrong = |error: io::Error| BadFolder::Open(path.to_owned(), error);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|errno| wrong(errno.into()))?;
        if kind == Kind::Memory && !is_memory(&fd, path).map_err(wrong)? {
            return Err(BadFolder::NotMemory(path.to_owned()));
        }
        let metadata = File::from(fd).metadata().map_err(wrong)?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != nix::unistd::geteuid().as_raw() || mode & 0o077 != 0 {
            return Err(BadFolder::NotOurs { path: path.to_owned(), owner, mode });
        }
        Ok(Self { path: path.to_owned() })
    }

    /// A missing directory: it has no files, and writes fail.
    pub(super) fn none() -> Self {
        Self { path: PathBuf::from("/proc/none") }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files of snapshots with their names: those with this prefix before the digest.
    pub(super) fn snapshots(&self, prefix: &str) -> Result<Vec<(String, File)>, BadFolder> {
        let wrong = |error| BadFolder::Open(self.path.clone(), error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(wrong)? {
            let Ok(name) = entry.map_err(wrong)?.file_name().into_string() else { continue };
            let digest = name.strip_prefix(prefix).unwrap_or_default();
            if digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
                let file =
                    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(self.path.join(&name));
                match file {
                    Ok(file) => found.push((name, file)),
                    Err(error) => {
                        tracing::warn!("a snapshot in the store can't be opened, and is removed: {error}")
                    }
                }
            }
        }
        Ok(found)
    }

    /// The names of the files with this prefix.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// Removes everything except these files, the state, and the lists that are kept after the process ends.
    pub(super) fn keep_only(&self, names: &HashSet<String>) -> Result<(), BadFolder> {
        let wrong = |error| BadFolder::Open(self.path.clone(), error);
        for entry in fs::read_dir(&self.path).map_err(wrong)? {
            let name = entry.map_err(wrong)?.file_name();
            let is_list = [STATE, PUBLISHED, REFUSED, PENDING, RECEIVED, CONFIGURATION]
                .iter()
                .any(|list| name == *list);
            let stays = |name: &str| names.contains(name) || name.starts_with(UNANSWERED);
            if !is_list && !name.to_str().is_some_and(stays) {
                let _ = fs::remove_file(self.path.join(name)); // fails for a directory that someone else made
            }
        }
        Ok(())
    }

    /// Writes a file and replaces the previous one: other processes see the old file or the complete new one.
    pub(super) fn replace<'a>(&self, name: &str, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<File> {
        let unfinished = self.path.join(format!("{UNFINISHED}{name}"));
        let result = write_new(&unfinished, pieces).and_then(|file| {
            fs::rename(&unfinished, self.path.join(name))?;
            Ok(file)
        });
        if result.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        result
    }

    /// Appends to a file.
    pub(super) fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let options = OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).clone();
        options.open(self.path.join(name))?.write_all(bytes)
    }

    /// Gives a file a second name, which replaces a file with that name.
    pub(super) fn also_call(&self, name: &str, other: &str) -> io::Result<()> {
        let unfinished = self.path.join(format!("{UNFINISHED}{other}"));
        let _ = fs::remove_file(&unfinished);
        fs::hard_link(self.path.join(name), &unfinished)?;
        fs::rename(&unfinished, self.path.join(other)).inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })
    }

    pub(super) fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path.join(name)) {
            tracing::error!("a snapshot could not be removed from the store: {error}");
        }
    }

    pub(super) fn read_state(&self) -> Option<Vec<u8>> {
        fs::read(self.path.join(STATE)).ok()
    }

    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path.join(name)).ok()
    }

    pub(super) fn write_state(&self, bytes: &[u8]) -> io::Result<()> {
        self.replace(STATE, std::iter::once(bytes)).map(drop)
    }
}

fn write_new<'a>(path: &Path, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<File> {
    let _ = fs::remove_file(path); // left by a process that died while it wrote
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    for piece in pieces {
        file.write_all(piece)?;
    }
    Ok(file)
}

/// Whether files here stay in memory: on a ramfs, or on a tmpfs with `noswap`.
pub(in crate::provider) fn is_memory(fd: &impl AsFd, path: &Path) -> io::Result<bool> {
    let kind = fstatfs(fd)?.filesystem_type();
    if kind.0 == RAMFS_MAGIC {
        return Ok(true);
    }
    if kind != TMPFS_MAGIC {
        return Ok(false);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let real = fs::canonicalize(path)?;
    let noswap = mounts.lines().filter_map(|line| {
        let (mount, superblock) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        real.starts_with(point)
            .then(|| (point.len(), superblock.split([' ', ',']).any(|option| option == "noswap")))
    });
    // if several mounts are stacked, the last one counts
    Ok(noswap
        .enumerate()
        .max_by_key(|&(order, (depth, _))| (depth, order))
        .is_some_and(|(_, (_, noswap))| noswap))
}
