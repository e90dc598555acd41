//! Why a value cannot be encrypted with the host key: cause and remedy.

use std::path::PathBuf;

/// Why no value can be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum Unsealed {
    /// This host has no key.
    #[error("this host has no key to seal values with: there is no {}", .0.display())]
    NoKey(PathBuf),
    /// The directory of the key does not exist: it may be on a disk that is not mounted yet.
    #[error("the host key can't be read: {} is not there; is its disk mounted?", .0.display())]
    NoFolder(PathBuf),
    /// The key file cannot be used.
    #[error("the host key in {} can't be used: {why}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// The reason.
        why: String,
    },
    /// The kernel did not return random numbers.
    #[error("it can't be sealed: the kernel gives no random numbers")]
    NoRandom,
}

impl Unsealed {
    /// Cause and remedy.
    pub fn with_remedy(&self) -> String {
        format!("{self}; {}", self.remedy())
    }

    /// The remedy.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoKey(_) => {
                "make one: systemd-creds setup; or have the unit ask by LoadCredential= at the plain socket"
            }
            Self::NoFolder(_) => "add RequiresMountsFor=/var/lib/systemd to the unit",
            Self::Unusable { .. } => "see: systemd-creds setup; man systemd-creds",
            Self::NoRandom => "start it again",
        }
    }
}
