//! Symbolic links to published files, for programs that insist on a path of theirs.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{readlinkat, renameat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::dirs::Dir;
use super::write::{UNFINISHED, Writer};
use crate::provider::base::publish_error::Fault;

impl Writer {
    /// Has a link point to a file. Made only where nothing stands, or one that was made here.
    pub(super) fn link(&mut self, path: &Path, to: &Path) -> Result<(), Fault> {
        let (dir, name) =
            (Dir::absolute(path.parent().unwrap_or(path))?, path.file_name().unwrap_or_default());
        match symlinkat(to, &dir, name) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let there = readlinkat(&dir, name).map_err(|_| Fault::Occupied(path.to_owned()))?;
                let made = self.manifest.links.get(path).is_some_and(|made| there == made.as_os_str());
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
        self.manifest.links.insert(path.to_owned(), to.to_owned());
        Ok(())
    }

    /// Removes a link that was made here, if it is still what it was.
    pub(super) fn unlink(&mut self, path: &Path) -> Result<(), Fault> {
        let Some(to) = self.manifest.links.get(path) else { return Ok(()) };
        let name = path.file_name().unwrap_or_default();
        let dir = match Dir::absolute(path.parent().unwrap_or(path)) {
            Ok(dir) => Some(dir),
            Err(Fault::Io { error, .. }) if error.raw_os_error() == Some(libc::ENOENT) => None,
            Err(fault) => return Err(fault),
        };
        if let Some(dir) = dir.filter(|dir| readlinkat(dir, name).is_ok_and(|there| there == to.as_os_str()))
        {
            unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir).map_err(Fault::io(path, "removed"))?;
        }
        self.manifest.links.remove(path);
        Ok(())
    }
}
