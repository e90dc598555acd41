//! Descriptors that stay put: what the runtime may watch, and a socket that is not closed by accident.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// An owner of a descriptor that is open, and the same, for as long as its owner is not dropped.
///
/// # Safety
/// `as_fd` and `as_raw_fd` have to give the same open descriptor at each call until the value is dropped.
pub(crate) unsafe trait Steady: AsFd + AsRawFd {}

// SAFETY: an OwnedFd closes its one descriptor when it is dropped, and not before.
unsafe impl Steady for OwnedFd {}

/// A socket that is not closed by being dropped: it stays open until the process ends, and then the keeper refuses it.
pub(crate) struct Held(ManuallyDrop<OwnedFd>);

// SAFETY: the descriptor is closed by `close` alone, which takes the value.
unsafe impl Steady for Held {}

impl Held {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(ManuallyDrop::new(socket))
    }

    /// Closes it: the peer sees EOF, or has hung up already.
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
