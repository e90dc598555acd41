//! Why a file cannot be published: cause and remedy.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

/// Why a file cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The root does not exist, or is unsuitable.
    #[error("{root} {why}")]
    Root {
        /// The root.
        root: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Whether something else is mounted there, so that another root must be chosen.
        taken: bool,
    },
    /// Users other than root can write to a directory of the path.
    #[error("{path} {why}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A user or group does not exist.
    #[error("there is no {kind} {name} on this machine")]
    Account {
        /// "user" or "group".
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Users and groups cannot be looked up.
    #[error("the {kind} {name} can't be looked up: {why}")]
    Accounts {
        /// "user" or "group".
        kind: &'static str,
        /// Its name.
        name: String,
        /// The error.
        why: String,
    },
    /// The path of a link exists already, and is not a link of onecred.
    #[error("the link {0} can't be created: the path exists, and is not a link of onecred")]
    Occupied(PathBuf),
    /// A link below /root cannot be created. Without a drop-in the provider cannot see that directory.
    #[error("the link {link} can't be created: {why}")]
    OfRoot {
        /// The link.
        link: PathBuf,
        /// The error.
        why: String,
    },
    /// Published files would exceed the limit of their memory.
    #[error("published files would have {would} bytes, and their limit is {limit}")]
    Full {
        /// The size in bytes with the new file.
        would: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// It belongs to the same group as another file, which cannot be published.
    #[error("it belongs to the same group as {other}, and {why}")]
    Together {
        /// The other file.
        other: PathBuf,
        /// Why the other file cannot be published.
        why: String,
    },
    /// A disk does not answer: that of this file, or of one that is published before it.
    #[error("a disk with published files or their links has not answered for {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The file system returned an error.
    #[error("{path} can't be {what}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What onecred tried to do with it, such as "written".
        what: &'static str,
        /// The error.
        error: io::Error,
    },
}

impl Fault {
    pub(crate) fn io(path: impl Into<PathBuf>, what: &'static str) -> impl FnOnce(Errno) -> Self {
        let path = path.into();
        move |errno| Self::Io { path, what, error: errno.into() }
    }

    /// Whether a path does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.raw_os_error() == Some(libc::ENOENT))
    }

    /// The remedy. `name` is the published secret or template.
    pub fn remedy(&self, name: &str) -> String {
        let again = format!("systemctl restart onecred-file@{name}");
        match self {
            Self::Root { root, taken: true, .. } if root.as_os_str() == "/run/secrets" => {
                "publish below /run/onecred/files instead, which is onecred's own; or, once it is free: systemctl restart run-secrets.mount onecred".to_owned()
            }
            Self::Root { root, .. } => {
                format!("start what mounts it: systemctl start {}; then: {again}", mount_unit(root))
            }
            Self::Directory { path, .. } => {
                format!(
                    "each directory of the path must belong to root, be writable only by root, and not be a symbolic link; see: namei -l {}",
                    path.display()
                )
            }
            Self::Account { kind, name: account, .. } => format!(
                "create the {kind}, by sysusers.d or before this starts (systemctl edit onecred-file@{name}: After=what makes {account}); then: {again}"
            ),
            Self::Accounts { .. } => format!("see: getent passwd; then: {again}"),
            Self::Occupied(path) => {
                format!("remove it, if it is not needed: rm {}; then: {again}", path.display())
            }
            Self::Full { .. } => "raise limits.storeSize, or publish less".to_owned(),
            Self::OfRoot { link, .. } => {
                let dir = link.parent().unwrap_or(link).display();
                format!(
                    "create its directory if it is missing (install -d -m 0700 {dir}), and let the provider write there: systemctl edit onecred, with [Service], ProtectHome=no, InaccessiblePaths=-/home -/run/user, TemporaryFileSystem=/root:ro,mode=0755 and BindPaths=-{dir} in it; then: systemctl restart onecred"
                )
            }
            Self::Io { path, error, .. } if error.raw_os_error() == Some(libc::EROFS) => {
                let parent = path.parent().unwrap_or(path).display();
                format!(
                    "let the provider write there: systemctl edit onecred, with [Service] and ReadWritePaths=-{parent} in it; then: systemctl restart onecred"
                )
            }
            Self::Io { path, error, .. } if error.raw_os_error() == Some(libc::ENOENT) => {
                let path = path.display();
                format!(
                    "create it now: install -d -m 0755 {path}; and at each boot: echo 'd {path} 0755 root root -' >>/etc/tmpfiles.d/onecred-links.conf; or set \"makeDirectories\": true; then: {again}"
                )
            }
            Self::NoAnswer(_) => format!("see why: journalctl -k; then: {again}"),
            Self::Together { .. } => "fix that first; see: systemctl status onecred".to_owned(),
            Self::Io { .. } => "see: systemctl status onecred".to_owned(),
        }
    }
}

/// The unit that mounts a directory, as `systemd-escape --path --suffix=mount` prints it.
fn mount_unit(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    let mut unit = String::new();
    for c in text.trim_matches('/').chars() {
        match c {
            '/' => unit.push('-'),
            c if c.is_ascii_alphanumeric() || ":_.".contains(c) => unit.push(c),
            c => c.to_string().bytes().for_each(|b| unit.push_str(&format!("\\x{b:02x}"))),
        }
    }
    unit + ".mount"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_can_be_missing() {
        for (errno, is_missing) in [(Errno::ENOENT, true), (Errno::ENOTDIR, false), (Errno::EACCES, false)] {
            assert_eq!(Fault::io("/run/x", "opened")(errno).is_missing(), is_missing, "{errno}");
        }
        assert!(!Fault::Occupied("/etc/x".into()).is_missing());
    }

    #[test]
    fn remedies_name_units_and_drop_ins() {
        assert_eq!(mount_unit("/run/app-secrets".as_ref()), r"run-app\x2dsecrets.mount");
        let error = io::Error::from_raw_os_error(libc::EROFS);
        let fault = Fault::Io { path: "/etc/app/key".into(), what: "linked", error };
        assert!(fault.remedy("key").contains("ReadWritePaths=-/etc/app in it"), "{}", fault.remedy("key"));
        let fault = Fault::OfRoot { link: "/root/.ssh/id".into(), why: "Permission denied".into() };
        let remedy = fault.remedy("key");
        assert!(
            remedy.contains("TemporaryFileSystem=/root:ro,mode=0755 and BindPaths=-/root/.ssh in it"),
            "{remedy}"
        );
    }
}
