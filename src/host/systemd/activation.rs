//! The listening sockets: handed over by systemd (sd_listen_fds), or bound by hand at a path.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};

use crate::host::sys;

/// The listening socket of a service that systemd started by its .socket unit, and what an earlier process of this service has had kept
/// under a name (see [`super::notify::keep`]). None where systemd handed nothing over.
///
/// To be called once, before any thread: it takes the variables of the hand-over out of the environment.
///
/// # Errors
/// Where something else was handed over than one listening AF_UNIX socket of this type.
pub fn handed_over_and_kept(kind: SockType, name: &str) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let (handed, mut kept) = received(name)?;
    Ok((the_one_listener(handed, kind)?, kept.pop()))
}

/// The same, where a second .socket unit of the service has given its socket a name (FileDescriptorName=).
pub fn handed_over_and_another(kind: SockType, name: &str) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let (handed, named) = received(name)?;
    Ok((the_one_listener(handed, kind)?, the_one_listener(named, kind)?))
}

/// All that was handed over: what has another name than this, and what has it.
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
            // systemd hands it over blocking
            nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
            Ok(Some(fd))
        }
        _ => Err(unexpected()),
    }
}

fn unexpected() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "systemd handed over something else than one listening AF_UNIX socket of the type that is served here; look at the .socket unit",
    )
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
