//! Identifies a process even if its PID is reused, and the program that it runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// A process, identified for the life of this machine: its PID, and a number that distinguishes it from later
/// processes with the same PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    pid: i32,
    birth: u64,
}

impl ProcessId {
    /// A process by its PID and the inode of its pidfd, or its start time.
    pub(crate) fn new(pid: i32, birth: u64) -> Self {
        Self { pid, birth }
    }

    /// An ID that belongs to no process. Each call returns another one, so it counts as a separate asker.
    pub(crate) fn nobody() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { pid: 0, birth: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether a process with this PID runs, possibly a later one.
    pub(crate) fn is_running(self) -> bool {
        std::fs::symlink_metadata(format!("/proc/{}", self.pid)).is_ok()
    }

    /// The PID.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// The inode of its pidfd, or its start time.
    pub(crate) fn birth(self) -> u64 {
        self.birth
    }

    /// What runs under this PID now; `None` if no process has it.
    pub(crate) fn running(self) -> Option<Running> {
        Running::of(self.pid)
    }
}

/// The program of a process. The value changes when the process executes another program, and when another
/// process gets its PID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The name of the program, truncated to 15 bytes. Processes of the service manager have names in
    /// parentheses.
    pub name: String,
    /// When the process started, in clock ticks since boot.
    pub started: u64,
}

impl Running {
    /// Whether this is the helper that requests and decrypts credentials on systemd before 258.
    pub fn decrypts_by_itself(&self) -> bool {
        self.name == "(sd-mkdcreds)"
    }

    /// Reads `/proc/PID/stat`, which is readable by every user. Field 2 is comm, field 22 is starttime.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // the name may contain spaces and parentheses
        let (head, rest) = stat.rsplit_once(')')?;
        let (_pid, name) = head.split_once('(')?;
        Some(Self { name: name.to_owned(), started: rest.split_whitespace().nth(19)?.parse().ok()? })
    }
}

#[cfg(test)]
impl ProcessId {
    pub(crate) fn testing(birth: u64) -> Self {
        Self { pid: 1, birth }
    }

    pub(crate) fn of_pid(pid: i32) -> Self {
        Self { pid, birth: 0 }
    }
}

#[cfg(test)]
impl Running {
    pub(crate) fn testing(name: &str) -> Self {
        Self { name: name.to_owned(), started: 0 }
    }

    pub(crate) fn of_self() -> Self {
        Self::of(std::process::id() as i32).unwrap()
    }
}
