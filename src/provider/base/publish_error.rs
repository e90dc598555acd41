//! Why a file can't be published: what is wrong with what, and what to do about it.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why a file can't be published.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The root is not there, or not what it has to be.
    #[error("{root} {why}")]
    Root {
        /// The root.
        root: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Whether it is someone else's, so that another has to be taken.
        taken: bool,
    },
    /// A directory on the way is not root's alone.
    #[error("{path} {why}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A user or group is not there.
    #[error("there is no {kind} {name} on this machine")]
    Account {
        /// "user" or "group".
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Users and groups can't be looked up.
    #[error("the {kind} {name} can't be looked up: {why}")]
    Accounts {
        /// "user" or "group".
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// Something of someone's stands where a link should.
    #[error("the link {0} can't be made: something stands there that onecred did not put there")]
    Occupied(PathBuf),
    /// A link below /root can't be made; by itself the provider does not see what is there.
    #[error("the link {link} can't be made: {why}")]
    OfRoot {
        /// The link.
        link: PathBuf,
        /// What the file system says.
        why: String,
    },
    /// Published files would take more memory than they may.
    #[error("published files would have {would} bytes, and their limit is {limit}")]
    Full {
        /// Bytes with the new file.
        would: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// It belongs together with another, which can't be published.
    #[error("it belongs together with {other}, and {why}")]
    Together {
        /// The other one.
        other: PathBuf,
        /// Why that one can't.
        why: String,
    },
    /// The file system says no.
    #[error("{path} can't be {what}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was to be done with it ("written").
        what: &'static str,
        /// What it says.
        error: io::Error,
    },
}

impl Fault {
    pub(crate) fn io(path: impl Into<PathBuf>, what: &'static str) -> impl FnOnce(Errno) -> Self {
        let path = path.into();
        move |errno| Self::Io { path, what, error: errno.into() }
    }

    /// What to do about it. `name` is what is published.
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
                    "each directory on the way must belong to root, be writable only by root, and be no symbolic link; see: namei -l {}",
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
            Self::Together { .. } => "mend that first; see: systemctl status onecred".to_owned(),
            Self::Io { .. } => "see: systemctl status onecred".to_owned(),
        }
    }
}

/// The unit that mounts a directory, as `systemd-escape --path --suffix=mount` has it.
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
