//! Starts a fake: in a thread of this process, or until a future completes.

use std::future::Future;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::{fs, io, thread};

use serde_json::Value;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use super::client::Control;
use super::server;
use super::state::Service;
use super::state::{Data, Shared};
use super::tls::{Identity, TlsFault};
use super::vault::{Vaults, fixture, with_long_values};

/// The default valid token.
pub const DEFAULT_TOKEN: &str = "fake-token";

/// How to start a fake. [`Options::default`] is plain HTTP on a free loopback port, with the fixture.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on; port 0 means any free port.
    pub listen: SocketAddr,
    /// The valid token. For a service account, the name from which all its keys are derived.
    pub token: String,
    /// The data.
    pub document: Value,
    /// A directory for `ca.pem`. If set, the fake uses TLS.
    pub tls: Option<PathBuf>,
    /// What is wrong with its certificate.
    pub tls_fault: Option<TlsFault>,
    /// Names and addresses in the certificate besides localhost.
    pub names: Vec<String>,
    /// The address in a service account's token, if it is not the fake's own.
    pub sign_in: Option<String>,
    /// A Unix socket for control requests.
    pub control: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            token: DEFAULT_TOKEN.to_owned(),
            document: with_long_values(fixture()),
            tls: None,
            tls_fault: None,
            names: Vec::new(),
            sign_in: None,
            control: None,
        }
    }
}

/// A fake in a separate thread. When it is dropped, the fake ends and its port is free again.
pub struct Fake<S> {
    /// Controls the fake.
    pub control: Control,
    address: SocketAddr,
    ca: Option<PathBuf>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    service: PhantomData<S>,
}

impl<S: Service + Default> Fake<S> {
    /// Starts a fake, and returns when it listens.
    pub fn start(options: Options) -> io::Result<Fake<S>> {
        let shared = prepare(&options, Box::new(S::default()))?;
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = shared.clone();
        let thread = thread::Builder::new().name("fake".to_owned()).spawn(move || {
            let tell = |address| drop(ready.send(Ok(address)));
            let stopped = async { drop(stopped.await) };
            if let Err(error) = runtime.block_on(run(serving, options, tell, stopped)) {
                drop(ready.send(Err(error)));
            }
        })?;
        let address = started.recv().map_err(io::Error::other)??;
        let ca = shared.identity.as_ref().map(|identity| identity.ca().to_owned());
        Ok(Fake {
            control: Control::here(shared),
            address,
            ca,
            stop: Some(stop),
            thread: Some(thread),
            service: PhantomData,
        })
    }
}

impl<S> Fake<S> {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` or `https://localhost:PORT`, without `/v1`.
    pub fn url(&self) -> String {
        url(self.address, self.ca.is_some())
    }

    /// The CA file that clients must trust.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }
}

impl<S> Drop for Fake<S> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves until the future completes. Calls `ready` with the address when the fake listens.
pub async fn serve_until<S: Service + Default>(
    options: Options,
    ready: impl FnOnce(SocketAddr, &Control),
    stopped: impl Future<Output = ()>,
) -> io::Result<()> {
    let shared = prepare(&options, Box::new(S::default()))?;
    let control = Control::here(shared.clone());
    run(shared, options, |address| ready(address, &control), stopped).await
}

fn prepare(options: &Options, service: Box<dyn Service>) -> io::Result<Arc<Shared>> {
    let vaults = Vaults::from_document(&options.document).map_err(io::Error::other)?;
    let identity = match &options.tls {
        Some(folder) => Some(Identity::in_folder(folder, &options.names)?),
        None => None,
    };
    let acceptor = match &identity {
        Some(identity) => Some(identity.acceptor(options.tls_fault)?),
        None => None,
    };
    let data = Data { vaults, token: options.token.clone(), denied: std::collections::HashSet::new() };
    Ok(Arc::new(Shared::new(service, data, identity, acceptor)))
}

async fn run(
    shared: Arc<Shared>,
    options: Options,
    ready: impl FnOnce(SocketAddr),
    stopped: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let control = match &options.control {
        Some(path) => {
            let _ = fs::remove_file(path);
            Some(UnixListener::bind(path)?)
        }
        None => None,
    };
    let address = listener.local_addr()?;
    shared.listens(options.sign_in.unwrap_or_else(|| url(address, options.tls.is_some())));
    ready(address);
    tokio::select! {
        () = server::serve(shared, listener, control) => {}
        () = stopped => {}
    }
    if let Some(path) = &options.control {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn url(address: SocketAddr, tls: bool) -> String {
    if tls { format!("https://localhost:{}", address.port()) } else { format!("http://{address}") }
}
