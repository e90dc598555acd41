//! Plain HTTP to a Connect server on this machine. If the server is not running, any local user can listen at
//! its address. So before anything is sent, the client checks which user's process accepted the connection.
//! Token and answers are then as safe as that user.
//!
//! For TCP on a loopback address, the kernel's socket table shows the user at the other end; for a Unix
//! socket, its peer credentials do.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Empty;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::unistd::User;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};
use tower_service::Service;
use url::Host;

use crate::config::is_local_name;
use crate::host::tcp_table::{OtherEnd, other_end};

/// How long a server may take to accept a connection.
const ACCEPT_LIMIT: Duration = Duration::from_secs(2);
/// How often to read the socket table during that time: the kernel does not notify about changes in it.
const ACCEPT_LOOK: Duration = Duration::from_millis(5);

/// A client whose connections all lead to processes of root or of the given users.
pub(super) type LocalClient = Client<Connector, Empty<Bytes>>;

/// The address of a server on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LocalAddress {
    /// Loopback addresses, tried in this order.
    Loopback(Vec<SocketAddr>),
    /// A Unix socket.
    Unix(PathBuf),
}

impl LocalAddress {
    /// The loopback addresses of a URL, or `None` if it does not name this machine. Does not resolve
    /// `localhost`, as RFC 6761 demands.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let port = url.port_or_known_default()?;
        let ips = match url.host()? {
            Host::Ipv4(ip) => vec![IpAddr::V4(ip)],
            Host::Ipv6(ip) => vec![IpAddr::V6(ip)],
            Host::Domain(name) if is_local_name(name) => {
                vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            }
            Host::Domain(_) => return None,
        };
        let is_local = ips.iter().all(|ip| ip.to_canonical().is_loopback());
        is_local.then(|| Self::Loopback(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()))
    }
}

/// Why a connection is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unattested {
    /// It failed.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// A process of another user accepted it.
    #[error("a process of user ID {0} answers")]
    OtherUser(u32),
    /// The other end is not in this network namespace.
    #[error("the user who answers cannot be determined")]
    Redirected,
    /// The listener did not accept it in time.
    #[error("the connection was not accepted within {} s", ACCEPT_LIMIT.as_secs())]
    NotAccepted,
    /// A user of `connectUsers` does not exist.
    #[error("user {0:?} does not exist")]
    NoUser(String),
}

/// Creates a client for a server. `users` are the names or numeric IDs of the allowed users besides root.
pub(super) fn client(place: LocalAddress, users: &[String]) -> LocalClient {
    let connector = Connector { place: place.into(), users: users.into() };
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Makes attested connections.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    place: Arc<LocalAddress>,
    users: Arc<[String]>,
}

impl Connector {
    async fn connect(self) -> Result<TokioIo<Stream>, Unattested> {
        match &*self.place {
            LocalAddress::Loopback(addresses) => {
                let stream = TcpStream::connect(&addresses[..]).await?;
                let _ = stream.set_nodelay(true);
                let uid = accepted_by(&stream).await?;
                self.admit(uid).await?;
                Ok(TokioIo::new(Stream::Tcp(stream)))
            }
            LocalAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                self.admit(stream.peer_cred()?.uid()).await?;
                Ok(TokioIo::new(Stream::Unix(stream)))
            }
        }
    }

    async fn admit(self, uid: u32) -> Result<(), Unattested> {
        if uid == 0 {
            return Ok(());
        }
        // a lookup in the system's user database can block
        let lookup = tokio::task::spawn_blocking(move || user_ids(&self.users));
        let allowed = lookup.await.map_err(io::Error::other)??;
        if allowed.contains(&uid) { Ok(()) } else { Err(Unattested::OtherUser(uid)) }
    }
}

fn user_ids(users: &[String]) -> Result<Vec<u32>, Unattested> {
    let id = |user: &String| match user.parse() {
        Ok(id) => Ok(id),
        Err(_) => match User::from_name(user).map_err(io::Error::from)? {
            Some(user) => Ok(user.uid.as_raw()),
            None => Err(Unattested::NoUser(user.clone())),
        },
    };
    users.iter().map(id).collect()
}

/// Waits until the connection is accepted. Returns the user ID of the process that accepted it.
async fn accepted_by(stream: &TcpStream) -> Result<u32, Unattested> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let limit = Instant::now() + ACCEPT_LIMIT;
    loop {
        let found = other_end(local, peer)?;
        match found {
            OtherEnd::Of(uid) => return Ok(uid),
            OtherEnd::NotAccepted | OtherEnd::Absent if Instant::now() < limit => sleep(ACCEPT_LOOK).await,
            OtherEnd::NotAccepted => return Err(Unattested::NotAccepted),
            OtherEnd::Absent => return Err(Unattested::Redirected),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Unattested;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// An attested connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, data),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// The reason in the error chain of the client, if it did not make the connection.
pub(super) fn unattested(error: &legacy::Error) -> Option<&Unattested> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(reason) = error.downcast_ref::<Unattested>() {
            return Some(reason);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
