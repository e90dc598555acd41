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

    /// Checks, before the user enters a token, that the files can probably be written. The error contains the
    /// remedy.
    pub(super) fn can_be_written(&self, plain: bool) -> Result<(), String> {
        let name = self.credential.as_str();
        if plain && name == "token" || !nixos::is_read_only(&self.drop_ins) {
            return Ok(());
        }
        let file = format!("{}/{name}.cred", self.tokens.display());
        let encrypt = format!("systemd-creds encrypt --name={name} - {file}");
        let instead = match name {
            "token" => format!(
                "store it as a file: onecred token set --file; or encrypted: {encrypt}; on NixOS with: services.onecred.tokenCredential = \"{file}\";"
            ),
            _ => format!(
                "encrypt it by: {encrypt}; on NixOS with: systemd.services.onecred-resolver.serviceConfig.LoadCredentialEncrypted = [ \"{name}:{file}\" ];"
            ),
        };
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

    /// Stores a token as a file of root. Returns the written paths.
    pub(super) fn keep_plain(&self, token: &SecretValue) -> Result<Vec<PathBuf>, String> {
        let name = self.credential.as_str();
        // exposed: it is written to a file that only root can read, as requested
        let file = Draft::with_mode(&self.tokens, name, token.expose(), 0o600)?;
        if name == "token" {
            let written = vec![file.publish()?]; // the unit loads this file without a drop-in
            remove(self.drop_in())?;
            return Ok(written);
        }
        let drop_in = self.drop_in_text(&format!("LoadCredential={name}:{}", self.plain().display()));
        let drop_in = self.draft_drop_in(&drop_in)?;
        Ok(vec![file.publish()?, drop_in.publish()?])
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
