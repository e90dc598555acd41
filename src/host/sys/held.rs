//! Owned descriptors that are safe to register with the runtime, and a socket that stays open when it is
//! dropped.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// An owner whose descriptor stays open and unchanged until the owner is dropped.
///
/// # Safety
///
/// `as_fd` and `as_raw_fd` must return the same open descriptor at every call until the value is dropped.
pub(crate) unsafe trait Steady: AsFd + AsRawFd {}

// SAFETY: an OwnedFd closes its descriptor only when it is dropped.
unsafe impl Steady for OwnedFd {}

/// A socket that stays open when it is dropped. It is open until the process ends; then the keeper refuses
/// the connection.
pub(crate) struct Held(ManuallyDrop<OwnedFd>);

// SAFETY: only `close` closes the descriptor, and it consumes the value.
unsafe impl Steady for Held {}

impl Held {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(ManuallyDrop::new(socket))
    }

    /// Closes the socket: the peer reads EOF, unless it has already hung up.
    pub(crate) fn close(self) {
        drop(ManuallyDrop::into_inner(self.0));
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Held {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
