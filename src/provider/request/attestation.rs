//! Attests the peer of a connection: proves its claim by what the kernel reports about its process.
//!
//! The client chooses the address, so the address proves nothing. Only the peer's user (SO_PEERCRED) and
//! cgroup can be trusted: systemd moves the process that asks into the cgroup of the unit before it
//! connects. Against root, this only prevents mistakes.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{UnixAddr, getpeername, getsockopt, sockopt};
use nix::sys::stat::fstat;
use nix::sys::statfs::fstatfs;

use crate::domain::name::{Claim, UnitName, unit_of_cgroup};
use crate::provider::base::peer::Peer;
use crate::provider::base::process_id::{ProcessId, Running};

/// The type of the file system in which each pidfd has a unique inode (Linux 6.9).
const PIDFS_MAGIC: i64 = 0x5049_4446;

/// Why a peer is rejected.
#[derive(Debug, PartialEq, Eq)]
pub enum Stranger {
    /// The address does not have the form that systemd uses to request credentials.
    NoClaim,
    /// It runs as a user other than that of the service manager.
    User(u32),
    /// The process has ended.
    Gone,
    /// The cgroup of the process could not be read.
    Unreadable(String),
    /// The process is not in a unit's cgroup, as on hosts with cgroup v1 only.
    NoUnit(Claim),
    /// The process is in another unit than it claims.
    OtherUnit {
        /// Its claim.
        claim: Claim,
        /// Its unit.
        found: UnitName,
    },
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClaim => write!(
                f,
                "the caller's address is not of the form that systemd uses for LoadCredential=; name this socket in a unit's LoadCredential=, or try: onecred get --as UNIT ID"
            ),
            Self::User(uid) => {
                write!(
                    f,
                    "the caller is user {uid}, who is not the user of the service manager that is served"
                )
            }
            Self::Gone => write!(f, "the caller ended before it had an answer"),
            Self::Unreadable(why) => write!(f, "the caller's cgroup can't be read: {why}"),
            Self::NoUnit(claim) => write!(
                f,
                "the caller claims to be {}, but is not in the cgroup of a unit (onecred needs cgroup v2, alone or beside v1)",
                claim.unit
            ),
            Self::OtherUnit { claim, found } => {
                write!(f, "the caller claims to be {}, but is in the cgroup of {found}", claim.unit)
            }
        }
    }
}

/// The cgroup of the service manager itself, and of its child processes before it moves them to the cgroup of
/// a unit. Since systemd 260, a reload with `RefreshOnReload=credentials` asks from there. The service
/// manager makes all claims anyway, and only root can put other processes there.
const MANAGER: &str = "init.scope";

/// Which peers to believe.
#[derive(Debug, Clone, Copy)]
pub struct Attestation {
    /// The user of the service manager: 0 for the system's.
    pub uid: u32,
    /// Whether to accept a claim without a cgroup that proves it. For development only.
    pub trusting: bool,
}

impl Attestation {
    /// Identifies the peer.
    pub fn identify(self, socket: &impl AsFd) -> Result<Peer, Stranger> {
        let socket = socket.as_fd();
        let address = getpeername::<UnixAddr>(socket.as_raw_fd()).map_err(|_| Stranger::Gone)?;
        let claim = address.as_abstract().and_then(Claim::parse).ok_or(Stranger::NoClaim)?;
        let credentials = getsockopt(&socket, sockopt::PeerCredentials).map_err(|_| Stranger::Gone)?;
        if credentials.uid() != self.uid {
            return Err(Stranger::User(credentials.uid()));
        }
        let watch = Watch::on(&socket, credentials.pid())?;
        let cgroup = watch.cgroup(read_cgroup);
        if self.trusting && cgroup != Err(Stranger::Gone) {
            return Ok(Peer { claim, process: watch.process });
        }
        Ok(Peer { claim: proven(claim, &cgroup?)?, process: watch.process })
    }
}

/// The claim, if the cgroup file of the process proves it.
fn proven(claim: Claim, cgroup: &str) -> Result<Claim, Stranger> {
    match unit_of_cgroup(cgroup, "") {
        Some(found) if found == claim.unit || found.as_str() == MANAGER => Ok(claim),
        Some(found) => Err(Stranger::OtherUnit { claim, found }),
        None => Err(Stranger::NoUnit(claim)),
    }
}

/// The unit of a process. With a pidfd the process is certain; otherwise its start time distinguishes it from
/// a later process.
pub(crate) fn unit_of(pid: i32, pidfd: Option<OwnedFd>) -> Result<UnitName, Stranger> {
    let cgroup = Watch::over(pid, pidfd)?.cgroup(read_cgroup)?;
    unit_of_cgroup(&cgroup, "")
        .ok_or_else(|| Stranger::Unreadable("it is not in the cgroup of a unit".to_owned()))
}

/// Detects that the PID of a process was reused.
struct Watch {
    pidfd: Option<OwnedFd>,
    process: ProcessId,
}

impl Watch {
    fn on(socket: &impl AsFd, pid: i32) -> Result<Self, Stranger> {
        // before Linux 6.5 a socket has no peer pidfd: the start time distinguishes processes
        Self::over(pid, getsockopt(socket, sockopt::PeerPidfd).ok())
    }

    fn over(pid: i32, pidfd: Option<OwnedFd>) -> Result<Self, Stranger> {
        let inode =
            pidfd.as_ref().filter(|fd| fstatfs(fd).is_ok_and(|fs| fs.filesystem_type().0 == PIDFS_MAGIC));
        let birth = match inode {
            Some(fd) => fstat(fd).map_err(|_| Stranger::Gone)?.st_ino,
            None => start_time(pid).ok_or(Stranger::Gone)?,
        };
        Ok(Self { pidfd, process: ProcessId::new(pid, birth) })
    }

    /// The cgroup of the process, read with `read`. If the process has ended, this may be the cgroup of a
    /// later process with the same PID.
    fn cgroup(&self, read: impl FnOnce(i32) -> io::Result<String>) -> Result<String, Stranger> {
        let cgroup = read(self.process.pid());
        self.still_there()?;
        cgroup.map_err(|error| Stranger::Unreadable(error.to_string()))
    }

    fn still_there(&self) -> Result<(), Stranger> {
        let there = match &self.pidfd {
            Some(pidfd) => {
                let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                poll(&mut ended, PollTimeout::ZERO) == Ok(0)
            }
            None => start_time(self.process.pid()) == Some(self.process.birth()),
        };
        if there { Ok(()) } else { Err(Stranger::Gone) }
    }
}

fn read_cgroup(pid: i32) -> io::Result<String> {
    let mut text = String::with_capacity(256);
    std::fs::File::open(format!("/proc/{pid}/cgroup"))?.take(1 << 16).read_to_string(&mut text)?;
    Ok(text)
}

/// When a process started, in clock ticks since boot.
fn start_time(pid: i32) -> Option<u64> {
    Running::of(pid).map(|running| running.started)
}

#[cfg(test)]
mod tests;
