//! The system calls that Rust can't vouch for: the one room with `unsafe` in it. Each function is safe to call.
#![allow(unsafe_code)]

mod held;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

pub(crate) use held::Held;
use held::Steady;

/// Takes over a descriptor that was handed to this process by number (LISTEN_FDS, SCM_RIGHTS).
pub(crate) fn adopt(fd: impl IntoRawFd) -> OwnedFd {
    // SAFETY: IntoRawFd gives up ownership, so nobody else will close this number.
    unsafe { OwnedFd::from_raw_fd(fd.into_raw_fd()) }
}

/// A descriptor of this process's table by its number, for as long as this process, the keeper, lives: it closes none.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the keeper alone calls this, for numbers that it has seen open; the provider that could have closed them is dead.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Has freed memory of long values given back to the kernel at once: else the allocator keeps what a storm of them took at its height.
pub(crate) fn give_back_long_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers; it sets from which size on memory is mapped by itself, and stops that size from growing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Closes all descriptors from this number on.
///
/// To be called as the first thing in a process, before anything in it owns a descriptor.
pub(crate) fn close_from(first: u32) {
    // SAFETY: close_range takes three integers; whoever calls this promises that nobody owns what it closes.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Accepts one connection, non-blocking and closed on exec.
pub(crate) fn accept(listener: &impl AsRawFd) -> io::Result<OwnedFd> {
    use nix::sys::socket::{SockFlag, accept4};
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A stream socket that is bound to one address and connected to another: what systemd does to ask for a credential.
pub(crate) fn connect_from(
    own: &std::os::unix::net::SocketAddr,
    path: &std::path::Path,
) -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
    use std::os::linux::net::SocketAddrExt;
    let name = own.as_abstract_name().ok_or(io::ErrorKind::InvalidInput)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Takes over the descriptors of a received SCM_RIGHTS message.
pub(crate) fn adopt_received(fds: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: the kernel has just made these numbers for us in recvmsg; nothing else knows them.
    fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Has the runtime watch a descriptor. The descriptor is dropped where that fails.
pub(crate) fn register<T: Steady>(fd: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: Steady promises that the descriptor stays open and the same for as long as `fd` is not dropped.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// The same, giving the descriptor back where it can't be watched.
pub(crate) fn register_or_keep<T: Steady>(fd: T) -> Result<AsyncFd<T>, T> {
    // SAFETY: as above.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().0)
}

/// Whether a failed send says that the peer is gone. Anything else passes: memory for the socket's buffers may be short for a moment.
pub(crate) fn is_hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a sibling process that shares this one's descriptor table, and runs `child` in it with every signal ignored.
///
/// Signals are blocked across the clone, so that none can take the child before it ignores them, and none is lost to the parent.
///
/// # Errors
/// Where this process has more than one thread (the child would inherit locks that nobody opens), or the kernel refuses.
pub(crate) fn clone_sharing_files(child: impl FnOnce()) -> io::Result<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task")?.count();
    if tasks != 1 {
        return Err(io::Error::other(format!("{tasks} threads are running already")));
    }
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let flags = libc::c_long::from(libc::CLONE_FILES | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with no stack given this is a fork: the child goes on with a copy of this thread's memory
    // and stack. This is the only thread (seen above), so that no lock is held by another. The remaining arguments are unused.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => {
            for each in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
                // SAFETY: SIG_IGN installs no handler.
                let _ = unsafe { signal(each, SigHandler::SigIgn) };
            }
            child();
            // SAFETY: ends this process at once, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        pid => {
            let error = io::Error::last_os_error();
            pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
            let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
            if pid < 0 { Err(error) } else { Ok(Pid::from_raw(pid)) }
        }
    }
}

/// Sends bytes into a socket without ever raising SIGPIPE and without blocking.
pub(crate) fn send_now(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    use nix::sys::socket::{MsgFlags, send};
    Ok(send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)?)
}
