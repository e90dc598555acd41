//! Finds and reads the files of a configuration, and checks whether other users could have written them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::problem::{Problems, Severity};

/// Where a configuration is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The directory of `secrets.json` and `secrets.d`.
    pub dir: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self { dir: "/etc/onecred".into() }
    }
}

/// The maximum size of a file in bytes.
pub(super) const MAX: u64 = 8 << 20;

/// Why a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is the configuration of this machine, which only root may be able to change.
    Installed,
    /// A user checks it. It may come from a pipe or a working copy.
    Given,
}

/// Whether no configuration exists, in contrast to one that cannot be read.
pub(super) fn are_none(paths: &Paths) -> bool {
    let missing = |path: &Path| path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    let parts = paths.dir.join("secrets.d");
    missing(&paths.dir.join("secrets.json"))
        && (missing(&parts) || entries(&parts).is_ok_and(|files| files.is_empty()))
}

/// The Nix store. Every user can read it.
pub const STORE: &str = "/nix/store";

/// Whether NixOS generates one of these files: they are links to its store.
pub(super) fn are_of_nixos<'a>(mut files: impl Iterator<Item = &'a Path>) -> bool {
    files.any(|file| std::fs::canonicalize(file).is_ok_and(|real| real.starts_with(STORE)))
}

/// The files of a directory: `secrets.json`, then `secrets.d/*.json` by name.
pub(super) fn find(paths: &Paths, problems: &mut Problems) -> Vec<PathBuf> {
    const SMALLEST: &str = r#"{ "secrets": [ { "name": "db-password", "reference": "op://Servers/postgres/password", "units": ["app"] } ] }"#;
    let (main, parts) = (paths.dir.join("secrets.json"), paths.dir.join("secrets.d"));
    if !directory(&paths.dir, problems) {
        return Vec::new();
    }
    let mut files = Vec::new();
    if main.symlink_metadata().is_ok() {
        files.push(main.clone());
    }
    if parts.symlink_metadata().is_ok() && directory(&parts, problems) {
        match entries(&parts) {
            Ok(found) => files.extend(found),
            Err(error) => problems.about(
                Severity::Error,
                &parts,
                format!("the directory can't be read: {error}"),
                readable(&error),
            ),
        }
    }
    if files.is_empty() && problems.errors() == 0 {
        let what = "the configuration does not exist: neither this file nor a file in secrets.d";
        problems.about(Severity::Error, &main, what, format!("write it, for example: {SMALLEST}"));
    }
    files
}

fn directory(dir: &Path, problems: &mut Problems) -> bool {
    match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {
            judge(dir, "directory", &metadata, Origin::Installed, problems);
            return true;
        }
        Ok(_) => problems.about(
            Severity::Error,
            dir,
            "this is not a directory",
            "move it away, and make a directory in its place",
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = "make it, with a secrets.json in it; or name another with --config";
            problems.about(Severity::Error, dir, "the configuration's directory does not exist", remedy);
        }
        Err(error) => problems.about(
            Severity::Error,
            dir,
            format!("the directory can't be read: {error}"),
            readable(&error),
        ),
    }
    false
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|ending| ending == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file, and returns its number in `problems`.
pub(super) fn read(path: &Path, origin: Origin, problems: &mut Problems) -> Option<usize> {
    match open(path, origin, problems) {
        Ok(Some(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => Some(problems.add_file(path, text)),
            Err(error) => {
                let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count()
                    + 1;
                problems.about(
                    Severity::Error,
                    path,
                    format!("line {line} is not UTF-8"),
                    "save the file as UTF-8",
                );
                None
            }
        },
        Ok(None) => None,
        Err(error) => {
            problems.about(
                Severity::Error,
                path,
                format!("the file can't be read: {error}"),
                readable(&error),
            );
            None
        }
    }
}

fn open(path: &Path, origin: Origin, problems: &mut Problems) -> io::Result<Option<Vec<u8>>> {
    let file = match origin {
        // Opening a FIFO must not block.
        Origin::Installed => OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?,
        Origin::Given => File::open(path)?,
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() || (origin == Origin::Installed && !metadata.is_file()) {
        problems.about(Severity::Error, path, "this is not a file", "replace it with a file");
        return Ok(None);
    }
    judge(path, "file", &metadata, origin, problems);
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX {
        let remedy = "split it into files in secrets.d; one rule can stand for many secrets";
        problems.about(Severity::Error, path, "the file is too large: more than 8 MiB", remedy);
        return Ok(None);
    }
    Ok(Some(bytes))
}

/// Users who can write the configuration can grant themselves any secret.
fn judge(path: &Path, kind: &str, metadata: &Metadata, origin: Origin, problems: &mut Problems) {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let severity = if origin == Origin::Installed { Severity::Error } else { Severity::Warning };
    if !metadata.is_file() && !metadata.is_dir() {
        return;
    }
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        let what = format!("the {kind} belongs to user {owner}, who could use it to read any secret");
        problems.about(severity, path, what, format!("chown root {}", path.display()));
    }
    if mode & 0o022 != 0 {
        let what =
            format!("others can write the {kind} (mode {mode:04o}), and could use it to read any secret");
        problems.about(severity, path, what, format!("chmod go-w {}", path.display()));
    }
}

fn readable(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "let both users, root and onecred, read it; it holds no secrets (chmod 0644, a directory 0755)"
        }
        io::ErrorKind::NotFound => "check the path, and the target of each symbolic link in it",
        _ => "check the disk and the path",
    }
}

#[cfg(test)]
mod tests;
