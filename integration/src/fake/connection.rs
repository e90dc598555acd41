//! A connection, plain or TLS, that can be cut at any byte that it sends.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Where to cut the connection, set by the code that answers on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Scissors(Arc<Mutex<Option<Cut>>>);

#[derive(Debug, Clone, Copy)]
struct Cut {
    left: usize,
    reset: bool,
}

impl Scissors {
    /// Cuts after this many bytes from now on; `None` does not cut.
    pub(super) fn set(&self, cut: Option<(usize, bool)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cut.map(|(left, reset)| Cut { left, reset });
    }

    fn get(&self) -> Option<Cut> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream below hyper.
pub(super) struct Connection {
    stream: Stream,
    scissors: Scissors,
}

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn new(stream: Stream, scissors: Scissors) -> Connection {
        Connection { stream, scissors }
    }

    fn inner(&mut self) -> Pin<&mut dyn ReadWrite> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(&mut **stream),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().inner().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let connection = self.get_mut();
        let Some(cut) = connection.scissors.get() else {
            return connection.inner().poll_write(cx, bytes);
        };
        if cut.left == 0 {
            ready!(connection.inner().poll_flush(cx))?;
            if cut.reset {
                connection.tcp().set_zero_linger()?;
            }
            return Poll::Ready(Err(io::Error::other("cut on purpose")));
        }
        let sent = ready!(connection.inner().poll_write(cx, &bytes[..bytes.len().min(cut.left)]))?;
        connection.scissors.set(Some((cut.left - sent, cut.reset)));
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().inner().poll_shutdown(cx)
    }
}
