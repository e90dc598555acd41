//! The worker's side: a process that only runs the SDK core. Its memory, with all that the core leaves in it,
//! is gone when it ends.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use serde_json::json;
use zeroize::Zeroizing;

use super::protocol::{Ask, Refused, Response, Told, Wanted, WorkerRequest, pack, unpack};
use crate::host::sys;
use crate::ipc::packet::{self, MAX_VALUES};

use crate::resolver::service_account::sdk::{Core, CoreError, Fit, Unfit};

/// The environment variable of a worker that only tests a library.
pub(super) const STRANGER: &str = "ONECRED_STRANGER";
/// The user and group `nobody`, which own nothing.
const NOBODY: u32 = 65_534;
/// The maximum number of simultaneous calls; further ones wait.
const AT_ONCE: usize = 8;

/// The maximum memory that the SDK core may use, in bytes: enough for 50 items and a file, and far less than
/// the memory of a machine.
const MEMORY: u64 = 512 << 20;

/// Runs the worker from the start of the process: answers the questions on the socket at standard input until
/// that is closed.
pub fn run() -> io::Result<()> {
    sys::close_from(3); // the core must not have descriptors of the resolver
    if std::env::var_os(STRANGER).is_some() {
        step_down()?;
    }
    isolate()?;
    let stdin = io::stdin();
    let socket = stdin.as_fd().try_clone_to_owned()?;
    let flags = OFlag::from_bits_truncate(fcntl(&socket, FcntlArg::F_GETFL)?);
    fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().max_blocking_threads(AT_ONCE).build()?;
    let result = runtime.block_on(async {
        let socket = Arc::new(sys::register(socket)?);
        let work = Arc::new(Work::default());
        while let Some(packet) = packet::receive(&socket).await? {
            let (request, secret): (WorkerRequest, _) = unpack(packet)?;
            let (socket, work) = (Arc::clone(&socket), Arc::clone(&work));
            tokio::spawn(async move {
                let number = request.number;
                let done = tokio::task::spawn_blocking(move || work.answer(request.ask, &secret)).await;
                let done = done.unwrap_or_else(|_| Err(Refused::Broken("the worker panicked".into())));
                if reply(&socket, number, done).await.is_err() {
                    std::process::exit(1); // the asker must not wait in vain
                }
            });
        }
        Ok(())
    });
    runtime.shutdown_background(); // does not wait for pending calls
    result
}

/// Gives up root privileges and the network, which a library under test does not need.
fn step_down() -> io::Result<()> {
    prctl::set_no_new_privs()?;
    if !geteuid().is_root() {
        return Ok(());
    }
    let _ = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC); // may be forbidden in a container
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    Ok(setresuid(user, user, user)?) // also drops the capabilities
}

/// Ends with the resolver, disables core dumps, and prevents access by other processes of the same user.
fn isolate() -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_DATA, MEMORY, MEMORY)?; // the core reads answers of any length
    Ok(prctl::set_dumpable(false)?)
}

type Outcome = Result<(Told, Zeroizing<Vec<u8>>), Refused>;

async fn reply(
    socket: &tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
    number: u64,
    done: Outcome,
) -> io::Result<()> {
    let (answer, content) = match done {
        Ok((_, content)) if content.len() as u64 > MAX_VALUES => {
            (Err(Refused::Broken(format!("its answer has {} bytes", content.len()))), None)
        }
        Ok((told, content)) => (Ok(told), Some(content)),
        Err(refused) => (Err(refused), None),
    };
    let packet = pack(&Response { number, answer }, content.as_deref().map(Vec::as_slice))?;
    packet::send(socket, &packet).await
}

#[derive(Default)]
struct Work {
    core: OnceLock<Core>,
    client: Mutex<Option<u64>>,
}

impl Work {
    fn answer(&self, ask: Ask, secret: &[u8]) -> Outcome {
        match ask {
            Ask::Load(wanted) => Ok((self.load(&wanted)?, Zeroizing::default())),
            Ask::Login => self.login(secret).map(|()| (Told::Done, Zeroizing::default())),
            Ask::Call { name, parameters } => Ok((Told::Done, self.call(&name, &parameters)?)),
        }
    }

    fn load(&self, wanted: &Wanted) -> Result<Told, Refused> {
        for path in &wanted.paths {
            let file = match Fit::open(path, wanted.owner, wanted.sha256.as_deref()) {
                Err(Unfit::Missing(_)) => continue,
                opened => opened.map_err(|unfit| Refused::Library(unfit.to_string()))?,
            };
            let core = Core::load(&file).map_err(|unfit| Refused::Library(unfit.to_string()))?;
            let _ = self.core.set(core);
            return Ok(Told::Loaded { path: path.clone(), sha256: file.sha256 });
        }
        Err(Refused::NoLibrary)
    }

    fn core(&self) -> Result<&Core, Refused> {
        self.core.get().ok_or_else(|| Refused::Broken("no core is loaded".into()))
    }

    fn login(&self, token: &[u8]) -> Result<(), Refused> {
        let broken = |what: &str| Refused::Broken(what.to_owned());
        let core = self.core()?;
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = client.take() {
            core.release_client(old.to_string().as_bytes()).map_err(refused)?;
        }
        let token = std::str::from_utf8(token).map_err(|_| broken("the token is not text"))?;
        let config = serde_json::to_vec(&json!({
            "serviceAccountToken": token,
            "programmingLanguage": "Rust",
            "sdkVersion": "0040201", // the SDK version whose protocol this is
            "integrationName": "onecred",
            "integrationVersion": concat!("v", env!("CARGO_PKG_VERSION")),
            "requestLibraryName": "reqwest",
            "requestLibraryVersion": "0.11",
            "os": "linux",
            "osVersion": "0.0.0",
            "architecture": std::env::consts::ARCH,
        }));
        let config = Zeroizing::new(config.map_err(|_| broken("the token can't be written as JSON"))?);
        let number = core.init_client(&config).map_err(refused)?;
        let number = std::str::from_utf8(&number).ok().and_then(|text| text.trim().parse().ok());
        *client = Some(number.ok_or_else(|| broken("it gave its client no number"))?);
        Ok(())
    }

    fn call(&self, name: &str, parameters: &serde_json::Value) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let client = *self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = client.ok_or_else(|| Refused::Broken("there was no login".into()))?;
        let call = json!({ "name": name, "parameters": parameters });
        let call = json!({ "invocation": { "clientId": client, "parameters": call } });
        self.core()?.invoke(call.to_string().as_bytes()).map_err(refused)
    }
}

fn refused(error: CoreError) -> Refused {
    match error {
        // the core's messages need not contain a token; one that does is not passed on
        CoreError::Said { message, .. } if message.contains("ops_") => {
            Refused::Broken("its error contains a token, and is not shown".into())
        }
        CoreError::Said { name, message } => Refused::Core { name, message },
        CoreError::Broken(what) => Refused::Broken(what),
    }
}
