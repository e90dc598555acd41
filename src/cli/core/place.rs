//! Writes a file beside its final path and moves it there when it is complete. The previous file remains
//! until then.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A draft that is older than this was left by a process that was killed.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// A file that is being written. It is removed when dropped.
pub(in crate::cli) struct Draft {
    path: PathBuf,
    place: PathBuf,
    kept: bool,
}

impl Draft {
    /// Creates a file of mode 0644 for `name` in this directory; creates the directory if it does not exist.
    pub(in crate::cli) fn write(dir: &Path, name: &str, content: &[u8]) -> Result<Self, String> {
        Self::with_mode(dir, name, content, 0o644)
    }

    /// Like [`Self::write`], but with the given mode.
    pub(in crate::cli) fn with_mode(
        dir: &Path,
        name: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "; run it as root",
                _ => "",
            };
            format!("{} can't be written: {error}{remedy}", dir.join(name).display())
        };
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed)?;
        sweep(dir, name);
        let path = dir.join(format!(".{name}.{:08x}", fastrand::u32(..)));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let draft = Self { path, place: dir.join(name), kept: false };
        fill(made, content, mode).map_err(failed)?;
        Ok(draft)
    }

    /// Its temporary path.
    pub(in crate::cli) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to its final path.
    pub(in crate::cli) fn publish(mut self) -> Result<PathBuf, String> {
        fs::rename(&self.path, &self.place)
            .map_err(|error| format!("{} can't be moved to its final path: {error}", self.place.display()))?;
        self.kept = true;
        if let Some(dir) = self.place.parent().and_then(|dir| File::open(dir).ok()) {
            let _ = dir.sync_all(); // some file systems do not support this
        }
        Ok(self.place.clone())
    }
}

impl Draft {
    /// Moves it to its final path, if nothing exists there.
    pub(in crate::cli) fn publish_new(self) -> Result<PathBuf, String> {
        let place = self.place.clone();
        // a hard link never replaces a file; the draft's own name is removed
        fs::hard_link(&self.path, &place)
            .map_err(|error| format!("{} can't be moved to its final path: {error}", place.display()))?;
        Ok(place)
    }
}

/// Removes drafts of this name that killed processes left: they may contain a secret, and nothing else would
/// remove them.
fn sweep(dir: &Path, name: &str) {
    let is_draft = |file: &str| {
        let suffix = file.strip_prefix('.').and_then(|file| file.strip_prefix(name)?.strip_prefix('.'));
        suffix.is_some_and(|suffix| suffix.len() == 8 && suffix.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_old = || {
            let written = entry.metadata().and_then(|about| about.modified()).ok();
            written.is_some_and(|at| at.elapsed().is_ok_and(|age| age > WRITTEN_WITHIN))
        };
        if entry.file_name().to_str().is_some_and(is_draft) && is_old() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn fill(mut file: File, content: &[u8], mode: u32) -> std::io::Result<()> {
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?; // independent of the umask
    file.sync_all()
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
