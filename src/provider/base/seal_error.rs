//! Why a value cannot be encrypted with the host key: cause and remedy.

use std::path::PathBuf;

use crate::domain::seal::key_file::Fault;

/// Why no value can be encrypted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unsealed {
    /// This host has no key.
    #[error("this host has no key to seal values with: there is no {}", .0.display())]
    NoKey(PathBuf),
    /// The directory of the key does not exist: it may be on a disk that is not mounted yet.
    #[error("the host key can't be read: {} is not there; is its disk mounted?", .0.display())]
    NoFolder(PathBuf),
    /// The key was made for another machine ID. systemd deletes it when it first needs a key.
    #[error("the host key in {} was made for another machine ID, so systemd does not use it", .0.display())]
    Foreign(PathBuf),
    /// systemd does not use the file.
    #[error("systemd does not use the host key in {}: {fault}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// The reason.
        fault: Fault,
    },
    /// The file can't be read.
    #[error("the host key in {} can't be read: {why}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The reason.
        why: String,
    },
    /// The file system of the key does not answer.
    #[error("the host key in {} can't be read: its disk does not answer", .0.display())]
    NoAnswer(PathBuf),
    /// systemd can't know whether the key is this machine's.
    #[error("this machine has no machine ID, which systemd compares with the host key's: {0}")]
    NoMachineId(String),
    /// The kernel did not return random numbers.
    #[error("it can't be sealed: the kernel gives no random numbers")]
    NoRandom,
}

impl Unsealed {
    /// Cause and remedy.
    pub fn with_remedy(&self) -> String {
        format!("{self}; {}", self.remedy())
    }

    /// Whether `systemd-creds setup` makes a key that is right.
    pub fn ends_with_setup(&self) -> bool {
        matches!(self, Self::NoKey(_) | Self::Foreign(_))
    }

    /// The remedy.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoKey(_) => {
                "make one: systemd-creds setup; if onecred-host-key.service failed: journalctl -u onecred-host-key; or let the unit use LoadCredential= with the plain socket".to_owned()
            }
            Self::Foreign(_) => {
                "have systemd replace it: systemd-creds setup; if onecred-host-key.service failed: journalctl -u onecred-host-key".to_owned()
            }
            Self::NoFolder(_) => "add RequiresMountsFor=/var/lib/systemd to the unit".to_owned(),
            Self::Unusable { file, fault } => fault.remedy(&file.display().to_string()),
            Self::Unreadable { .. } => "see: man systemd-creds".to_owned(),
            Self::NoAnswer(file) => format!("see why: findmnt --target {}; journalctl -k", file.display()),
            Self::NoMachineId(_) => "make one: systemd-machine-id-setup; then reboot".to_owned(),
            Self::NoRandom => "start it again".to_owned(),
        }
    }
}
