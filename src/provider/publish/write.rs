//! Writes files where others read them: first under another name, then renamed, so that no reader sees an
//! incomplete file.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fchown, getegid, geteuid, unlinkat};

use super::super::store::Kind;
use super::accounts::Owner;
use super::dirs::Dir;
use super::manifest::{Manifest, ManifestEntry, Stamp, digest, in_pages};
use crate::domain::secret::{SecretValue, Target};
use crate::provider::base::publish_error::Fault;

/// The prefix of names while files are written.
pub(super) const UNFINISHED: &str = ".onecred-";

/// A file to publish.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) target: &'a Target,
    pub(super) root: &'a Path,
    pub(super) owner: Owner,
    pub(super) value: SecretValue,
    /// The fingerprint of what it is made of, which is compared with later ones.
    pub(super) made_of: String,
}

/// Writes and removes published files, and keeps the manifest.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) kind: Kind,
    /// The limit of all files in bytes.
    pub(super) limit: u64,
    pub(super) manifest: Manifest,
    pub(super) used: u64,
    /// By how many bytes the new files of this round exceed those that they replace.
    pub(super) staged: u64,
    next: u64,
}

/// Directories that were opened during one round of writing.
#[derive(Debug, Default)]
pub(super) struct Open(pub(super) HashMap<PathBuf, Rc<Dir>>);

/// A new file under its temporary name.
pub(super) struct Staged<'a> {
    pub(super) at: usize,
    dir: Rc<Dir>,
    first: OsString,
    name: &'a OsStr,
    file: OwnedFd,
    digest: String,
}

impl Writer {
    pub(super) fn new(kind: Kind, manifest: Manifest) -> Self {
        Self { kind, limit: u64::MAX, used: manifest.bytes(), staged: 0, manifest, next: 0 }
    }

    /// Checks whether files can be written below a root.
    pub(super) fn opens(&self, root: &Path) -> Result<(), Fault> {
        Dir::root(root, self.kind).map(drop)
    }

    /// Whether a file was published.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.manifest.files().get(path).is_some_and(|entry| entry.stamp.is_some())
    }

    /// What a published file was made of.
    pub(super) fn made_of(&self, path: &Path) -> Option<&str> {
        self.manifest
            .files()
            .get(path)
            .filter(|entry| entry.stamp.is_some())
            .map(|entry| entry.made_of.as_str())
    }

    /// The directory of a path; creates it if necessary.
    pub(super) fn parent(&self, path: &Path, root: &Path, open: &mut Open) -> Result<Rc<Dir>, Fault> {
        let parent = path.parent().unwrap_or(root);
        if let Some(dir) = open.0.get(parent) {
            return Ok(Rc::clone(dir));
        }
        let dir = if parent == root {
            Dir::root(root, self.kind)?
        } else {
            let above = self.parent(parent, root, open)?;
            let name = parent.file_name().unwrap_or_default();
            above.make(name)?;
            above.down(name)?
        };
        let dir = Rc::new(dir);
        open.0.insert(parent.to_owned(), Rc::clone(&dir));
        Ok(dir)
    }

    /// Writes files of one version. Skips files that are already correct. Returns for each whether it was
    /// written.
    ///
    /// Files that have a directory to themselves are replaced with it in one step, or not at all. Otherwise
    /// all files are written first, then renamed one right after another.
    ///
    /// `keep` stores the manifest. It is called before a file gets its final name, so that onecred recognises
    /// the file as its own even if it dies then.
    pub(super) fn put(
        &mut self,
        pieces: &[Piece<'_>],
        open: &mut Open,
        keep: &dyn Fn(&mut Manifest),
    ) -> Vec<Result<bool, Fault>> {
        let results = match self.swap(pieces, open, keep) {
            Some(results) => results,
            None => self.put_each(pieces, open, keep),
        };
        for piece in pieces.iter().zip(&results).filter_map(|(piece, result)| result.is_ok().then_some(piece))
        {
            let path = &piece.target.path;
            if self.manifest.files().get(path).is_some_and(|entry| entry.made_of != piece.made_of)
                && let Some(entry) = self.manifest.file_mut(path)
            {
                entry.made_of.clone_from(&piece.made_of);
            }
        }
        results
    }

    fn put_each(
        &mut self,
        pieces: &[Piece<'_>],
        open: &mut Open,
        keep: &dyn Fn(&mut Manifest),
    ) -> Vec<Result<bool, Fault>> {
        self.staged = 0;
        let mut results: Vec<Result<bool, Fault>> = Vec::with_capacity(pieces.len());
        let mut staged = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            let result = self.stage_beside(at, piece, open);
            results.push(result.map(|new| staged.extend(new)).map(|()| false));
        }
        // a file whose path is unsuitable fails alone; if the limit would be exceeded, no file changes
        if results.iter().any(|result| matches!(result, Err(Fault::Full { .. }))) {
            staged.iter().for_each(Staged::discard);
            return together(pieces, results);
        }
        self.announce(pieces, staged.iter(), keep);
        for staged in staged {
            let path = &pieces[staged.at].target.path;
            let result = renameat(&staged.dir, staged.first.as_os_str(), &staged.dir, staged.name)
                .map_err(Fault::io(path, "put in its place"))
                .and_then(|()| self.stamp(path, &staged));
            if result.is_err() {
                staged.discard();
            }
            results[staged.at] = result.map(|()| true);
        }
        results
    }

    /// Records in the manifest which new files are about to be renamed, and stores the manifest.
    pub(super) fn announce<'a, 'p: 'a>(
        &mut self,
        pieces: &[Piece<'_>],
        staged: impl Iterator<Item = &'a Staged<'p>>,
        keep: &dyn Fn(&mut Manifest),
    ) {
        let mut any = false;
        for staged in staged {
            if let (Ok(stat), Some(entry)) =
                (fstat(&staged.file), self.manifest.file_mut(&pieces[staged.at].target.path))
            {
                entry.coming = Some((stat.st_dev, stat.st_ino));
                any = true;
            }
        }
        if any {
            keep(&mut self.manifest);
        }
    }

    /// Records the attributes of a file after it was renamed.
    pub(super) fn stamp(&mut self, path: &Path, staged: &Staged<'_>) -> Result<(), Fault> {
        let stat = fstat(&staged.file).map_err(Fault::io(path, "looked at"))?;
        if let Some(entry) = self.manifest.file_mut(path) {
            self.used -= entry.bytes();
            entry.stamp = Some(Stamp::new(&stat, staged.digest.clone()));
            entry.coming = None;
            self.used += entry.bytes();
        }
        Ok(())
    }

    /// Whether a file exists as it was published, with this content and owner.
    pub(super) fn is_as_it_should_be(&self, piece: &Piece<'_>, dir: &Dir, name: &OsStr) -> bool {
        let known = self.manifest.files().get(&piece.target.path).and_then(|entry| entry.stamp.as_ref());
        let Ok(stat) = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return false };
        let owned = stat.st_uid == piece.owner.uid.as_raw() && stat.st_gid == piece.owner.gid.as_raw();
        owned
            && stat.st_mode == libc::S_IFREG | piece.target.mode
            // exposed: to compare it with the published content
            && known == Some(&Stamp::new(&stat, digest(piece.value.expose())))
    }

    /// Writes a file in its directory under a temporary name; `None` if the file is already correct.
    fn stage_beside<'a>(
        &mut self,
        at: usize,
        piece: &Piece<'a>,
        open: &mut Open,
    ) -> Result<Option<Staged<'a>>, Fault> {
        let path = &piece.target.path;
        let dir = self.parent(path, piece.root, open)?;
        let name = path.file_name().unwrap_or_default();
        if self.is_as_it_should_be(piece, &dir, name) {
            return Ok(None);
        }
        // detect a directory at the path before anything is written
        if fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
        {
            return Err(Fault::io(path, "put in its place")(Errno::EISDIR));
        }
        let first = self.first_name();
        self.stage(at, piece, dir, first.into()).map(Some)
    }

    /// Writes a file in a directory under its temporary name.
    pub(super) fn stage<'a>(
        &mut self,
        at: usize,
        piece: &Piece<'a>,
        dir: Rc<Dir>,
        first: OsString,
    ) -> Result<Staged<'a>, Fault> {
        let path = &piece.target.path;
        // exposed: to compute a digest and to write it
        let bytes = piece.value.expose();
        let before = self.manifest.files().get(path).map_or(0, ManifestEntry::bytes);
        let new = in_pages(bytes.len() as u64);
        let would = self.used + self.staged - before + new;
        if would > self.limit {
            return Err(Fault::Full { would, limit: self.limit });
        }
        let file = self.create(&dir, &first).map_err(Fault::io(path, "written"))?;
        let name = path.file_name().unwrap_or_default();
        let staged = Staged { at, dir, first, name, file, digest: digest(bytes) };
        match staged.fill(bytes, piece.target.mode, piece.owner) {
            Ok(()) => {
                self.staged += new.saturating_sub(before);
                Ok(staged)
            }
            Err(errno) => {
                staged.discard();
                Err(Fault::io(path, "written")(errno))
            }
        }
    }

    /// A temporary name.
    pub(super) fn first_name(&mut self) -> String {
        self.next += 1;
        format!("{UNFINISHED}{}", self.next)
    }

    fn create(&self, dir: &Dir, name: &OsStr) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let create = || openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        match create() {
            Err(Errno::EEXIST) => {
                // left by a process that died while it wrote
                unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
                create()
            }
            created => created,
        }
    }
}

impl Staged<'_> {
    /// This order needs fewer capabilities: the mode is set while this user still owns the file. After the
    /// change of owner, the file is only renamed.
    fn fill(&self, bytes: &[u8], mode: u32, owner: Owner) -> nix::Result<()> {
        let mut file = File::from(self.file.as_fd().try_clone_to_owned().map_err(errno)?);
        file.write_all(bytes).map_err(errno)?;
        fchmod(&self.file, Mode::from_bits_truncate(mode))?;
        if owner.uid != geteuid() || owner.gid != getegid() {
            fchown(&self.file, Some(owner.uid), Some(owner.gid))?;
        }
        Ok(())
    }

    pub(super) fn discard(&self) {
        let _ = unlinkat(&self.dir, self.first.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// The results if no file was written because one of them cannot be written.
pub(super) fn together<T>(pieces: &[Piece<'_>], results: Vec<Result<T, Fault>>) -> Vec<Result<bool, Fault>> {
    let failed =
        pieces.iter().zip(&results).find_map(|(piece, result)| Some((piece, result.as_ref().err()?)));
    let Some((other, why)) = failed.map(|(piece, why)| (piece.target.path.clone(), why.to_string())) else {
        return results.into_iter().map(|result| result.map(|_| false)).collect();
    };
    let result = |result: Result<T, Fault>| {
        result.and_then(|_| Err(Fault::Together { other: other.clone(), why: why.clone() }))
    };
    results.into_iter().map(result).collect()
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Removes an incomplete file, or a directory with incomplete files.
pub(super) fn discard(above: &Dir, name: &OsStr) {
    let _ = match unlinkat(above, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => {
            if let Ok(dir) = above.down(name) {
                for file in dir.names().unwrap_or_default() {
                    let _ = unlinkat(&dir, file.as_os_str(), UnlinkatFlags::NoRemoveDir);
                }
            }
            unlinkat(above, name, UnlinkatFlags::RemoveDir)
        }
        other => other,
    };
}

#[cfg(test)]
mod tests;
