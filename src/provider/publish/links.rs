//! Symbolic links to published files, for programs that require a fixed path.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{readlinkat, renameat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::dirs::Dir;
use super::write::{UNFINISHED, Writer};
use crate::provider::base::publish_error::Fault;

impl Writer {
    /// Creates a link to a file. Replaces only links that onecred created. With `make_directories`, also
    /// creates missing directories.
    pub(super) fn link(&mut self, path: &Path, to: &Path, make_directories: bool) -> Result<(), Fault> {
        self.try_link(path, to, make_directories).map_err(|fault| match fault {
            Fault::Io { error, .. } if path.starts_with("/root") => {
                Fault::OfRoot { link: path.to_owned(), why: error.to_string() }
            }
            fault => fault,
        })
    }

    fn try_link(&mut self, path: &Path, to: &Path, make_directories: bool) -> Result<(), Fault> {
        let (parent, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
        let dir = match Dir::absolute(parent) {
            Err(fault) if make_directories && fault.is_missing() => self.make_link_dir(parent)?,
            dir => dir?,
        };
        match symlinkat(to, &dir, name) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let there = readlinkat(&dir, name).map_err(|_| Fault::Occupied(path.to_owned()))?;
                let made = self.manifest.links().get(path).is_some_and(|made| there == made.as_os_str());
                if there != to.as_os_str() {
                    if !made {
                        return Err(Fault::Occupied(path.to_owned()));
                    }
                    let first = format!("{UNFINISHED}link");
                    let _ = unlinkat(&dir, first.as_str(), UnlinkatFlags::NoRemoveDir);
                    symlinkat(to, &dir, first.as_str())
                        .and_then(|()| renameat(&dir, first.as_str(), &dir, name))
                        .map_err(Fault::io(path, "linked"))?;
                }
            }
            Err(errno) => return Err(Fault::io(path, "linked")(errno)),
        }
        self.manifest.set_link(path, to);
        Ok(())
    }

    /// Creates a directory and its missing parents.
    fn make_link_dir(&mut self, path: &Path) -> Result<Dir, Fault> {
        let above = path.parent().unwrap_or(path);
        let above = match Dir::absolute(above) {
            Err(fault) if fault.is_missing() && above != path => self.make_link_dir(above)?,
            dir => dir?,
        };
        let name = path.file_name().unwrap_or_default();
        above.make(name)?;
        self.manifest.add_link_dir(path);
        above.down(name)
    }

    /// Removes directories that were created for links, are empty, and are not needed by these links.
    pub(super) fn remove_link_dirs(&mut self, links: &[&Path]) {
        let is_unused = |dir: &&PathBuf| !links.iter().any(|link| link.starts_with(dir));
        let made: Vec<PathBuf> = self.manifest.link_dirs().iter().rev().filter(is_unused).cloned().collect();
        for path in made {
            // a directory that belongs to another user now, or is writable by others, is no longer onecred's
            let removed =
                Dir::absolute(&path).and_then(|_| Dir::absolute(path.parent().unwrap_or(&path))).map(
                    |above| unlinkat(&above, path.file_name().unwrap_or_default(), UnlinkatFlags::RemoveDir),
                );
            match removed {
                Ok(Err(Errno::ENOTEMPTY)) => {}
                Ok(Ok(())) => self.manifest.remove_link_dir(&path),
                Ok(Err(errno)) => tracing::warn!("{}", Fault::io(&path, "removed")(errno)),
                Err(_) => self.manifest.remove_link_dir(&path),
            }
        }
    }

    /// Removes a link that onecred created, if it has not changed.
    pub(super) fn unlink(&mut self, path: &Path) -> Result<(), Fault> {
        let Some(to) = self.manifest.links().get(path).cloned() else { return Ok(()) };
        let name = path.file_name().unwrap_or_default();
        let dir = match Dir::absolute(path.parent().unwrap_or(path)) {
            Ok(dir) => Some(dir),
            Err(fault) if fault.is_missing() => None,
            Err(fault) => return Err(fault),
        };
        if let Some(dir) = dir.filter(|dir| readlinkat(dir, name).is_ok_and(|there| there == to.as_os_str()))
        {
            unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir).map_err(Fault::io(path, "removed"))?;
        }
        self.manifest.remove_link(path);
        Ok(())
    }
}
