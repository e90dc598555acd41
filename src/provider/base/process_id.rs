//! Identifies a process beyond the reuse of its ID, and what it runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// A process as long as this machine runs: its ID, and something that tells it from a later process of the same ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    pid: i32,
    birth: u64,
}

impl ProcessId {
    /// A process by its ID, and the inode of its pidfd or its start time.
    pub(crate) fn new(pid: i32, birth: u64) -> Self {
        Self { pid, birth }
    }

    /// One that is no process's: each call of this is an asker of its own.
    pub(crate) fn nobody() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { pid: 0, birth: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether a process with this ID runs. It may be a later one.
    pub(crate) fn is_running(self) -> bool {
        std::fs::symlink_metadata(format!("/proc/{}", self.pid)).is_ok()
    }

    /// The number.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// The inode of its pidfd, or its start time.
    pub(crate) fn birth(self) -> u64 {
        self.birth
    }

    /// What runs under this ID now; none, if no process does.
    pub(crate) fn running(self) -> Option<Running> {
        Running::of(self.pid)
    }
}

/// What a process is at a moment. It changes when the process executes another program, and when its ID comes to be another process's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The name of the program, cut to 15 bytes. The service manager's own processes have names in parentheses.
    pub name: String,
    /// When the process started, in clock ticks since boot.
    pub started: u64,
}

impl Running {
    /// Whether this is the helper that asks for credentials, and decrypts them, before systemd 258.
    pub fn decrypts_by_itself(&self) -> bool {
        self.name == "(sd-mkdcreds)"
    }

    /// Reads `/proc/PID/stat`, which the kernel shows to everybody: comm is the 2nd field, starttime the 22nd.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // the name may hold anything, also spaces and parentheses
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
