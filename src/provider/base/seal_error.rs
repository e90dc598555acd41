//! Why a value cannot be sealed, and what to do about it.

use std::path::PathBuf;

/// Why nothing can be sealed.
#[derive(Debug, thiserror::Error)]
pub enum Unsealed {
    /// This host has no key yet.
    #[error("this host has no key to seal values with: there is no {}", .0.display())]
    NoKey(PathBuf),
    /// The folder of the key is not there: on a disk that has not been mounted.
    #[error("the host key can't be read: {} is not there; is its disk mounted?", .0.display())]
    NoFolder(PathBuf),
    /// The file can't be used.
    #[error("the host key in {} can't be used: {why}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// The kernel gave no random numbers.
    #[error("it can't be sealed: the kernel gives no random numbers")]
    NoRandom,
}

impl Unsealed {
    /// Why, and what to do about it.
    pub fn with_remedy(&self) -> String {
        format!("{self}; {}", self.remedy())
    }

    /// What to do about it.
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
