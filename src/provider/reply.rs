//! A connection that is owed an answer: the whole value and then EOF, or a refusal. It can't be closed any other way.
//!
//! systemd takes whatever arrived before EOF for the secret, also nothing or a part. The protocol has no "no": the one answer that every
//! version turns into a failed start is more than its size limit (1 MiB), so a refusal is filler until the peer hangs up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;

use crate::secret::SecretValue;
use crate::sys::{self, Held};

/// What a refusal is made of.
pub(crate) static FILLER: [u8; 1 << 16] = [b'!'; 1 << 16];
/// Bytes after which no reader can still be collecting: from there on a refusal only waits for the peer to hang up.
pub(crate) const ENOUGH: u64 = 64 << 20;
/// What a refusal begins with, for those who ask by hand; the reason and a line break follow.
pub(crate) const REFUSED: &str = "onecred: refused: ";

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The whole value was sent.
    Whole,
    /// The peer hung up before it had all: it was killed, or ran into a limit.
    HungUp,
}

/// A connection that is owed an answer. If it is dropped without one, it is refused.
pub struct Connection {
    socket: Option<Held>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Takes over an accepted, non-blocking socket. The permit is given back when the connection is closed.
    pub fn new(socket: OwnedFd, permit: OwnedSemaphorePermit) -> Self {
        Self { socket: Some(Held::new(socket)), permit: Some(permit) }
    }

    /// The socket, to look at who is at its other end.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Whether the peer has hung up: it was killed, or ran into its own timeout.
    pub fn hung_up(&self) -> bool {
        let Some(socket) = &self.socket else { return true };
        let mut ends = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        // its own direction is shut down from the start; POLLHUP is both
        poll(&mut ends, PollTimeout::ZERO) == Ok(1)
    }

    /// Sends a value in one go, where it goes into the socket as it is; else gives the connection back, with what was sent.
    pub fn answer_at_once(mut self, value: &SecretValue) -> Result<Delivery, (Self, usize)> {
        // exposed: this is the answer
        match self.send_now(value.expose()) {
            Ok(sent) if sent == value.len() => Ok(self.finish(Delivery::Whole)),
            Ok(sent) => Err((self, sent)),
            Err(_) => Ok(self.finish(Delivery::HungUp)),
        }
    }

    /// Sends what is left of a value, as fast as the peer reads.
    pub async fn answer_rest(mut self, value: SecretValue, mut sent: usize) -> Delivery {
        let Some(socket) = self.socket.take().map(sys::register) else { return Delivery::HungUp };
        // an error here leaves the socket held: the keeper refuses it
        let Ok(socket) = socket else { return Delivery::HungUp };
        let mut socket = Unfinished(Some(socket));
        while sent < value.len() {
            // exposed: this is the answer
            match socket.send(&value.expose()[sent..]).await {
                Ok(n) => sent += n,
                Err(_) => {
                    socket.close();
                    return Delivery::HungUp;
                }
            }
        }
        socket.close();
        self.permit = None;
        Delivery::Whole
    }

    /// Sends as much as goes without a wait.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(socket) = &self.socket else { return Ok(0) };
        let mut sent = 0;
        while sent < bytes.len() {
            match sys::send_now(socket, &bytes[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn finish(&mut self, delivery: Delivery) -> Delivery {
        if let Some(socket) = self.socket.take() {
            socket.close();
        }
        self.permit = None;
        delivery
    }

    /// Refuses: the reason, for those who ask by hand, and filler until the peer hangs up.
    pub fn refuse(mut self, reason: &str) {
        self.start_refusal(reason);
    }

    fn start_refusal(&mut self, reason: &str) {
        let (Some(socket), permit) = (self.socket.take(), self.permit.take()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let head = format!("{REFUSED}{}\n", reason.replace('\n', " "));
        runtime.spawn(async move {
            refuse_until_hung_up(socket, head.into_bytes()).await;
            drop(permit);
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.start_refusal("something went wrong in onecred; see: journalctl -u onecred");
    }
}

/// A socket in use; dropped before its end (a panic, the runtime's end) it stays open for the keeper.
struct Unfinished(Option<AsyncFd<Held>>);

impl Unfinished {
    async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(socket) = &self.0 else { return Err(Errno::EPIPE.into()) };
        loop {
            let mut guard = socket.writable().await?;
            match guard.try_io(|socket| sys::send_now(socket.get_ref(), bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Waits until the peer has hung up, however long that takes.
    async fn hung_up(&self) {
        let Some(socket) = &self.0 else { return };
        while let Ok(mut guard) =
            socket.ready(tokio::io::Interest::ERROR | tokio::io::Interest::WRITABLE).await
        {
            if guard.ready().is_write_closed() || guard.ready().is_error() {
                return;
            }
            guard.clear_ready();
        }
    }

    fn close(&mut self) {
        if let Some(socket) = self.0.take() {
            socket.into_inner().close();
        }
    }
}

async fn refuse_until_hung_up(socket: Held, head: Vec<u8>) {
    let Ok(socket) = sys::register(socket) else { return };
    let mut socket = Unfinished(Some(socket));
    let (mut rest, mut sent) = (head.as_slice(), 0);
    while sent < ENOUGH {
        match socket.send(if rest.is_empty() { &FILLER } else { rest }).await {
            Ok(n) => {
                sent += n as u64;
                rest = rest.get(n..).unwrap_or_default();
            }
            Err(_) => {
                socket.close();
                return;
            }
        }
    }
    socket.hung_up().await;
    socket.close();
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
