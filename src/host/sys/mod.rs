//! System calls that need `unsafe`. Every function of this module is safe to call.
#![allow(unsafe_code)]

mod held;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

pub(crate) use held::Held;
use held::Steady;

/// Takes ownership of a descriptor that this process received by number (LISTEN_FDS, SCM_RIGHTS).
pub(crate) fn adopt(fd: impl IntoRawFd) -> OwnedFd {
    // SAFETY: IntoRawFd gives up ownership, so no one else closes this descriptor.
    unsafe { OwnedFd::from_raw_fd(fd.into_raw_fd()) }
}

/// Borrows a descriptor by its number for the rest of the life of this process. Only the keeper uses it, and
/// the keeper never closes descriptors.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: only the keeper calls this, with numbers of descriptors that it has seen open. The provider,
    // which could have closed them, is dead.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Makes the allocator return the memory of long values to the kernel when they are freed. Otherwise it would
/// keep the peak memory of a burst of requests.
pub(crate) fn give_back_long_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers. This call sets the size above which an allocation gets its own
    // mapping, and stops the allocator from raising that size.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Returns free memory to the kernel, also from between allocations that are in use. The peak of a large answer
/// or of a reload is otherwise kept.
pub(crate) fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes an integer, and only releases pages that no allocation uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Closes all descriptors from this number on.
///
/// Call it first in a process, before anything owns a descriptor.
pub(crate) fn close_from(first: u32) {
    // SAFETY: close_range takes three integers. The caller guarantees that the descriptors have no owner.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Accepts one connection as a non-blocking, close-on-exec descriptor.
pub(crate) fn accept(listener: &impl AsRawFd) -> io::Result<OwnedFd> {
    use nix::sys::socket::{SockFlag, accept4};
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel has just created this descriptor, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Connects a stream socket that is bound to an address, as systemd does when it requests a credential.
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

/// Whether another open file description of this file exists, in any process. The file must be open for reading only, and belong to this user.
pub(crate) fn is_open_elsewhere(file: &impl AsRawFd) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: this fcntl takes an integer. A write lease is granted only if there is no other opener.
    let result = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) };
    let is_refused = result == -1 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock;
    if result == 0 {
        // SAFETY: as above. The lease is returned at once; only this process knows the file.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
    }
    is_refused
}

/// Takes ownership of the descriptors in a received SCM_RIGHTS message.
pub(crate) fn adopt_received(fds: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: the kernel created these descriptors in recvmsg; nothing else knows their numbers.
    fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Registers a descriptor with the runtime. Drops the descriptor on failure.
pub(crate) fn register<T: Steady>(fd: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: Steady guarantees that the descriptor stays open and unchanged until `fd` is dropped.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Like [`register`], but returns the descriptor on failure.
pub(crate) fn register_or_keep<T: Steady>(fd: T) -> Result<AsyncFd<T>, T> {
    // SAFETY: as above.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().0)
}

/// Whether a failed send means that the peer has hung up. Other errors are temporary: for example, memory for
/// socket buffers may be short.
pub(crate) fn is_hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and does not access memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Creates a process that shares this process's descriptor table, and runs `child` in it with all signals
/// ignored.
///
/// Signals are blocked during the clone. So no signal can end the child before it ignores them, and the
/// parent loses none.
///
/// # Errors
///
/// This process has several threads (the child would inherit locks that are never released), or the kernel
/// refuses.
pub(crate) fn clone_sharing_files(child: impl FnOnce()) -> io::Result<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task")?.count();
    if tasks != 1 {
        return Err(io::Error::other(format!("{tasks} threads are running already")));
    }
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let flags = libc::c_long::from(libc::CLONE_FILES | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and a stack, this is a fork: the child continues with a copy of this thread's
    // memory and stack. The process has only this thread (checked above), so no other thread holds a lock.
    // The remaining arguments are unused.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => {
            for each in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
                // SAFETY: SIG_IGN does not install a handler.
                let _ = unsafe { signal(each, SigHandler::SigIgn) };
            }
            child();
            // SAFETY: ends this process at once, without running the parent's exit handlers.
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

/// Sends bytes to a socket without blocking and without raising SIGPIPE.
pub(crate) fn send_now(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    use nix::sys::socket::{MsgFlags, send};
    Ok(send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)?)
}
