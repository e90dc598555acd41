//! The listening socket: handed over by systemd (sd_listen_fds), or bound by hand at a path.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};

use crate::sys;

/// The listening socket of a service that systemd started by its .socket unit. None where systemd handed nothing over.
///
/// To be called once, before any thread: it takes the variables of the hand-over out of the environment.
///
/// # Errors
/// Where something else was handed over than one listening AF_UNIX socket of this type.
pub fn handed_over(kind: SockType) -> io::Result<Option<OwnedFd>> {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return Ok(None);
    }
    let handed = libsystemd::activation::receive_descriptors(true).map_err(io::Error::other)?;
    let mut handed: Vec<OwnedFd> = handed.into_iter().map(|fd| sys::adopt(fd.into_raw_fd())).collect();
    match (handed.pop(), handed.is_empty()) {
        (Some(fd), true) if is_listener(&fd, kind) => {
            // systemd hands it over blocking
            nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
            Ok(Some(fd))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "systemd handed over something else than one listening AF_UNIX socket of type {kind:?}; look at the .socket unit"
            ),
        )),
    }
}

fn is_listener(fd: &OwnedFd, kind: SockType) -> bool {
    getsockopt(fd, sockopt::SockType).is_ok_and(|got| got == kind)
        && getsockopt(fd, sockopt::AcceptConn) == Ok(true)
}

/// Binds and listens at a path, readable by this user alone. A socket that a dead process left there is replaced; a live one is an error.
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
