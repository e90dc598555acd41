//! The resolver's main loop: reads the sources and their tokens, answers questions, and reads both again on
//! SIGHUP.

mod registry;
mod token_file;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

use registry::{Inputs, Registry};

use super::service_account::Surroundings;
use crate::config::Paths;
use crate::domain::name::CredentialId;
use crate::domain::secret::wipe_stack;
use crate::host::background::Background;
use crate::host::systemd::notify;
use crate::ipc::{self, Resolve};
use crate::resolver::ready_line::Shown;

/// The options of the resolver.
pub struct Options {
    /// The listening socket.
    pub listener: OwnedFd,
    /// The paths of the configuration.
    pub config: Paths,
    /// Token files by credential name. They override the credentials of the unit.
    pub tokens: BTreeMap<CredentialId, PathBuf>,
    /// The user, besides root, whose processes may ask questions.
    pub allowed_uid: u32,
    /// The surroundings in which sources are opened.
    pub surroundings: Surroundings,
}

/// Runs the resolver until it is stopped.
pub fn run(options: Options) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().on_thread_park(wipe_stack).build()?;
    let result = runtime.block_on(live(options));
    runtime.shutdown_background();
    result
}

async fn live(options: Options) -> io::Result<()> {
    let Options { listener, config, tokens, allowed_uid, surroundings } = options;
    let registry = Arc::new(Registry::new(Inputs { config, tokens, surroundings }));
    registry.read();
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    let mut alive = interval(notify::watchdog_interval().unwrap_or(Duration::from_secs(60)));
    let resolver: Arc<dyn Resolve> = Arc::<Registry>::clone(&registry);
    let mut serving = std::pin::pin!(ipc::server::serve(listener, resolver, allowed_uid));
    let mut shown = Shown::default();
    let reader = Arc::clone(&registry);
    let mut files = Background::new(move || reader.load()); // their disk may hang
    notify::ready(&shown.take(registry.line()));
    loop {
        tokio::select! {
            ended = &mut serving => return ended,
            _ = stop.recv() => break,
            _ = interrupt.recv() => break,
            _ = alive.tick() => {
                notify::alive();
                shown.refresh(registry.line());
            }
            () = shown.due(&registry.asked) => shown.refresh(registry.line()),
            _ = reload.recv() => if files.request() {
                notify::reloading();
            },
            loaded = files.ended() => {
                registry.activate(loaded);
                // READY=1 would also end the next reload
                match files.is_running() {
                    true => notify::reloading(),
                    false => notify::ready(&shown.take(registry.line())),
                }
            }
        }
    }
    notify::stopping("stopping; the provider repeats open requests");
    Ok(())
}
