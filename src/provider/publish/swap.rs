//! Replaces files of one version that have a directory to themselves. The directory is replaced in one step,
//! so a program that has opened it reads files of one version, or finds a file missing, but never a mixture.

use std::ffi::OsStr;
use std::path::Path;
use std::rc::Rc;

use nix::fcntl::{RenameFlags, renameat2};

use super::manifest::Manifest;
use super::write::{Open, Piece, Staged, Writer, discard, together};
use crate::provider::base::publish_error::Fault;

impl Writer {
    /// Replaces the directory of these files. `None` if they do not have one, or the file system does not
    /// support the replacement.
    pub(super) fn swap(
        &mut self,
        pieces: &[Piece<'_>],
        open: &mut Open,
        keep: &dyn Fn(&mut Manifest),
    ) -> Option<Vec<Result<bool, Fault>>> {
        let (path, root) = self.own_directory(pieces)?;
        let above = self.parent(path, root, open).ok()?;
        let name = path.file_name()?;
        let there = match above.down(name) {
            Ok(dir) => Some(dir),
            Err(fault) if fault.is_missing() => None,
            Err(_) => return None, // writing a file there reports the error
        };
        if let Some(dir) = &there {
            let ours = |name: &OsStr| {
                name == "."
                    || name == ".."
                    || pieces.iter().any(|piece| piece.target.path.file_name() == Some(name))
            };
            if !dir.names().ok()?.iter().all(|name| ours(name)) {
                return None;
            }
            let as_it_should_be = |piece: &Piece<'_>| {
                piece.target.path.file_name().is_some_and(|name| self.is_as_it_should_be(piece, dir, name))
            };
            if pieces.iter().all(as_it_should_be) {
                return Some(pieces.iter().map(|_| Ok(false)).collect());
            }
        }
        self.staged = 0;
        let first = self.first_name();
        discard(&above, first.as_ref());
        above.make(first.as_ref()).ok()?;
        let new = Rc::new(above.down(first.as_ref()).ok()?);
        let staged: Vec<Result<Staged<'_>, Fault>> = pieces
            .iter()
            .enumerate()
            .map(|(at, piece)| {
                let name = piece.target.path.file_name().unwrap_or_default();
                self.stage(at, piece, Rc::clone(&new), name.to_owned())
            })
            .collect();
        let torn =
            pieces.iter().zip(&staged).any(|(piece, staged)| staged.is_err() && self.has(&piece.target.path));
        if torn || staged.iter().all(Result::is_err) {
            discard(&above, first.as_ref());
            return Some(together(pieces, staged));
        }
        self.announce(pieces, staged.iter().flatten(), keep);
        let flags =
            if there.is_some() { RenameFlags::RENAME_EXCHANGE } else { RenameFlags::RENAME_NOREPLACE };
        let swapped = renameat2(&above, first.as_str(), &above, name, flags);
        if swapped.is_ok() {
            open.0.retain(|opened, _| !opened.starts_with(path));
        }
        let results = swapped.is_ok().then(|| {
            let mut stamped =
                |staged: Staged<'_>| self.stamp(&pieces[staged.at].target.path, &staged).map(|()| true);
            staged.into_iter().map(|staged| staged.and_then(&mut stamped)).collect()
        });
        discard(&above, first.as_ref()); // the previous directory, or the new one after a failure
        results
    }

    /// The directory below the root that contains these files (more than one) and no other published file.
    fn own_directory<'a>(&self, pieces: &[Piece<'a>]) -> Option<(&'a Path, &'a Path)> {
        let [first, _, ..] = pieces else { return None };
        let path = first.target.path.parent().filter(|dir| *dir != first.root)?;
        let among = |file: &Path| pieces.iter().any(|piece| piece.target.path == file);
        let beside = |piece: &Piece<'_>| piece.target.path.parent() == Some(path) && piece.root == first.root;
        let mut below =
            self.manifest.files().range(path.to_owned()..).take_while(|(file, _)| file.starts_with(path));
        let alone = below.all(|(file, entry)| entry.stamp.is_none() || among(file));
        (alone && pieces.iter().all(beside)).then_some((path, first.root))
    }
}
