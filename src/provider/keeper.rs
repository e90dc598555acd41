//! The keeper: a sibling process that refuses every open connection when the provider dies, so that no unit gets an empty or cut value.
//!
//! It is made before any thread and any secret, shares the provider's descriptor table (`CLONE_FILES`), and waits for the provider's end.
//! Connections outlive the provider in that table; each gets filler until its peer hangs up, which takes what was half sent over systemd's
//! size limit. The keeper has no state, costs nothing per request, and ends when no connection is left.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{UnixAddr, getpeername};
use nix::unistd::{Pid, getppid};

use super::reply::{ENOUGH, FILLER};
use crate::name::Claim;
use crate::sys;

/// The provider's view of its keeper.
#[derive(Debug)]
pub struct Keeper {
    pid: Pid,
    pidfd: OwnedFd,
    /// What the keeper waits for. Its table is this process's, so here it has to stay open.
    _provider: OwnedFd,
}

impl Keeper {
    /// Makes the keeper of this process. To be called before any thread is started and any secret is known.
    pub fn start() -> io::Result<Self> {
        let (this, provider) = (Pid::this(), sys::pidfd_open(Pid::this())?);
        let pid = sys::clone_sharing_files(|| keep(this, &provider))?;
        Ok(Self { pid, pidfd: sys::pidfd_open(pid)?, _provider: provider })
    }

    /// Its process ID.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that becomes readable when the keeper has ended, which it never does before the provider.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The keeper's whole life.
fn keep(provider: Pid, pidfd: &OwnedFd) {
    let _ = nix::sys::prctl::set_name(c"onecred-keeper");
    // an orphan is what proves the provider's end: the descriptor is one of a table that is not ours alone
    while getppid() == provider {
        let mut end = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut end, PollTimeout::NONE).is_err() || getppid() == provider {
            std::thread::sleep(Duration::from_millis(10)); // never seen: no reason to spin
        }
    }
    let (askers, others): (Vec<RawFd>, Vec<RawFd>) = open_files().into_iter().partition(|&fd| is_asker(fd));
    let mut open: Vec<(RawFd, u64)> = askers.into_iter().map(|fd| (fd, 0)).collect();
    let count = open.len();
    refuse_some(&mut open);
    // the provider's other descriptors are nobody's now: values in memory files, its place on the bus
    for fd in others.into_iter().filter(|&fd| fd > 2 && fd != pidfd.as_raw_fd()) {
        let _ = nix::unistd::close(fd);
    }
    // said after the first round, and only where it goes at once: a journal that stands still must not hold up refusals
    let mut journal = [PollFd::new(sys::borrow(2), PollFlags::POLLOUT)];
    if count > 0 && poll(&mut journal, PollTimeout::ZERO) == Ok(1) {
        let word = format!("the provider has ended with {count} connections open: each is refused\n");
        let _ = nix::unistd::write(io::stderr(), word.as_bytes());
    }
    refuse_all(open);
}

/// Every descriptor there is.
fn open_files() -> Vec<RawFd> {
    let listed = std::fs::read_dir("/proc/self/fd").map(|entries| {
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect::<Vec<RawFd>>()
    });
    listed.unwrap_or_else(|_| {
        let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(1 << 16, |(soft, _)| soft);
        (0..RawFd::try_from(most).unwrap_or(1 << 20).min(1 << 20)).collect()
    })
}

/// Whether a descriptor is a connection of somebody who asks for a credential.
fn is_asker(fd: RawFd) -> bool {
    let peer = getpeername::<UnixAddr>(fd);
    peer.is_ok_and(|peer| peer.as_abstract().is_some_and(|address| Claim::parse(address).is_some()))
}

/// Sends as much filler as each takes now, and leaves those out that have hung up. Whether some could not be sent to for want of memory.
fn refuse_some(open: &mut Vec<(RawFd, u64)>) -> bool {
    let mut short = false;
    open.retain_mut(|(fd, sent)| {
        while *sent < ENOUGH {
            match sys::send_now(fd, &FILLER) {
                Ok(n) => *sent += n as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if sys::is_hung_up(&error) => return false,
                Err(_) => {
                    short = true;
                    return true;
                }
            }
        }
        true
    });
    short
}

/// Sends filler into all of them at once, so that a peer that does not read holds up no other, until each has hung up.
fn refuse_all(mut open: Vec<(RawFd, u64)>) {
    while !open.is_empty() {
        if refuse_some(&mut open) {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        let wanted = |sent: u64| if sent < ENOUGH { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut waiting: Vec<PollFd<'_>> =
            open.iter().map(|&(fd, sent)| PollFd::new(sys::borrow(fd), wanted(sent))).collect();
        let _ = poll(&mut waiting, PollTimeout::NONE);
        let over = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let hung_up: Vec<RawFd> = waiting
            .iter()
            .filter(|fd| fd.revents().is_some_and(|revents| revents.intersects(over)))
            .map(|fd| fd.as_fd().as_raw_fd())
            .collect();
        open.retain(|(fd, _)| !hung_up.contains(fd));
    }
}
