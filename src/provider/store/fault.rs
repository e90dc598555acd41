//! Why the store cannot keep something: cause and remedy.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::ipc::{Class, Failure};

/// Why the store cannot keep something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The limit of the store would be exceeded.
    #[error("the store would have {would} bytes, and limits.storeSize allows {limit}")]
    Full {
        /// The size in bytes with the new data.
        would: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file system returned an error.
    #[error("can't write to the store {}: {}", folder.display(), cause(error))]
    Io {
        /// The directory of the store.
        folder: PathBuf,
        /// The error.
        error: io::Error,
    },
}

impl StoreError {
    /// The remedy.
    pub fn remedy(&self) -> String {
        match self {
            Self::Full { .. } => "raise limits.storeSize, then: onecred reload".to_owned(),
            Self::Io { folder, error } => remedy(error).replace("FOLDER", &folder.display().to_string()),
        }
    }

    /// The same as a failure to get an item.
    pub fn failure(&self) -> Failure {
        let class = match self {
            Self::Full { .. } => Class::TooLarge,
            Self::Io { .. } => Class::Store,
        };
        Failure::new(class, self.to_string(), self.remedy())
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

fn cause(error: &io::Error) -> String {
    match errno(error) {
        Errno::ENOSPC | Errno::EDQUOT => "no space left in its file system".to_owned(),
        Errno::EROFS => "its file system is read-only".to_owned(),
        Errno::EACCES | Errno::EPERM => "permission denied".to_owned(),
        Errno::EMFILE => "onecred has too many files open".to_owned(),
        Errno::ENFILE => "this machine has too many files open".to_owned(),
        Errno::EIO => "input/output error".to_owned(),
        Errno::ENOMEM => "no memory left".to_owned(),
        Errno::EFBIG => "the file exceeds onecred's file size limit".to_owned(),
        Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE => "the directory does not exist".to_owned(),
        _ => error.to_string(),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match errno(error) {
        Errno::ENOSPC | Errno::EDQUOT => "enlarge the file system; see: findmnt FOLDER",
        Errno::EROFS => "see why: findmnt FOLDER; then: mount -o remount,rw FOLDER",
        Errno::EACCES | Errno::EPERM => {
            "it must belong to root with mode 0700, see: ls -ld FOLDER; a security module can deny it too, see: journalctl -k"
        }
        Errno::EMFILE => "raise LimitNOFILE=: systemctl edit onecred; or lower limits.connections",
        Errno::ENFILE => "raise it: sysctl fs.file-max",
        Errno::EIO => "see: journalctl -k; findmnt FOLDER",
        Errno::ENOMEM => "free memory",
        Errno::EFBIG => "remove LimitFSIZE=: systemctl edit onecred",
        Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE => {
            "systemctl start run-onecred-store.mount; then: systemctl restart onecred"
        }
        _ => "see: findmnt FOLDER; systemctl status run-onecred-store.mount",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_text_and_remedy() {
        let io = |errno: Errno| StoreError::Io { folder: "/run/onecred/store".into(), error: errno.into() };
        let table = [
            (
                StoreError::Full { would: 9, limit: 8 },
                "allows 8; raise limits.storeSize, then: onecred reload",
            ),
            (io(Errno::ENOSPC), "no space left in its file system; enlarge the file system"),
            (io(Errno::EROFS), "read-only; see why: findmnt /run/onecred/store; then: mount -o remount,rw"),
            (io(Errno::EACCES), "permission denied; it must belong to root with mode 0700"),
            (io(Errno::EMFILE), "onecred has too many files open; raise LimitNOFILE="),
            (io(Errno::ENFILE), "this machine has too many files open; raise it: sysctl fs.file-max"),
            (io(Errno::EIO), "input/output error; see: journalctl -k"),
            (io(Errno::ENOMEM), "no memory left; free memory"),
            (io(Errno::EFBIG), "file size limit; remove LimitFSIZE="),
            (io(Errno::ENOENT), "does not exist; systemctl start run-onecred-store.mount"),
            (io(Errno::EBUSY), "Device or resource busy (os error 16); see: findmnt"),
        ];
        for (error, words) in table {
            let text = error.failure().to_string();
            assert!(text.contains(words), "{words:?} is not in {text:?}");
            let own_limit = matches!(error, StoreError::Full { .. });
            assert_eq!(text.contains("storeSize"), own_limit, "{text}");
            assert_eq!(error.failure().class == Class::TooLarge, own_limit, "{text}");
        }
    }
}
