//! The list of published files: paths, and attributes that show whether a file is unchanged. It is kept in
//! the store for the next process and contains no values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use crate::domain::secret::Target;

/// How many changes are appended to a short manifest before it is written again.
const FEW: usize = 64;

/// The published files, links and directories.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The files.
    files: BTreeMap<PathBuf, ManifestEntry>,
    /// The links and their targets.
    links: BTreeMap<PathBuf, PathBuf>,
    /// The directories that were created for the files.
    dirs: BTreeSet<PathBuf>,
    /// The directories that were created for the links.
    #[serde(default)]
    link_dirs: BTreeSet<PathBuf>,
    /// Changes that are not in the store yet.
    #[serde(skip)]
    news: BTreeSet<Key>,
    /// How many changes were appended in the store. `None` if the store may lack the manifest that they
    /// belong to.
    #[serde(skip)]
    appended: Option<usize>,
}

/// An entry of the manifest, by type and path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    File(PathBuf),
    Link(PathBuf),
    Dir(PathBuf),
    LinkDir(PathBuf),
}

/// A change, as a line of the stored form. A removed entry has no content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    File(PathBuf, Option<ManifestEntry>),
    Link(PathBuf, Option<PathBuf>),
    Dir(PathBuf, bool),
    LinkDir(PathBuf, bool),
}

/// What to write to the store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// Replace the stored manifest by this.
    Replace(Vec<u8>),
    /// Append this to the stored manifest.
    Append(Vec<u8>),
}

/// A published file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ManifestEntry {
    /// The root that contains it.
    pub(super) root: PathBuf,
    /// Its attributes after it was written; `None` if it may not have been written.
    pub(super) stamp: Option<Stamp>,
    /// The device and inode of a new file that will replace it, until that has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) coming: Option<(u64, u64)>,
    /// What it was made of: see [`super::plan::File::print`].
    #[serde(default)]
    pub(super) made_of: String,
}

/// The attributes of a file after it was written. The file cannot be read again: it may belong to another
/// user, and the provider may not read files of other users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    owner: (u32, u32),
    mode: u32,
    pub(super) size: u64,
    /// The SHA-256 of its content. This reveals nothing, because the store contains the values themselves.
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
    /// Parses the stored form: the manifest on the first line, then changes. The process died while it wrote
    /// an incomplete line.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let first = lines.next().and_then(|line| serde_json::from_slice(line).ok());
        let mut manifest: Self = first.unwrap_or_default();
        for change in lines.map_while(|line| serde_json::from_slice(line).ok()) {
            manifest.apply(change);
        }
        manifest
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::File(path, Some(entry)) => drop(self.files.insert(path, entry)),
            Change::File(path, None) => drop(self.files.remove(&path)),
            Change::Link(path, Some(to)) => drop(self.links.insert(path, to)),
            Change::Link(path, None) => drop(self.links.remove(&path)),
            Change::Dir(path, true) => drop(self.dirs.insert(path)),
            Change::Dir(path, false) => drop(self.dirs.remove(&path)),
            Change::LinkDir(path, true) => drop(self.link_dirs.insert(path)),
            Change::LinkDir(path, false) => drop(self.link_dirs.remove(&path)),
        }
    }

    /// The changes since the last call, if any. Appending costs as much as the changes. Everything is written
    /// again only after as many changes as there are entries.
    pub(super) fn update(&mut self) -> Option<Update> {
        if self.news.is_empty() {
            return None;
        }
        let news = std::mem::take(&mut self.news);
        let all = self.files.len() + self.links.len() + self.dirs.len();
        match self.appended {
            Some(appended) if appended + news.len() <= all.max(FEW) => {
                self.appended = Some(appended + news.len());
                let lines = news.into_iter().filter_map(|key| serde_json::to_vec(&self.change(key)).ok());
                Some(Update::Append(lines.flat_map(|line| [line, b"\n".to_vec()].concat()).collect()))
            }
            _ => {
                self.appended = Some(0);
                let mut whole = serde_json::to_vec(self).unwrap_or_default();
                whole.push(b'\n');
                Some(Update::Replace(whole))
            }
        }
    }

    /// Reports that an update could not be written: the next one replaces everything.
    pub(super) fn lost(&mut self) {
        self.appended = None;
    }

    fn change(&self, key: Key) -> Change {
        match key {
            Key::File(path) => Change::File(path.clone(), self.files.get(&path).cloned()),
            Key::Link(path) => Change::Link(path.clone(), self.links.get(&path).cloned()),
            Key::Dir(path) => Change::Dir(path.clone(), self.dirs.contains(&path)),
            Key::LinkDir(path) => Change::LinkDir(path.clone(), self.link_dirs.contains(&path)),
        }
    }

    pub(super) fn files(&self) -> &BTreeMap<PathBuf, ManifestEntry> {
        &self.files
    }

    pub(super) fn links(&self) -> &BTreeMap<PathBuf, PathBuf> {
        &self.links
    }

    pub(super) fn dirs(&self) -> &BTreeSet<PathBuf> {
        &self.dirs
    }

    pub(super) fn link_dirs(&self) -> &BTreeSet<PathBuf> {
        &self.link_dirs
    }

    pub(super) fn add_link_dir(&mut self, path: &Path) {
        if self.link_dirs.insert(path.to_owned()) {
            self.news.insert(Key::LinkDir(path.to_owned()));
        }
    }

    pub(super) fn remove_link_dir(&mut self, path: &Path) {
        if self.link_dirs.remove(path) {
            self.news.insert(Key::LinkDir(path.to_owned()));
        }
    }

    /// An entry to change.
    pub(super) fn file_mut(&mut self, path: &Path) -> Option<&mut ManifestEntry> {
        let entry = self.files.get_mut(path)?;
        self.news.insert(Key::File(path.to_owned()));
        Some(entry)
    }

    /// Records a file, its directories below the root and its links, so that they can be removed later even
    /// if the process dies.
    pub(super) fn note(&mut self, target: &Target, root: &Path) {
        if !self.files.contains_key(&target.path) {
            let entry =
                ManifestEntry { root: root.to_owned(), stamp: None, coming: None, made_of: String::new() };
            self.files.insert(target.path.clone(), entry);
            self.news.insert(Key::File(target.path.clone()));
        }
        for dir in target.path.ancestors().skip(1).take_while(|dir| *dir != root) {
            if self.dirs.insert(dir.to_owned()) {
                self.news.insert(Key::Dir(dir.to_owned()));
            }
        }
        for link in target.links.iter().filter(|link| !self.links.contains_key(*link)).collect::<Vec<_>>() {
            self.set_link(link, &target.path);
        }
    }

    pub(super) fn remove_file(&mut self, path: &Path) {
        if self.files.remove(path).is_some() {
            self.news.insert(Key::File(path.to_owned()));
        }
    }

    pub(super) fn set_link(&mut self, path: &Path, to: &Path) {
        if self.links.insert(path.to_owned(), to.to_owned()).as_deref() != Some(to) {
            self.news.insert(Key::Link(path.to_owned()));
        }
    }

    pub(super) fn remove_link(&mut self, path: &Path) {
        if self.links.remove(path).is_some() {
            self.news.insert(Key::Link(path.to_owned()));
        }
    }

    pub(super) fn remove_dir(&mut self, path: &Path) {
        if self.dirs.remove(path) {
            self.news.insert(Key::Dir(path.to_owned()));
        }
    }

    /// The memory that the files use, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(ManifestEntry::bytes).sum()
    }
}

impl ManifestEntry {
    /// Whether a file is the one that onecred wrote, even if its owner has changed it.
    pub(super) fn is_of(&self, stat: &FileStat) -> bool {
        let there = (stat.st_dev, stat.st_ino);
        self.coming == Some(there)
            || self.stamp.as_ref().is_some_and(|stamp| (stamp.device, stamp.inode) == there)
    }

    /// The memory that the file uses, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.stamp.as_ref().map_or(0, |stamp| in_pages(stamp.size))
    }
}

/// The memory that a file of this size uses, in bytes.
pub(super) fn in_pages(size: u64) -> u64 {
    size.div_ceil(4096) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        let path = Path::new("/run/secrets/dir").join(name);
        let links = vec![Path::new("/etc").join(name)];
        Target { path, user: "root".into(), group: None, mode: 0o400, links, make_directories: false }
    }

    /// The content of a store after these updates.
    fn write(store: &mut Vec<u8>, manifest: &mut Manifest) {
        match manifest.update() {
            Some(Update::Replace(whole)) => *store = whole,
            Some(Update::Append(more)) => store.extend(more),
            None => {}
        }
    }

    #[test]
    fn what_was_appended_is_read_again() {
        let (mut manifest, mut store, root) = (Manifest::default(), Vec::new(), Path::new("/run/secrets"));
        for name in ["one", "two", "three"] {
            manifest.note(&target(name), root);
            write(&mut store, &mut manifest);
        }
        manifest.remove_file(&target("two").path);
        manifest.remove_link(&target("two").links[0]);
        manifest.set_link(&target("one").links[0], &target("three").path);
        manifest.file_mut(&target("three").path).unwrap().coming = Some((1, 2));
        write(&mut store, &mut manifest);
        assert_eq!(manifest.update(), None);
        assert_eq!(
            store.iter().filter(|byte| **byte == b'\n').count(),
            9,
            "{}",
            String::from_utf8_lossy(&store)
        );
        let same = |read: &Manifest, of: &Manifest| {
            let form = |it: &Manifest| serde_json::to_string(it).unwrap();
            assert_eq!(form(read), form(of));
        };
        same(&Manifest::read(&store), &manifest);
        // the process died while it wrote the last line
        let torn = Manifest::read(&store[..store.len() - 3]);
        assert!(!torn.files().contains_key(&target("two").path));
        assert!(torn.links().contains_key(&target("two").links[0]), "the last change was removing it");
        // nothing is appended after an incomplete line
        let mut next = Manifest::read(&store[..store.len() - 3]);
        next.remove_dir(Path::new("/run/secrets/dir"));
        assert!(matches!(next.update(), Some(Update::Replace(_))));
        next.note(&target("four"), root);
        assert!(matches!(next.update(), Some(Update::Append(_))));
        next.lost();
        next.note(&target("five"), root);
        assert!(matches!(next.update(), Some(Update::Replace(_))));
        // the form of the previous version, which had no lines
        let whole = serde_json::to_vec(&manifest).unwrap();
        same(&Manifest::read(&whole), &manifest);
        assert!(Manifest::read(b"").files().is_empty());
    }

    #[test]
    fn everything_is_written_again_after_as_many_changes_as_entries() {
        for (files, expected) in [(1, FEW), (40, 81)] {
            let (mut manifest, root) = (Manifest::default(), Path::new("/run/secrets"));
            // each with a link, and all in one directory
            (0..files).for_each(|n| manifest.note(&target(&n.to_string()), root));
            assert!(matches!(manifest.update(), Some(Update::Replace(_))));
            let mut change = || {
                manifest.file_mut(&target("0").path).unwrap();
                matches!(manifest.update(), Some(Update::Append(_)))
            };
            assert_eq!((0..200).take_while(|_| change()).count(), expected, "{files} files");
        }
    }

    #[test]
    fn directories_of_links_are_kept_until_they_are_removed() {
        let (mut manifest, mut store, dir) = (Manifest::default(), Vec::new(), Path::new("/etc/app"));
        manifest.add_link_dir(dir);
        write(&mut store, &mut manifest);
        assert!(Manifest::read(&store).link_dirs().contains(dir));
        manifest.remove_link_dir(dir);
        write(&mut store, &mut manifest);
        assert!(Manifest::read(&store).link_dirs().is_empty());
    }

    #[test]
    fn a_thousand_changes_write_as_much_as_a_thousand_files() {
        let (mut manifest, root, mut written, mut whole) =
            (Manifest::default(), Path::new("/run/secrets"), 0, 0);
        for round in 0..3 {
            for n in 0..1000 {
                let target = target(&format!("secret-{n}"));
                manifest.note(&target, root);
                manifest.file_mut(&target.path).unwrap().coming = Some((round, n));
                written += match manifest.update().unwrap() {
                    Update::Replace(bytes) => {
                        whole = bytes.len();
                        bytes.len()
                    }
                    Update::Append(bytes) => bytes.len(),
                };
            }
        }
        assert!(written < 10 * whole, "{written} bytes were written for a list of {whole} bytes");
    }
}
