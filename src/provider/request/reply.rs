//! A connection that must get an answer: the complete value and then EOF, or a refusal. It cannot be closed
//! in any other way.
//!
//! systemd takes whatever arrived before EOF as the secret, even if that is empty or incomplete. The protocol
//! has no refusal. The only answer that makes every version fail the start is one over its size limit (1
//! MiB). Other readers that use the same code, such as `systemd-nspawn --load-credential=ID:SOCKET`, buffer
//! slightly more than 64 MiB. So a refusal sends filler bytes until the peer hangs up, at most [`ENOUGH`] of
//! them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::memory;
use crate::domain::secret::SecretValue;
use crate::host::pause::Growing;
use crate::host::sys::{self, Held};

/// The content of a refusal.
pub(crate) static FILLER: [u8; 1 << 16] = [b'!'; 1 << 16];
/// The bytes of a complete refusal: far more than any reader of systemd buffers before it fails. After these,
/// the provider only waits for the client to close the connection.
pub(crate) const ENOUGH: u64 = 128 << 20;
/// The size of a socket's buffer as the system call takes it: the kernel doubles it, for its own data.
const SEND_BUFFER: usize = memory::BUFFER as usize / 2;
/// How long to wait after a send failed for lack of memory.
const NOW_AND_THEN: Duration = Duration::from_millis(20);
/// The longest pause between two checks of a peer that the kernel cannot watch.
const SELDOM: Duration = Duration::from_secs(10);
/// Readers that took a complete refusal and did not hang up. Each occupies a descriptor, so further ones are
/// closed. No reader of systemd takes [`ENOUGH`] bytes for a value.
static LINGERING: Semaphore = Semaphore::const_new(1024);
/// The start of a refusal, for people who connect by hand. The reason and a line break follow.
pub(crate) const REFUSED: &str = "onecred: refused: ";

/// The outcome of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The complete value was sent.
    Whole,
    /// The peer hung up before it had received everything: it was killed, or reached a limit.
    HungUp {
        /// How many bytes were sent until then.
        sent: usize,
    },
}

/// The permits of a connection: as one of the open connections, and as one of those that wait for their
/// answer.
#[derive(Debug)]
pub struct ConnectionPermits {
    /// Released when the value was sent, or when a refusal has begun, which the keeper can finish.
    waiting: Option<OwnedSemaphorePermit>,
    /// Released when the connection is closed, or has taken a complete refusal.
    _open: OwnedSemaphorePermit,
    /// Counts it.
    _counted: Arc<()>,
}

impl ConnectionPermits {
    /// Combines permits. There are as many for waiting connections as for open ones. `counted` counts the
    /// connection.
    pub fn new(open: OwnedSemaphorePermit, waiting: Option<OwnedSemaphorePermit>, counted: Arc<()>) -> Self {
        Self { waiting, _open: open, _counted: counted }
    }
}

/// A connection that must get an answer. If it is dropped without an answer, it is refused.
pub struct Connection {
    socket: Option<Held>,
    place: Option<ConnectionPermits>,
}

impl Connection {
    /// Takes over an accepted, non-blocking socket.
    pub fn new(socket: OwnedFd, place: ConnectionPermits) -> Self {
        // so many connections are open that the default would take too much memory; on failure it remains
        let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
        Self { socket: Some(Held::new(socket)), place: Some(place) }
    }

    /// The socket, to attest the peer.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Whether the peer has hung up: it was killed, or reached its own timeout.
    pub fn hung_up(&self) -> bool {
        self.socket.as_ref().is_none_or(|socket| has_hung_up(socket.as_fd()))
    }

    /// Sends a value at once if the socket's buffer can hold it. Otherwise returns the connection and the
    /// number of bytes that were sent.
    pub fn answer_at_once(mut self, value: &SecretValue) -> Result<Delivery, (Self, usize)> {
        // exposed: the unit may load the value
        match self.send_now(value.expose()) {
            Some(sent) if sent == value.len() => Ok(self.finish(Delivery::Whole)),
            Some(sent) => Err((self, sent)),
            None => Ok(self.finish(Delivery::HungUp { sent: 0 })),
        }
    }

    /// Sends the rest of a value, as fast as the peer reads.
    pub async fn answer_rest(mut self, value: SecretValue, mut sent: usize) -> Delivery {
        let Some(socket) = self.socket.take() else { return Delivery::HungUp { sent } };
        let mut socket = Unfinished::new(socket);
        while sent < value.len() {
            // exposed: the unit may load the value
            match socket.send(&value.expose()[sent..]).await {
                Some(n) => sent += n,
                None => {
                    socket.close();
                    return Delivery::HungUp { sent };
                }
            }
        }
        socket.close();
        self.place = None;
        Delivery::Whole
    }

    /// Sends as much as possible without waiting; `None` if the peer has hung up.
    fn send_now(&self, bytes: &[u8]) -> Option<usize> {
        let socket = self.socket.as_ref()?;
        let mut sent = 0;
        while sent < bytes.len() {
            match sys::send_now(socket, &bytes[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if sys::is_hung_up(&error) => return None,
                Err(_) => break, // the buffer is full, or memory is short: the rest is sent later
            }
        }
        Some(sent)
    }

    fn finish(&mut self, delivery: Delivery) -> Delivery {
        if let Some(socket) = self.socket.take() {
            socket.close();
        }
        self.place = None;
        delivery
    }

    /// Refuses the request: sends the reason, for people who connect by hand, then filler bytes until the
    /// peer hangs up.
    pub fn refuse(mut self, reason: &str) {
        self.start_refusal(reason);
    }

    fn start_refusal(&mut self, reason: &str) {
        let (Some(socket), mut place) = (self.socket.take(), self.place.take()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut head = format!("{REFUSED}{}\n", reason.replace('\n', " ")).into_bytes();
        // at once: if the provider ends now, the keeper sends the rest, but does not know the reason
        head.drain(..sys::send_now(&socket, &head).unwrap_or(0));
        if let Some(place) = &mut place {
            place.waiting = None;
        }
        runtime.spawn(refuse_until_hung_up(socket, head, place));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.start_refusal("something went wrong in onecred; see: journalctl -u onecred");
    }
}

/// A socket in use. If it is dropped early (by a panic or the end of the runtime), it stays open for the
/// keeper.
struct Unfinished(Option<InUse>);

enum InUse {
    Watched(AsyncFd<Held>),
    /// The kernel cannot watch it (because of a limit or missing memory), so it is checked periodically.
    Polled(Held),
}

impl Unfinished {
    fn new(socket: Held) -> Self {
        Self(Some(sys::register_or_keep(socket).map_or_else(InUse::Polled, InUse::Watched)))
    }

    /// Sends bytes when the peer can take them; `None` if the peer has hung up.
    async fn send(&self, bytes: &[u8]) -> Option<usize> {
        loop {
            let result = match self.0.as_ref()? {
                InUse::Watched(socket) => match socket.writable().await {
                    Ok(mut guard) => match guard.try_io(|socket| sys::send_now(socket.get_ref(), bytes)) {
                        Ok(result) => result,
                        Err(_would_block) => continue,
                    },
                    Err(error) => Err(error),
                },
                InUse::Polled(socket) => sys::send_now(socket, bytes),
            };
            match result {
                Ok(sent) => return Some(sent),
                Err(error) if sys::is_hung_up(&error) => return None,
                Err(_) => tokio::time::sleep(NOW_AND_THEN).await,
            }
        }
    }

    /// Waits until the peer has hung up, however long that takes. A watched peer causes no wake-ups until
    /// then.
    async fn hung_up(&self) {
        let mut pauses = Growing::doubling(Duration::from_millis(500), SELDOM);
        loop {
            let fd = match &self.0 {
                None => return,
                Some(InUse::Watched(socket)) => {
                    if let Ok(mut guard) = socket.ready(Interest::WRITABLE).await {
                        if guard.ready().is_write_closed() {
                            return;
                        }
                        guard.clear_ready();
                        continue;
                    }
                    socket.get_ref().as_fd()
                }
                Some(InUse::Polled(socket)) => socket.as_fd(),
            };
            if has_hung_up(fd) {
                return;
            }
            tokio::time::sleep(pauses.pause()).await;
        }
    }

    fn close(&mut self) {
        match self.0.take() {
            Some(InUse::Watched(socket)) => socket.into_inner().close(),
            Some(InUse::Polled(socket)) => socket.close(),
            None => {}
        }
    }
}

/// Whether the peer has closed the connection. Its own direction is shut down from the start; POLLHUP means
/// both.
fn has_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut ends = [PollFd::new(fd, PollFlags::empty())];
    poll(&mut ends, PollTimeout::ZERO) == Ok(1)
}

async fn refuse_until_hung_up(socket: Held, head: Vec<u8>, place: Option<ConnectionPermits>) {
    let mut socket = Unfinished::new(socket);
    let (mut rest, mut sent) = (head.as_slice(), 0);
    while sent < ENOUGH {
        match socket.send(if rest.is_empty() { &FILLER } else { rest }).await {
            Some(n) => {
                sent += n as u64;
                rest = rest.get(n..).unwrap_or_default();
            }
            None => {
                socket.close();
                return;
            }
        }
    }
    drop(place); // others can be answered, and the provider may stop
    if let Ok(_lingers) = LINGERING.try_acquire() {
        socket.hung_up().await;
    }
    socket.close();
}

#[cfg(test)]
mod tests;
