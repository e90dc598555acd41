//! The resolver's side of a worker: starts it, sends it several questions at the same time, and kills it if
//! it hangs.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use zeroize::Zeroizing;

use super::protocol::{Ask, Refused, Response, Told, WorkerRequest, pack, unpack};
use crate::domain::secret::SecretValue;
use crate::host::sys;
use crate::ipc::packet;

/// How long a call may still be answered after its asker has given up.
const GRACE: Duration = Duration::from_secs(1);

/// How to start workers.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The program.
    pub(crate) program: PathBuf,
    /// The arguments that make it a worker.
    pub(crate) arguments: Vec<OsString>,
    /// Its complete environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// How long an answer may take before the worker counts as hung. The SDK core itself gives up a request
    /// after 30 s.
    pub(crate) hang: Duration,
    /// The same limit for a worker that answers nothing at all, after the asker has given up.
    pub(crate) silence: Duration,
}

impl Launch {
    /// Starts the worker for a library that has not been tested: it gives up root privileges and the network.
    pub(crate) fn for_a_stranger(self) -> Self {
        self.with([(super::process::STRANGER.into(), "1".into())])
    }

    /// Adds variables to the environment.
    pub(crate) fn with(mut self, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.environment.extend(environment);
        self
    }
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            program: "/proc/self/exe".into(), // this binary, even if its file was replaced
            arguments: vec!["core-worker".into()],
            environment: Vec::new(),
            hang: Duration::from_secs(40),
            silence: Duration::from_secs(32),
        }
    }
}

/// A worker, or a substitute in tests.
pub(crate) trait Work: Sized + Send + Sync + 'static {
    /// Starts it.
    fn start(launch: &Launch) -> io::Result<Self>;

    /// The time since its start.
    fn age(&self) -> Duration;

    /// Whether it can be asked.
    fn is_alive(&self) -> bool;

    /// Sends a question and waits for the answer until `by`.
    fn ask(
        &self,
        ask: Ask,
        secret: Option<&SecretValue>,
        by: Instant,
    ) -> impl Future<Output = Result<WorkerAnswer, WorkerError>> + Send;
}

/// A worker process. It is killed when dropped.
pub(crate) struct Worker {
    started: Instant,
    shared: Arc<Shared>,
    watch: AbortHandle,
}

struct Shared {
    socket: AsyncFd<OwnedFd>,
    calls: Mutex<Calls>,
    asked: Notify,
}

#[derive(Default)]
struct Calls {
    last: u64,
    open: HashMap<u64, Call>,
    /// When the worker last sent an answer.
    heard: Option<Instant>,
    /// Why the worker ended.
    ended: Option<String>,
}

struct Call {
    since: Instant,
    by: Instant,
    answer: oneshot::Sender<Result<WorkerAnswer, WorkerError>>,
}

/// An answer of a worker, and the secret bytes that came with it.
#[derive(Debug)]
pub(crate) struct WorkerAnswer {
    pub(crate) told: Told,
    pub(crate) content: Zeroizing<Vec<u8>>,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum WorkerError {
    /// The time is up. The worker may still be processing it.
    Late,
    /// The worker has ended, for this reason.
    Died(String),
    /// The worker refused.
    Refused(Refused),
}

impl Work for Worker {
    fn start(launch: &Launch) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, its) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let mut command = Command::new(&launch.program);
        let child = command
            .arg0("onecred")
            .args(&launch.arguments)
            .env_clear()
            // otherwise the core has one thread per processor, and their stacks count as its memory
            .env("TOKIO_WORKER_THREADS", "2")
            .envs(launch.environment.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(Stdio::from(its))
            .stdout(Stdio::null())
            .stderr(Stdio::null()) // output of foreign code must not reach a log
            .kill_on_drop(true)
            .spawn()?;
        let shared =
            Arc::new(Shared { socket: sys::register(ours)?, calls: Mutex::default(), asked: Notify::new() });
        let watch =
            tokio::spawn(watch(Arc::clone(&shared), child, launch.hang, launch.silence)).abort_handle();
        Ok(Self { started: Instant::now(), shared, watch })
    }

    fn age(&self) -> Duration {
        self.started.elapsed()
    }

    fn is_alive(&self) -> bool {
        self.shared.calls().ended.is_none()
    }

    async fn ask(
        &self,
        ask: Ask,
        secret: Option<&SecretValue>,
        by: Instant,
    ) -> Result<WorkerAnswer, WorkerError> {
        let (sender, receiver) = oneshot::channel();
        let number = {
            let mut calls = self.shared.calls();
            if let Some(reason) = &calls.ended {
                return Err(WorkerError::Died(reason.clone()));
            }
            calls.last += 1;
            let number = calls.last;
            calls.open.insert(number, Call { since: Instant::now(), by, answer: sender });
            number
        };
        self.shared.asked.notify_one();
        // exposed: the worker needs the token to log in
        let packet = pack(&WorkerRequest { number, ask }, secret.map(SecretValue::expose));
        let sending = async {
            let sent = match packet {
                Ok(packet) => packet::send(&self.shared.socket, &packet).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => receiver.await.unwrap_or_else(|_| Err(WorkerError::Died("it was stopped".into()))),
                Err(error) => {
                    self.shared.calls().open.remove(&number);
                    Err(WorkerError::Died(format!("it can't be asked: {error}")))
                }
            }
        };
        timeout_at(by, sending).await.unwrap_or(Err(WorkerError::Late))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.watch.abort(); // drops the child, which kills it
    }
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// When the worker counts as hung. It may be slow as long as it answers other questions, and until
    /// 1Password itself has had its time.
    fn limit(&self, hang: Duration, silence: Duration) -> Option<Instant> {
        let limit = |call: &Call| {
            let silent = self.heard.is_none_or(|heard| heard < call.since);
            let given_up = (call.since + silence).max(call.by + GRACE);
            let hung = call.since + hang;
            if silent { hung.min(given_up) } else { hung }
        };
        self.open.values().map(limit).min()
    }
}

/// Delivers answers until the worker ends or must be killed.
async fn watch(shared: Arc<Shared>, mut child: Child, hang: Duration, silence: Duration) {
    let reason = loop {
        let limit = shared.calls().limit(hang, silence);
        tokio::select! {
            biased; // answers that a worker sent before it ended still count
            received = packet::receive(&shared.socket) => {
                let delivered = match received {
                    Ok(Some(packet)) => deliver(&shared, packet),
                    Ok(None) => break ended(&mut child).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = delivered {
                    break format!("its answer is invalid: {error}");
                }
            }
            _ = child.wait() => break ended(&mut child).await,
            () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => {
                break "it did not answer in time, and was killed".to_owned();
            }
            () = shared.asked.notified() => {} // the limit may have changed
        }
    };
    let _ = child.start_kill();
    let open = {
        let mut calls = shared.calls();
        calls.ended = Some(reason.clone());
        std::mem::take(&mut calls.open)
    };
    for call in open.into_values() {
        let _ = call.answer.send(Err(WorkerError::Died(reason.clone())));
    }
    let _ = child.wait().await;
}

fn deliver(shared: &Shared, packet: packet::Packet) -> io::Result<()> {
    let (response, content): (Response, _) = unpack(packet)?;
    let call = {
        let mut calls = shared.calls();
        calls.heard = Some(Instant::now());
        calls.open.remove(&response.number)
    };
    let call = call.ok_or_else(|| io::Error::other("an answer without a question"))?;
    let answer = response.answer.map(|told| WorkerAnswer { told, content }).map_err(WorkerError::Refused);
    let _ = call.answer.send(answer); // the asker may have given up
    Ok(())
}

/// Why a worker ended that has closed its socket or is dead.
async fn ended(child: &mut Child) -> String {
    match timeout(Duration::from_secs(1), child.wait()).await {
        Ok(Ok(status)) => told(status),
        Ok(Err(error)) => format!("it can't be waited for: {error}"),
        Err(_) => "it has closed its socket".into(),
    }
}

fn told(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal().map(|number| (number, nix::sys::signal::Signal::try_from(number))) {
        Some((_, Ok(signal))) => format!("it was ended by {}", signal.as_str()),
        Some((number, Err(_))) => format!("it was ended by signal {number}"),
        None => format!("it exited with status {}", status.code().unwrap_or_default()),
    }
}
