//! Listening sockets, passed by systemd (sd_listen_fds) or bound at a path.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};

use crate::host::sys;

/// The listening socket of a socket-activated service, and the descriptor that an earlier process stored
/// under `name` (see [`super::notify::keep`]). Both are `None` if systemd did not pass them.
///
/// Call it once, before any thread starts: it removes the LISTEN_* variables from the environment.
///
/// # Errors
///
/// systemd passed something other than one listening AF_UNIX socket of this type.
pub fn handed_over_and_kept(kind: SockType, name: &str) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let (handed, mut kept) = received(name)?;
    Ok((the_one_listener(handed, kind)?, kept.pop()))
}

/// Like [`handed_over_and_kept`], but for a service whose second .socket unit has named its socket
/// (FileDescriptorName=).
pub fn handed_over_and_another(kind: SockType, name: &str) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let (handed, named) = received(name)?;
    Ok((the_one_listener(handed, kind)?, the_one_listener(named, kind)?))
}

/// All descriptors that systemd passed, split into those with another name and those with this name.
fn received(name: &str) -> io::Result<(Vec<OwnedFd>, Vec<OwnedFd>)> {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return Ok((Vec::new(), Vec::new()));
    }
    let all: Vec<_> = match std::env::var_os("LISTEN_FDNAMES") {
        Some(_) => libsystemd::activation::receive_descriptors_with_names(true).map_err(io::Error::other)?,
        None => {
            let nameless = libsystemd::activation::receive_descriptors(true).map_err(io::Error::other)?;
            nameless.into_iter().map(|fd| (fd, String::new())).collect()
        }
    };
    if all.is_empty() {
        return Err(unexpected());
    }
    let all = all.into_iter().map(|(fd, its)| (sys::adopt(fd.into_raw_fd()), its));
    let (named, handed): (Vec<_>, Vec<_>) = all.partition(|(_, its)| its == name);
    let only = |these: Vec<(OwnedFd, String)>| these.into_iter().map(|(fd, _)| fd).collect();
    Ok((only(handed), only(named)))
}

fn the_one_listener(mut handed: Vec<OwnedFd>, kind: SockType) -> io::Result<Option<OwnedFd>> {
    match (handed.pop(), handed.is_empty()) {
        (None, _) => Ok(None),
        (Some(fd), true) if is_listener(&fd, kind) => {
            // systemd passes it in blocking mode
            nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
            Ok(Some(fd))
        }
        _ => Err(unexpected()),
    }
}

fn unexpected() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "systemd passed something other than one listening AF_UNIX socket of the expected type; check the .socket unit",
    )
}

fn is_listener(fd: &OwnedFd, kind: SockType) -> bool {
    getsockopt(fd, sockopt::SockType).is_ok_and(|got| got == kind)
        && getsockopt(fd, sockopt::AcceptConn) == Ok(true)
}

/// Binds and listens at a path that only this user can read. Replaces the socket of a dead process; fails if
/// the socket is in use.
pub fn bound_at(path: &Path, kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let address = UnixAddr::new(path)?;
    let listener = socket(AddressFamily::Unix, kind, flags, None)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let mut bound = bind(listener.as_raw_fd(), &address);
    if bound == Err(Errno::EADDRINUSE) {
        let probe = socket(AddressFamily::Unix, kind, flags, None)?;
        if connect(probe.as_raw_fd(), &address) == Err(Errno::ECONNREFUSED) {
            std::fs::remove_file(path)?;
            bound = bind(listener.as_raw_fd(), &address);
        }
    }
    umask(before);
    bound?;
    listen(&listener, Backlog::new(4095)?)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let first = bound_at(&path, SockType::Stream).unwrap();
        assert!(is_listener(&first, SockType::Stream) && !is_listener(&first, SockType::SeqPacket));
        assert_eq!(bound_at(&path, SockType::Stream).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(bound_at(&path, SockType::Stream).is_ok());
    }
}
