//! What is mounted at a root. It may be a read-only view of onecred's private memory, where files are written
//! out of reach of consumers. Or it is a mount that files are written to directly, such as that of an earlier
//! version or of an administrator.

use std::path::{Path, PathBuf};

/// The private memory. Only root can enter it.
const PRIVATE: &str = "/run/onecred/rw";
/// The source of onecred's own mounts.
const OURS: &str = "onecred";
/// The roots that onecred mounts.
pub(super) const BROUGHT: [&str; 2] = ["/run/secrets", "/run/onecred/files"];

/// What is mounted at a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mounted {
    /// A view of this directory of the private memory.
    View { written: PathBuf, read_only: bool },
    /// The memory that an earlier version mounted. Consumers see files while they are written, and owners can
    /// write to them.
    Old { read_only: bool },
    /// A mount of an administrator, who configured it as a root.
    Configured,
    /// Something that onecred did not mount there.
    Foreign(&'static str),
}

/// A line of proc_pid_mountinfo(5).
struct Mount<'a> {
    device: &'a str,
    /// The directory of the file system that is mounted.
    inner: &'a str,
    point: &'a str,
    options: &'a str,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, superblock) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (device, inner, point, options) = (mount.next()?, mount.next()?, mount.next()?, mount.next()?);
        let mut superblock = superblock.split(' ');
        let (kind, source) = (superblock.next()?, superblock.next()?);
        Some(Self { device, inner, point, options, kind, source })
    }

    /// The topmost mount at a path.
    fn top(mountinfo: &'a str, path: &str) -> Option<Self> {
        mountinfo.lines().rev().filter_map(Self::parse).find(|mount| mount.point == path)
    }

    fn is_read_only(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }
}

/// Classifies the mount at a root by the text of `/proc/self/mountinfo`.
pub(super) fn judge(root: &Path, mountinfo: &str) -> Mounted {
    let top = root.to_str().and_then(|root| Mount::top(mountinfo, root));
    let private = Mount::top(mountinfo, PRIVATE)
        .filter(|it| it.source == OURS && it.kind == "ramfs" && it.inner == "/");
    if let (Some(mount), Some(private)) = (&top, &private)
        && mount.device == private.device
        && let Some(inner) = mount.inner.strip_prefix('/').filter(|inner| !inner.is_empty())
    {
        let (written, read_only) = (Path::new(PRIVATE).join(inner), mount.is_read_only());
        return Mounted::View { written, read_only };
    }
    if !BROUGHT.iter().any(|brought| root.as_os_str() == *brought) {
        return Mounted::Configured;
    }
    match top {
        Some(mount) if mount.inner == "/" && mount.source == OURS => {
            Mounted::Old { read_only: mount.is_read_only() }
        }
        Some(mount) if mount.inner == "/" => Mounted::Foreign("is a mount of another program"),
        // a bind mount that the sandbox made is also a mount, of a part of a file system
        Some(_) | None => Mounted::Foreign("is an ordinary directory, not memory that onecred mounted"),
    }
}

/// Classifies the current mount at a root.
pub(super) fn at(root: &Path) -> Mounted {
    judge(root, &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// onecred's own roots that are still mounted as in an earlier version, each with the consequence.
pub fn old_mounts() -> Vec<String> {
    let old = |root: &&str| matches!(at(Path::new(root)), Mounted::Old { .. });
    BROUGHT.iter().filter(|root| old(root)).map(|root| is_old(root)).collect()
}

pub(super) fn is_old(root: &str) -> String {
    format!(
        "{root} is still the writable mount of an earlier version, so owners of files can change them and fill the memory; it is replaced at the next boot"
    )
}

/// The consequence of consumers being able to write to the memory of a root that an administrator configured,
/// and how to change that.
pub(super) fn is_writable(root: &Path) -> String {
    let name = root.file_name().unwrap_or_default().display();
    format!(
        "{0} is mounted writable, so owners of files below it can change them and fill the memory; give it a mount unit like that of /run/secrets: What={PRIVATE}/{name}, Where={0}, Type=none, Options=bind,ro,nosuid,nodev,noexec",
        root.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mounts of a machine: the private memory, and others.
    fn mounts(others: &[&str]) -> String {
        let private =
            "70 20 0:52 / /run/onecred/rw rw,nosuid,nodev,noexec shared:9 - ramfs onecred rw,mode=700";
        let run = "20 1 0:21 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,mode=755";
        [&[run, private], others].concat().join("\n")
    }

    #[test]
    fn roots_are_told_apart_by_what_is_mounted_there() {
        let view = "71 20 0:52 /secrets /run/secrets ro,nosuid shared:9 - ramfs onecred rw,mode=700";
        let writable = "71 20 0:52 /secrets /run/secrets rw,nosuid shared:9 - ramfs onecred rw,mode=700";
        let other_memory = "71 20 0:53 /secrets /run/secrets ro,nosuid shared:9 - ramfs onecred rw,mode=700";
        let old = "71 20 0:53 / /run/secrets rw,nosuid shared:9 - ramfs onecred rw,mode=755";
        let remounted = "71 20 0:53 / /run/secrets ro,nosuid shared:9 - ramfs onecred rw,mode=755";
        let theirs = "71 20 0:53 / /run/secrets rw shared:9 - ramfs theirs rw";
        let of_the_sandbox = "71 20 0:21 /secrets /run/secrets rw,nosuid - tmpfs tmpfs rw,mode=755";
        let written = PathBuf::from("/run/onecred/rw/secrets");
        let foreign = |mounted: &Mounted| matches!(mounted, Mounted::Foreign(_));
        let at = |others: &[&str]| judge(Path::new("/run/secrets"), &mounts(others));
        assert_eq!(at(&[view]), Mounted::View { written: written.clone(), read_only: true });
        assert_eq!(at(&[writable]), Mounted::View { written, read_only: false });
        assert_eq!(at(&[old]), Mounted::Old { read_only: false });
        assert_eq!(at(&[remounted]), Mounted::Old { read_only: true });
        assert_eq!(
            at(&[view, theirs]),
            Mounted::Foreign("is a mount of another program"),
            "the last is on top"
        );
        for others in [&[other_memory][..], &[of_the_sandbox], &[], &["no line of a mount"]] {
            assert!(foreign(&at(others)), "{others:?}: {:?}", at(others));
        }
        assert!(foreign(&judge(Path::new("/run/secrets"), view)), "the private memory is not mounted");
        let part = Mounted::Foreign("is an ordinary directory, not memory that onecred mounted");
        assert_eq!(at(&[of_the_sandbox]), part, "a part of a file system");
        for private in [
            "/ /run/onecred/rw rw - tmpfs onecred",
            "/ /run/onecred/rw rw - ramfs theirs",
            "/x /run/onecred/rw rw - ramfs onecred",
        ] {
            let text = format!("70 20 0:52 {private} rw,mode=700\n{view}");
            assert_eq!(judge(Path::new("/run/secrets"), &text), part, "{private} is not the private memory");
        }
    }

    #[test]
    fn a_root_of_an_admin_may_be_a_view_as_well() {
        let at = |others: &[&str]| judge(Path::new("/run/app"), &mounts(others));
        let view = "71 20 0:52 /app /run/app ro shared:9 - ramfs onecred rw";
        let written = PathBuf::from("/run/onecred/rw/app");
        assert_eq!(at(&[view]), Mounted::View { written, read_only: true });
        assert_eq!(at(&["71 20 0:53 / /run/app rw shared:9 - ramfs app rw"]), Mounted::Configured);
        assert_eq!(at(&[]), Mounted::Configured);
        let old = is_old("/run/secrets");
        assert!(old.starts_with("/run/secrets is still the writable mount of an earlier version"), "{old}");
        let advice = is_writable(Path::new("/run/app"));
        assert!(advice.contains("What=/run/onecred/rw/app, Where=/run/app,"), "{advice}");
    }
}
