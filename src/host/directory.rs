//! Opens a directory that root writes to, so that no other user can redirect the write by a symbolic link.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

/// The maximum number of symbolic links that a path may contain; the kernel has the same limit.
const MOST_LINKS: usize = 40;

/// Why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The directory cannot be opened.
    #[error("{}: {error}", path.display())]
    Io {
        /// The part of the path that could be followed.
        path: PathBuf,
        /// The error of the kernel.
        error: io::Error,
    },
    /// The path contains a symbolic link in a directory that users other than root can change.
    #[error("{} is a symbolic link in a directory that others than root can write to; name the real directory", .0.display())]
    Link(PathBuf),
}

/// Opens a directory by its absolute path. Follows symbolic links only in directories that only root can
/// change.
///
/// # Errors
///
/// See [`Refusal`].
pub(crate) fn open_without_foreign_links(path: &Path) -> Result<OwnedFd, Refusal> {
    let mut rest: VecDeque<OsString> = parts(path);
    let mut here = root()?;
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        at.push(&name);
        let failed = |errno: Errno| Refusal::Io { path: at.clone(), error: errno.into() };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let next = openat(&here, name.as_os_str(), flags, Mode::empty()).map_err(failed)?;
        let about = fstat(&next).map_err(failed)?;
        if !is_link(&about) {
            here = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(failed(Errno::ELOOP));
        }
        if !is_roots(&fstat(&here).map_err(failed)?) {
            return Err(Refusal::Link(at));
        }
        let target = PathBuf::from(readlinkat(next.as_fd(), "").map_err(failed)?);
        if target.is_absolute() {
            here = root()?;
            at = PathBuf::from("/");
        } else {
            at.pop();
        }
        for part in parts(&target).into_iter().rev() {
            rest.push_front(part);
        }
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(&here, ".", flags, Mode::empty()).map_err(|errno| Refusal::Io { path: at, error: errno.into() })
}

/// The components of a path, without `.` and `/`.
fn parts(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn root() -> Result<OwnedFd, Refusal> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open("/", flags, Mode::empty()).map_err(|errno| Refusal::Io { path: "/".into(), error: errno.into() })
}

fn is_link(about: &FileStat) -> bool {
    SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK
}

/// Whether only root can change the entries of a directory.
fn is_roots(about: &FileStat) -> bool {
    about.st_uid == 0 && about.st_mode & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions, create_dir, create_dir_all};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;

    /// The real path of an open directory.
    fn real(directory: &OwnedFd) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).unwrap()
    }

    #[test]
    fn links_count_where_only_root_can_make_them() {
        if !nix::unistd::geteuid().is_root() {
            return; // the test needs a link that another user owns
        }
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        create_dir_all(top.join("roots/target/deep")).unwrap();
        create_dir(top.join("others")).unwrap();
        create_dir(top.join("wide")).unwrap();
        for (of, to) in [
            ("roots/absolute", top.join("roots/target")),
            ("roots/relative", "target/deep".into()),
            ("roots/up", "../roots/./target/../target".into()),
            ("roots/loop", "loop".into()),
            ("roots/gone", "nowhere".into()),
            ("roots/others", "../others/link".into()),
            ("others/link", top.join("roots/target")),
            ("wide/link", top.join("roots/target")),
        ] {
            symlink(to, top.join(of)).unwrap();
        }
        fs::write(top.join("roots/file"), "").unwrap();
        chown(top.join("others"), Some(1234), None).unwrap();
        fs::set_permissions(top.join("wide"), Permissions::from_mode(0o777)).unwrap();
        for (path, expected) in [
            ("roots/target", Ok("roots/target")),
            ("others", Ok("others")),
            ("roots/absolute", Ok("roots/target")),
            ("roots/absolute/deep/..", Ok("roots/target")),
            ("roots/relative", Ok("roots/target/deep")),
            ("roots/up", Ok("roots/target")),
            ("roots/loop", Err("Too many")),
            ("roots/gone", Err("nowhere: ENOENT")),
            ("roots/file", Err("Not a directory")),
            (
                "others/link",
                Err("others/link is a symbolic link in a directory that others than root can write to"),
            ),
            ("wide/link/deep", Err("wide/link is a symbolic link")),
            ("roots/others", Err("others/link is a symbolic link")),
        ] {
            let opened = open_without_foreign_links(&top.join(path));
            match (opened, expected) {
                (Ok(directory), Ok(expected)) => assert_eq!(real(&directory), top.join(expected), "{path}"),
                (Err(refusal), Err(words)) => {
                    let words = words.replace("ENOENT", "No such file");
                    assert!(refusal.to_string().contains(&words), "{path}: {refusal}");
                }
                (opened, _) => panic!("{path}: {opened:?}"),
            }
        }
        assert_eq!(
            fs::metadata("/").unwrap().ino(),
            fs::metadata(real(&open_without_foreign_links(Path::new("/")).unwrap())).unwrap().ino()
        );
    }
}
