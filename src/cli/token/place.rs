//! Stores tokens: as an encrypted credential or a file, with a drop-in that makes the resolver's unit load
//! it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::system;
use crate::cli::core::Draft;
use crate::cli::nixos;
use crate::domain::name::CredentialId;
use crate::domain::secret::SecretValue;

/// The paths of one token.
pub(super) struct Places {
    pub(super) credential: CredentialId,
    /// The directory of tokens.
    pub(super) tokens: PathBuf,
    /// The directory of drop-ins for the resolver's unit.
    pub(super) drop_ins: PathBuf,
}

impl Places {
    /// The paths of an installed onecred.
    pub(super) fn new(credential: CredentialId) -> Self {
        let drop_ins = "/etc/systemd/system/onecred-resolver.service.d".into();
        Self { credential, tokens: "/etc/onecred".into(), drop_ins }
    }

    /// The path of the token in plain text.
    pub(super) fn plain(&self) -> PathBuf {
        self.tokens.join(self.credential.as_str())
    }

    /// The path of the token as an encrypted credential.
    pub(super) fn encrypted(&self) -> PathBuf {
        self.tokens.join(format!("{}.cred", self.credential))
    }

    fn drop_in(&self) -> PathBuf {
        self.drop_ins.join(format!("50-{}.conf", self.credential))
    }

    /// Whether the unit loads the encrypted token.
    pub(super) fn is_encrypted(&self) -> bool {
        self.drop_in().exists() && self.encrypted().exists()
    }

    /// Where a token in plain text goes: `asked` is the path that the user gave, if any, and `loaded` the file
    /// from which the unit loads the token.
    pub(super) fn for_plain(&self, asked: Option<&Path>, loaded: Option<&Path>) -> Result<PathBuf, String> {
        let path = match (asked, loaded) {
            (Some(path), _) if !path.is_absolute() || path.file_name().is_none() => {
                return Err(format!("{} is not the absolute path of a file", path.display()));
            }
            (Some(path), _) => path.to_owned(),
            // another file was configured, so a token at the default path would not be used
            (None, Some(loaded)) if !loaded.starts_with(nixos::STORE) => loaded.to_owned(),
            (None, _) => self.plain(),
        };
        if path.starts_with(nixos::STORE) {
            return Err(format!("{} is in the Nix store, which every user can read", path.display()));
        }
        let is_loaded = loaded == Some(path.as_path()) || self.is_default(&path) && loaded.is_none();
        if !is_loaded && nixos::is_read_only(&self.drop_ins) {
            let option = match self.credential.as_str().strip_suffix(".token") {
                None => "services.onecred.tokenFile".to_owned(),
                Some(source) => format!("services.onecred.sources.{source}.tokenFile"),
            };
            let now = loaded.map(|file| format!(" (it loads {})", file.display())).unwrap_or_default();
            return Err(format!(
                "the resolver would not read {}{now}, and {} is on a read-only file system; nothing was written; on NixOS, set {option} = \"{}\"; and switch first",
                path.display(),
                self.drop_ins.display(),
                path.display()
            ));
        }
        Ok(path)
    }

    /// Whether the unit loads this file without a drop-in.
    fn is_default(&self, path: &Path) -> bool {
        self.credential.as_str() == "token" && path == self.plain()
    }

    /// Checks, before the user enters a token, that the encrypted token can probably be written. The error
    /// contains the remedy.
    pub(super) fn can_be_encrypted(&self) -> Result<(), String> {
        let name = self.credential.as_str();
        if !nixos::is_read_only(&self.drop_ins) {
            return Ok(());
        }
        let file = format!("{}/{name}.cred", self.tokens.display());
        let encrypt = format!("systemd-creds encrypt --name={name} - {file}");
        let (option, source) = match name.strip_suffix(".token") {
            None => ("services.onecred".to_owned(), String::new()),
            Some(source) => (format!("services.onecred.sources.{source}"), format!(" --source {source}")),
        };
        let instead = format!(
            "store it in a file (on NixOS, the file of {option}.tokenFile): onecred token set{source} --file; or encrypt it: {encrypt}; then set on NixOS: {option}.tokenCredential = \"{file}\";"
        );
        Err(format!(
            "the token can't be stored: {} is on a read-only file system: {instead}",
            self.drop_ins.display()
        ))
    }

    /// Stores a token encrypted. Returns the written paths.
    pub(super) fn keep_encrypted(
        &self,
        key: Option<&str>,
        token: &SecretValue,
    ) -> Result<Vec<PathBuf>, String> {
        let name = self.credential.as_str();
        let credential = system::encrypt(name, key, token)?;
        let file = format!("{name}.cred");
        let drop_in =
            self.drop_in_text(&format!("LoadCredentialEncrypted={name}:{}", self.encrypted().display()));
        let credential = Draft::with_mode(&self.tokens, &file, &credential, 0o600)?;
        let drop_in = self.draft_drop_in(&drop_in)?;
        Ok(vec![credential.publish()?, drop_in.publish()?])
    }

    /// Stores a token as a file of root, at a path of [`Self::for_plain`]. Returns the written paths.
    pub(super) fn keep_plain(
        &self,
        path: &Path,
        loaded: Option<&Path>,
        token: &SecretValue,
    ) -> Result<Vec<PathBuf>, String> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(format!("{} is not the path of a file", path.display()));
        };
        // exposed: it is written to a file that only root can read, as requested
        let file = Draft::with_mode(dir, name, token.expose(), 0o600)?;
        if self.is_default(path) {
            let written = vec![file.publish()?]; // the unit loads this file without a drop-in
            remove(self.drop_in())?;
            return Ok(written);
        }
        if loaded == Some(path) && !self.drop_in().exists() {
            return Ok(vec![file.publish()?]); // the unit's own configuration names the file
        }
        let drop_in = self.drop_in_text(&format!("LoadCredential={}:{}", self.credential, path.display()));
        let drop_in = self.draft_drop_in(&drop_in)?;
        Ok(vec![file.publish()?, drop_in.publish()?])
    }

    /// Removes a token in plain text at the default path, which the unit no longer loads. Returns the path if
    /// there was one.
    pub(super) fn forget_default(&self, used: &Path) -> Result<Option<PathBuf>, String> {
        let stray = self.plain();
        if used == stray || !stray.exists() {
            return Ok(None);
        }
        remove(stray.clone())?;
        Ok(Some(stray))
    }

    fn draft_drop_in(&self, text: &str) -> Result<Draft, String> {
        Draft::write(&self.drop_ins, &format!("50-{}.conf", self.credential), text.as_bytes())
    }

    /// The text of a drop-in. Its line replaces an earlier line for the same ID. If the file does not exist,
    /// the unit starts without a token.
    fn drop_in_text(&self, load: &str) -> String {
        let name = &self.credential;
        let fallback =
            if name.as_str() == "token" { String::new() } else { format!("SetCredential={name}:\\n\n") };
        format!("# written by onecred token set\n[Service]\n{load}\n{fallback}")
    }
}

/// Which users besides root can read a token's file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Openness {
    /// None.
    Closed,
    /// Its group.
    Group,
    /// Others, for this reason.
    Open(String),
}

impl Openness {
    /// Checks the permissions of a file.
    pub(super) fn of_file(path: &Path) -> io::Result<Self> {
        let about = fs::metadata(path)?;
        Ok(Self::of(about.uid(), about.mode() & 0o7777))
    }

    fn of(owner: u32, mode: u32) -> Self {
        match (owner, mode) {
            (0, mode) if mode & 0o177 == 0 => Self::Closed,
            (0, mode) if mode & 0o137 == 0 => Self::Group,
            (0, mode) => Self::Open(format!("its mode is {mode:04o}")),
            (owner, _) => Self::Open(format!("it is owned by user {owner}")),
        }
    }
}

fn remove(path: PathBuf) -> Result<(), String> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("{} can't be removed: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
