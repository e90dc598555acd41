//! Removes published files that should no longer exist, but nothing that others put in their place.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::dirs::Dir;
use super::write::{Open, UNFINISHED, Writer, discard};
use crate::provider::base::publish_error::Fault;

/// The result of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// The file that onecred wrote was removed.
    Ours,
    /// Someone replaced the file; the replacement remains.
    LeftOfOthers,
}

impl Writer {
    /// Removes a published file without its links. Leaves a file that onecred did not write. Returns which
    /// was the case.
    pub(super) fn remove(&mut self, path: &Path, open: &mut Open) -> Result<Removed, Fault> {
        let Some(entry) = self.manifest.files().get(path).cloned() else { return Ok(Removed::Ours) };
        let mut removed = Removed::Ours;
        match self.existing_parent(path, &entry.root, open) {
            Ok(dir) => {
                let name = path.file_name().unwrap_or_default();
                match fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(stat) if entry.is_of(&stat) => {
                        unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir)
                            .map_err(Fault::io(path, "removed"))?;
                    }
                    Ok(_) => removed = Removed::LeftOfOthers,
                    Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(Fault::io(path, "removed")(errno)),
                }
            }
            Err(Fault::Root { .. }) => {} // removed with its memory
            Err(fault) if fault.is_missing() => {}
            Err(fault) => return Err(fault),
        }
        self.used -= entry.bytes();
        self.manifest.remove_file(path);
        Ok(removed)
    }

    /// Whether a path has a file; `None` if that cannot be determined.
    pub(super) fn exists(&self, path: &Path, root: &Path, open: &mut Open) -> Option<bool> {
        match self.existing_parent(path, root, open) {
            Ok(dir) => {
                match fstatat(&dir, path.file_name().unwrap_or_default(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(_) => Some(true),
                    Err(Errno::ENOENT) => Some(false),
                    Err(_) => None,
                }
            }
            Err(Fault::Root { taken: false, .. }) => Some(false), // nothing is mounted
            Err(fault) if fault.is_missing() => Some(false),
            Err(_) => None,
        }
    }

    fn existing_parent(&self, path: &Path, root: &Path, open: &mut Open) -> Result<Rc<Dir>, Fault> {
        let parent = path.parent().unwrap_or(root);
        if let Some(dir) = open.0.get(parent) {
            return Ok(Rc::clone(dir));
        }
        let dir = if parent == root {
            Dir::root(root, self.kind)?
        } else {
            self.existing_parent(parent, root, open)?.down(parent.file_name().unwrap_or_default())?
        };
        let dir = Rc::new(dir);
        open.0.insert(parent.to_owned(), Rc::clone(&dir));
        Ok(dir)
    }

    /// Removes directories that were created for files and are empty.
    pub(super) fn remove_empty_dirs(&mut self, roots: &[PathBuf], open: &mut Open) {
        // the innermost directories first
        let made: Vec<PathBuf> = self.manifest.dirs().iter().rev().cloned().collect();
        for path in made {
            let Some(root) = roots.iter().find(|root| path.starts_with(root)) else {
                self.manifest.remove_dir(&path); // the root was removed from the configuration
                continue;
            };
            let Ok(dir) = self.existing_parent(&path, root, open) else { continue };
            match unlinkat(&dir, path.file_name().unwrap_or_default(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {
                    self.manifest.remove_dir(&path);
                    open.0.remove(&path);
                }
                Err(_not_empty) => {}
            }
        }
    }

    /// Removes the incomplete files of a process that died, in the root and the directories of published
    /// files.
    pub(super) fn clean(&self, roots: &[PathBuf], open: &mut Open) {
        let dirs = self.manifest.dirs().iter().filter_map(|dir| {
            let root = roots.iter().find(|root| dir.starts_with(root))?;
            Some((dir.join("x"), root))
        });
        for (path, root) in dirs.chain(roots.iter().map(|root| (root.join("x"), root))) {
            let Ok(dir) = self.existing_parent(&path, root, open) else { continue };
            for name in dir.names().unwrap_or_default() {
                if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                    discard(&dir, &name);
                }
            }
        }
    }
}
