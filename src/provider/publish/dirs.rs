//! Directories by descriptor: a root is opened once, and each step below it follows no symbolic links and
//! stays on its file system.
//!
//! Anyone who could write to a directory on the path could put a link there, so each must be writable only by
//! root. (A single openat2 call could do this, but systemd's RestrictSUIDSGID= forbids it.)

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::geteuid;

use super::super::store::{Kind, is_memory};
use super::mounts::{self, Mounted};
use crate::provider::base::publish_error::Fault;

const WALK: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// An open directory that only this user can write to.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) path: PathBuf,
    fd: OwnedFd,
    device: u64,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a root.
    pub(super) fn root(path: &Path, kind: Kind) -> Result<Self, Fault> {
        let bad = |why: &str, taken| Fault::Root { root: path.to_owned(), why: why.to_owned(), taken };
        let dir = match kind {
            Kind::Anything => {
                let fd = open(path, WALK, Mode::empty()).map_err(Fault::io(path, "opened"))?;
                Self::checked(path.to_owned(), fd)?
            }
            Kind::Memory => Self::absolute(path).map_err(|fault| match fault {
                fault if fault.is_missing() => bad("is not there", false),
                Fault::Directory { path: link, why } if link == path => bad(&why, true),
                fault => fault,
            })?,
        };
        if kind == Kind::Memory {
            match mounts::at(path) {
                Mounted::View { written, .. } => {
                    let private = Self::absolute(&written)?;
                    return Ok(Self { path: path.to_owned(), ..private });
                }
                Mounted::Foreign(why) => return Err(bad(why, true)),
                Mounted::Old { read_only: true } => {
                    return Err(bad("is still the mount of an earlier version, and is read-only now", true));
                }
                Mounted::Old { .. } | Mounted::Configured => {}
            }
            if !is_memory(&dir.fd, path).unwrap_or(false) {
                let why = "is neither a ramfs nor a tmpfs with noswap, so secrets could be written to a disk";
                return Err(bad(why, false));
            }
        }
        Ok(dir)
    }

    /// Opens a directory by its absolute path, through directories that only root can write to.
    pub(super) fn absolute(path: &Path) -> Result<Self, Fault> {
        let fd = open("/", WALK, Mode::empty()).map_err(Fault::io("/", "opened"))?;
        let mut dir = Self::checked("/".into(), fd)?;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let fd = dir.step(name)?;
                dir = Self::checked(dir.path.join(name), fd)?;
            }
        }
        Ok(dir)
    }

    fn checked(path: PathBuf, fd: OwnedFd) -> Result<Self, Fault> {
        let stat = fstat(&fd).map_err(Fault::io(&path, "looked at"))?;
        let why = if stat.st_uid != 0 && stat.st_uid != geteuid().as_raw() {
            format!("belongs to user {}, who could put something else there", stat.st_uid)
        } else if stat.st_mode & 0o022 != 0 {
            format!("can be written by others (mode {:04o})", stat.st_mode & 0o7777)
        } else {
            return Ok(Self { path, fd, device: stat.st_dev });
        };
        Err(Fault::Directory { path, why })
    }

    fn step(&self, name: &OsStr) -> Result<OwnedFd, Fault> {
        let path = self.path.join(name);
        openat(&self.fd, name, WALK, Mode::empty()).map_err(|errno| match errno {
            Errno::ELOOP | Errno::ENOTDIR => {
                let why = if self.is_link(name) { "is a symbolic link" } else { "is not a directory" };
                Fault::Directory { path, why: why.to_owned() }
            }
            errno => Fault::io(path, "opened")(errno),
        })
    }

    fn is_link(&self, name: &OsStr) -> bool {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFLNK)
    }

    /// Opens a subdirectory on the same file system.
    pub(super) fn down(&self, name: &OsStr) -> Result<Self, Fault> {
        let dir = Self::checked(self.path.join(name), self.step(name)?)?;
        if dir.device != self.device {
            return Err(Fault::Directory { path: dir.path, why: "is a mount of another program".to_owned() });
        }
        Ok(dir)
    }

    /// Creates a subdirectory that every user can list, if it does not exist.
    pub(super) fn make(&self, name: &OsStr) -> Result<(), Fault> {
        let path = self.path.join(name);
        match mkdirat(&self.fd, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) => {
                // the umask would have removed the permissions of others
                let fd = self.step(name)?;
                fchmod(&fd, Mode::from_bits_truncate(0o755)).map_err(Fault::io(path, "opened to others"))
            }
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(Fault::io(path, "made")(errno)),
        }
    }

    /// Opens the same directory again, with its own read position, and lists it.
    pub(super) fn names(&self) -> Result<Vec<std::ffi::OsString>, Fault> {
        let wrong = || Fault::io(&self.path, "read");
        let mut dir = nix::dir::Dir::openat(&self.fd, ".", WALK, Mode::empty()).map_err(wrong())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            use std::os::unix::ffi::OsStrExt;
            names.push(OsStr::from_bytes(entry.map_err(wrong())?.file_name().to_bytes()).to_owned());
        }
        Ok(names)
    }
}

/// What makes a root unsuitable on this machine, for authors of a configuration. `None` if it is suitable or
/// does not exist yet. `has_owners` is whether files below it belong to users other than root.
pub fn objection(root: &Path, has_owners: bool) -> Option<String> {
    let stat = fstatat(AT_FDCWD, root, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    let is_link = stat.st_mode & libc::S_IFMT == libc::S_IFLNK;
    let empty = || std::fs::read_dir(root).is_ok_and(|mut names| names.next().is_none());
    let why = match mounts::at(root) {
        _ if is_link => "is a symbolic link",
        Mounted::Foreign(why) if !empty() || is_mount(stat.st_dev, root) => why,
        Mounted::Old { .. } => return Some(mounts::is_old(&root.display().to_string())),
        Mounted::Configured | Mounted::View { read_only: false, .. } if has_owners => {
            return Some(mounts::is_writable(root));
        }
        Mounted::Foreign(_) | Mounted::Configured | Mounted::View { .. } => return None,
    };
    let fault = Fault::Root { root: root.to_owned(), why: why.to_owned(), taken: true };
    Some(format!("{fault}, so nothing is published below it; {}", fault.remedy("NAME")))
}

/// Whether a directory on this device is a mount point. An empty directory that is not a mount point will be
/// mounted over.
fn is_mount(device: libc::dev_t, path: &Path) -> bool {
    path.parent()
        .and_then(|above| nix::sys::stat::stat(above).ok())
        .is_some_and(|above| above.st_dev != device)
}
