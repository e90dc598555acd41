//! The memory of this machine, and the limits of control groups. Supports only cgroup v2.

use std::fs;

use nix::sys::sysinfo::sysinfo;

/// Limits that concern services: of a container, and of the slice of system services.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/system.slice/memory.max"];

/// A limit in the file of a control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// A number of bytes.
    Bytes(u64),
    /// There is a controller, but no limit.
    Unlimited,
}

/// The memory that services can have, in bytes: that of the machine, or of its container if that is less. `None` if it is not known.
pub(crate) fn of_services() -> Option<u64> {
    let machine = sysinfo().ok().map(|info| info.ram_total());
    let limits = LIMITS.iter().filter_map(|path| match read(path)? {
        Limit::Bytes(bytes) => Some(bytes),
        Limit::Unlimited => None,
    });
    machine.into_iter().chain(limits).min()
}

/// The limit of this process's own control group. `None` if the group has no memory controller.
pub(crate) fn own_limit() -> Option<Limit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    read(&format!("/sys/fs/cgroup{}/memory.max", own_group(&groups)?))
}

fn own_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::")).filter(|group| *group != "/")
}

fn read(path: &str) -> Option<Limit> {
    parse(&fs::read_to_string(path).ok()?)
}

fn parse(text: &str) -> Option<Limit> {
    match text.trim() {
        "max" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_control_groups_are_read() {
        for (text, limit) in [
            ("402653184\n", Some(Limit::Bytes(402_653_184))),
            ("max\n", Some(Limit::Unlimited)),
            ("", None),
            ("-1\n", None),
        ] {
            assert_eq!(parse(text), limit, "{text:?}");
        }
        for (groups, group) in [
            ("0::/system.slice/onecred.service\n", Some("/system.slice/onecred.service")),
            ("1:cpu:/a\n0::/b\n", Some("/b")),
            ("0::/\n", None),
            ("1:memory:/a\n", None),
        ] {
            assert_eq!(own_group(groups), group, "{groups:?}");
        }
        assert!(of_services().is_some_and(|bytes| bytes > 1 << 20));
    }
}
