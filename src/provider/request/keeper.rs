//! The keeper: a sibling process that refuses every open connection when the provider ends, so that no unit gets an empty or incomplete value.
//!
//! The provider starts it before any thread and before it has any secret. It shares the provider's descriptor table (`CLONE_FILES`) and waits until
//! the provider ends. Connections remain open in that table. The keeper sends filler to each until the peer hangs up. The filler makes a value that
//! was partly sent exceed the size limit of every reader ([`ENOUGH`]). The keeper has no state, costs nothing per request, and ends when no
//! connection is open. While a peer does not read, the keeper sleeps. It closes a connection whose peer read all filler and did not hang up within
//! [`LINGER`]. It lists the refused units in the store, and the next provider starts them again.

pub mod scope;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{UnixAddr, getpeername, getsockname};
use nix::unistd::{Pid, getppid};

use super::reply::{ENOUGH, FILLER};
use crate::domain::name::Claim;
use crate::host::sys;
use crate::host::systemd::invocation::{self, Invocation};
use crate::provider::store::unanswered::{self, Unanswered};

/// How long the keeper waits for a peer that has read all filler. No reader in systemd accepts that much data as a value.
const LINGER: Duration = Duration::from_secs(60);
/// The maximum number of bytes that are sent to one peer before the others have their turn.
const TURN: u64 = 1 << 20;

/// The provider's view of its keeper.
#[derive(Debug)]
pub struct Keeper {
    pid: Pid,
    pidfd: OwnedFd,
    /// The descriptor that the keeper polls. Both processes share the descriptor table, so it must stay open here.
    _provider: OwnedFd,
}

impl Keeper {
    /// Starts the keeper of this process. `store` is the directory of the store. Call it before any thread is started and any secret is read.
    pub fn start(store: &Path) -> io::Result<Self> {
        let (this, provider) = (Pid::this(), sys::pidfd_open(Pid::this())?);
        let pid = sys::clone_sharing_files(|| keep(this, &provider, store))?;
        Ok(Self { pid, pidfd: sys::pidfd_open(pid)?, _provider: provider })
    }

    /// Its process ID.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that becomes readable when the keeper has ended. The keeper does not end before the provider, unless it is killed.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The keeper's whole life.
fn keep(provider: Pid, pidfd: &OwnedFd, store: &Path) {
    let _ = nix::sys::prctl::set_name(c"onecred-keeper");
    // only a new parent proves that the provider has ended: the provider could close or replace the descriptor in the shared table
    while getppid() == provider {
        let mut end = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut end, PollTimeout::NONE).is_err() || getppid() == provider {
            std::thread::sleep(Duration::from_millis(10)); // not expected: prevents a busy loop
        }
    }
    let (askers, others): (Vec<RawFd>, Vec<RawFd>) = open_files().into_iter().partition(|&fd| is_asker(fd));
    let requests = requests(&askers, invocation::current);
    let mut open: Vec<Asker> = askers.into_iter().map(Asker::new).collect();
    let count = open.len();
    refuse_some(&mut open);
    // the dead provider's other descriptors: memfds with values, the connection to the bus
    for fd in others.into_iter().filter(|&fd| fd > 2 && fd != pidfd.as_raw_fd()) {
        let _ = nix::unistd::close(fd);
    }
    if !requests.is_empty() {
        let _ = unanswered::write(store, Pid::this().as_raw(), &requests); // without the list, the units are refused but not started again
    }
    // logged after the first round, and only if it does not block: a stuck journal must not delay refusals
    let mut journal = [PollFd::new(sys::borrow(2), PollFlags::POLLOUT)];
    if count > 0 && poll(&mut journal, PollTimeout::ZERO) == Ok(1) {
        let message = format!("the provider has ended with {count} connections open: each is refused\n");
        let _ = nix::unistd::write(io::stderr(), message.as_bytes());
    }
    refuse_all(open, LINGER);
}

/// All open descriptors.
fn open_files() -> Vec<RawFd> {
    let listed = std::fs::read_dir("/proc/self/fd").map(|entries| {
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect::<Vec<RawFd>>()
    });
    listed.unwrap_or_else(|_| {
        let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(1 << 16, |(soft, _)| soft);
        (0..RawFd::try_from(most).unwrap_or(1 << 20).min(1 << 20)).collect()
    })
}

/// Whether a descriptor is a connection of a process that asks for a credential: its own address is the path of a listening socket, or its
/// peer's address is a claim. nspawn and others connect without an address.
fn is_asker(fd: RawFd) -> bool {
    getpeername::<UnixAddr>(fd).is_ok()
        && (claim(fd).is_some() || getsockname::<UnixAddr>(fd).is_ok_and(|own| own.path().is_some()))
}

/// What a connection's peer claims.
fn claim(fd: RawFd) -> Option<Claim> {
    getpeername::<UnixAddr>(fd).ok()?.as_abstract().and_then(Claim::parse)
}

/// The open requests of units that still run, with their invocations.
fn requests(askers: &[RawFd], current: impl Fn(&str) -> Option<Invocation>) -> Vec<Unanswered> {
    let request = |fd: &RawFd| {
        let Claim { unit, credential } = claim(*fd)?;
        let invocation = current(unit.as_str())?;
        Some(Unanswered { unit: unit.to_string(), credential: credential.to_string(), invocation })
    };
    askers.iter().filter_map(request).take(unanswered::MOST).collect()
}

/// A connection that is refused.
#[derive(Debug)]
struct Asker {
    fd: RawFd,
    sent: u64,
    /// When it had received all filler.
    full: Option<Instant>,
}

impl Asker {
    fn new(fd: RawFd) -> Self {
        Self { fd, sent: 0, full: None }
    }

    /// Sends as much filler as the peer accepts now, within its turn.
    fn refuse(&mut self) -> Outcome {
        let end = end_of_turn(self.sent);
        while self.sent < end {
            match sys::send_now(&self.fd, &FILLER) {
                Ok(n) => self.sent += n as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if sys::is_hung_up(&error) => return Outcome::HungUp,
                Err(_) => return Outcome::NoMemory,
            }
        }
        if self.sent >= ENOUGH && self.full.is_none() {
            self.full = Some(Instant::now());
        }
        Outcome::Open
    }

    /// How much longer the keeper waits for the peer; `None` if it has not received all filler.
    fn left(&self, linger: Duration) -> Option<Duration> {
        self.full.map(|full| linger.saturating_sub(full.elapsed()))
    }

    /// The events to wait for.
    fn wanted(&self) -> PollFlags {
        if self.full.is_some() { PollFlags::empty() } else { PollFlags::POLLOUT }
    }
}

/// The total number of bytes that a peer has been sent at the end of its turn.
fn end_of_turn(sent: u64) -> u64 {
    ENOUGH.min(sent + TURN)
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    HungUp,
    NoMemory,
}

/// Sends filler to each peer, and removes the peers that have hung up. Returns whether memory was short for any of them.
fn refuse_some(open: &mut Vec<Asker>) -> bool {
    let mut short = false;
    open.retain_mut(|asker| match asker.refuse() {
        Outcome::Open => true,
        Outcome::HungUp => false,
        Outcome::NoMemory => {
            short = true;
            true
        }
    });
    short
}

/// Refuses all peers concurrently, so that a peer that does not read does not delay the others. Ends when each peer has hung up, or has had all filler for `linger`.
fn refuse_all(mut open: Vec<Asker>, linger: Duration) {
    loop {
        let short = refuse_some(&mut open);
        open.retain(|asker| {
            let over = asker.left(linger) == Some(Duration::ZERO);
            if over {
                let _ = nix::unistd::close(asker.fd);
            }
            !over
        });
        if open.is_empty() {
            return;
        }
        if short {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        let mut waiting: Vec<PollFd<'_>> =
            open.iter().map(|asker| PollFd::new(sys::borrow(asker.fd), asker.wanted())).collect();
        let limit = open.iter().filter_map(|asker| asker.left(linger)).min();
        let limit = limit.map(|left| PollTimeout::try_from(left + Duration::from_millis(1)));
        let _ = poll(&mut waiting, limit.and_then(Result::ok).unwrap_or(PollTimeout::NONE));
        let over = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let hung_up: Vec<RawFd> = waiting
            .iter()
            .filter(|fd| fd.revents().is_some_and(|revents| revents.intersects(over)))
            .map(|fd| fd.as_fd().as_raw_fd())
            .collect();
        open.retain(|asker| !hung_up.contains(&asker.fd));
    }
}

#[cfg(test)]
mod tests;
