//! The provider's life: opens what it needs, serves, reloads on SIGHUP, and on SIGTERM answers what it can and refuses the rest.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::active::Active;
use super::broker::Broker;
use super::bus;
use super::keeper::Keeper;
use super::peer::Attestation;
use super::rotation;
use super::sealer::{Form, Sealer};
use super::server::Server;
use super::store::{Kind, Store};
use crate::clock::BootTime;
use crate::config::{self, Loaded, Paths};
use crate::secret::wipe_stack;
use crate::systemd::{journal, message_id, notify};
use crate::wire::client::SocketResolver;

/// How long those that wait are still answered after a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// How long values that are being sent may then take. The keeper refuses the rest, and finishes all refusals.
const FINISHING: Duration = Duration::from_secs(2);
/// How often a journal that was busy is tried again.
const CATCHING_UP: Duration = Duration::from_millis(20);
/// How often counts are said and old things given up.
const HOUSEKEEPING: Duration = Duration::from_secs(20);

/// What the provider is told.
pub struct Options {
    /// The listening socket, for `LoadCredential=`.
    pub listener: OwnedFd,
    /// The one for `LoadCredentialEncrypted=`, if there is one.
    pub sealed: Option<OwnedFd>,
    /// The file of the host key, which what goes there is encrypted with.
    pub host_key: PathBuf,
    /// Its keeper.
    pub keeper: Keeper,
    /// Where its configuration is.
    pub config: Paths,
    /// The store's folder.
    pub store: PathBuf,
    /// The resolver's socket.
    pub resolver: PathBuf,
    /// Whether claims are trusted and the store may be on any file system.
    pub development: bool,
}

/// Why the provider can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// There is a store now, where there was none at the start.
    #[error("the store is there now: the provider starts anew with it")]
    StoreIsBack,
    /// The runtime, a signal or the listening socket failed.
    #[error("the provider can't go on: {0}")]
    Io(#[from] io::Error),
    /// The keeper has ended, so that nothing would stand in for this process if it died.
    #[error(
        "the keeper has ended, which it never does by itself; was it killed? the provider ends, too, to be started anew with a keeper"
    )]
    KeeperGone,
}

/// Runs the provider to its end.
pub fn run(options: Options) -> Result<(), Fatal> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().on_thread_park(wipe_stack).build()?;
    let result = runtime.block_on(live(options));
    runtime.shutdown_background(); // what is still open then, stays so for the keeper
    result
}

async fn live(options: Options) -> Result<(), Fatal> {
    let mut active = load(&options.config);
    let limits = active.settings.limits;
    let kind = if options.development { Kind::Anything } else { Kind::Memory };
    let open = || Store::open(&options.store, kind, limits.store_bytes);
    let (store, storeless) = match open() {
        Ok(store) => (store, false),
        Err(error) => {
            tracing::error!("{error}");
            // everybody is told so, instead of waiting for a provider that does not start
            active = Active::broken(error.to_string());
            (Store::none(), true)
        }
    };
    let resolver = Arc::new(SocketResolver::new(options.resolver));
    let broker = Arc::new(Broker::new(resolver, store, active));
    let attestation = Attestation { uid: nix::unistd::geteuid().as_raw(), trusting: options.development };
    let server =
        Arc::new(Server::new(broker, attestation, Sealer::new(&options.host_key), limits.connections));
    let mut signals = Signals::new()?;
    let keeper = watch(&options.keeper)?;
    tracing::info!("serving; the keeper is process {}", options.keeper.pid());
    notify::ready(&status(&server));
    tokio::spawn(Arc::clone(&server.publisher).follow());
    let fit = || storeless && open().is_ok();
    let (reloads, mut wishes) = mpsc::channel(1);
    if !options.development {
        tokio::spawn(bus::serve(Arc::clone(&server), reloads));
        tokio::spawn(rotation::keep_fresh(Arc::clone(&server.broker)));
        let telling = Arc::clone(&server);
        tokio::spawn(async move { telling.restarts.follow(&telling.broker, &telling.publisher).await });
        tokio::spawn(Arc::clone(&server.recovery).follow_jobs());
        tokio::spawn(Arc::clone(&server.recovery).keep_list(Arc::clone(&server.broker)));
        tokio::spawn(Arc::clone(&server.recovery).recover(Arc::clone(&server.broker)));
    }
    let result = serve(
        &server,
        (options.listener, options.sealed),
        &options.config,
        &mut signals,
        &mut wishes,
        &keeper,
        fit,
    )
    .await;
    wind_down(&server, matches!(result, Err(Fatal::KeeperGone))).await;
    result
}

async fn serve(
    server: &Arc<Server>,
    (plain, sealed): (OwnedFd, Option<OwnedFd>),
    config: &Paths,
    signals: &mut Signals,
    wishes: &mut mpsc::Receiver<bus::Reload>,
    keeper: &AsyncFd<OwnedFd>,
    mut store_is_back: impl FnMut() -> bool,
) -> Result<(), Fatal> {
    let mut accepting = std::pin::pin!(server.accept(plain, Form::Plain));
    let mut accepting_sealed = std::pin::pin!(async {
        match sealed {
            Some(listener) => server.accept(listener, Form::Sealed).await,
            None => std::future::pending().await,
        }
    });
    let mut housekeeping = interval(HOUSEKEEPING);
    let mut alive = interval(notify::watchdog_interval().unwrap_or(HOUSEKEEPING));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut accepting => return Ok(ended?),
            ended = &mut accepting_sealed => return Ok(ended?),
            _ = keeper.ready(Interest::READABLE) => return Err(Fatal::KeeperGone),
            _ = signals.stop.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.reload.recv() => {
                if store_is_back() {
                    return Err(Fatal::StoreIsBack);
                }
                let _ = reload(server, config);
            }
            Some(wish) = wishes.recv() => {
                let _ = wish.send(reload(server, config));
            }
            _ = alive.tick() => notify::alive(),
            () = sleep(CATCHING_UP), if journal::is_behind() => journal::catch_up(),
            _ = housekeeping.tick() => {
                if store_is_back() {
                    return Err(Fatal::StoreIsBack);
                }
                journal::catch_up();
                server.report.sweep(false);
                server.broker.sweep();
                server.unit_totals.sweep(BootTime::now());
                notify::status(&status(server));
            }
        }
    }
}

/// Ends what was begun: answers what can be answered soon, refuses the rest. What has not been accepted waits for the next provider.
async fn wind_down(server: &Server, unguarded: bool) {
    notify::stopping("answering what can be answered soon");
    if unguarded {
        // nobody would refuse what is open: so nothing is left open
        server.refuse_waiting();
        while timeout(GRACE, server.idle()).await.is_err() {
            notify::alive();
        }
    }
    if timeout(GRACE, server.answered()).await.is_err() {
        server.refuse_waiting();
        let _ = timeout(FINISHING, server.answered()).await;
    }
    server.report.sweep(true);
    server.broker.sweep();
}

/// The configuration; with errors in it, one that refuses everything and says why, so that each consumer's journal has the reason.
fn load(paths: &Paths) -> Active {
    match config::load(paths) {
        Ok(loaded) => {
            warn(&loaded);
            Active::new(loaded.settings)
        }
        Err(report) => {
            for problem in &report.problems {
                tracing::error!("{problem}");
            }
            tracing::error!(
                message_id = message_id::CONFIGURATION_REJECTED,
                "the configuration has errors, so every unit that asks is refused; see: onecred check"
            );
            Active::broken(first_error(&report))
        }
    }
}

fn first_error(report: &config::Report) -> String {
    let first = report.problems.iter().find(|problem| problem.severity == config::Severity::Error);
    first.map(ToString::to_string).unwrap_or_default().replace('\n', " ")
}

/// Reads the configuration anew; with errors in it the one before stays in force, and the first of them is given back.
fn reload(server: &Arc<Server>, paths: &Paths) -> Result<(), String> {
    notify::reloading();
    let result = match config::load(paths) {
        Ok(loaded) => {
            warn(&loaded);
            server.broker.activate(match &server.broker.active().error {
                Some(error) if !server.broker.has_store() => Active::broken(error.clone()),
                _ => Active::new(loaded.settings),
            });
            tracing::info!("the configuration was read anew");
            server.publisher.prune();
            let server = Arc::clone(server);
            tokio::spawn(async move {
                server.publisher.sync().await;
                notify::ready(&status(&server));
                server.publisher.complete().await;
            });
            return Ok(());
        }
        Err(report) => {
            for problem in &report.problems {
                tracing::error!("{problem}");
            }
            let so = match server.broker.active().error {
                Some(_) => "every unit that asks is still refused",
                None => "the one before stays in force",
            };
            tracing::error!(
                message_id = message_id::CONFIGURATION_REJECTED,
                "the new configuration has errors, so {so}; see: onecred check"
            );
            Err(first_error(&report))
        }
    };
    notify::ready(&status(server));
    result
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

fn status(server: &Server) -> String {
    let active = server.broker.active();
    if let Some(error) = &active.error {
        return format!("refusing everything: {error}");
    }
    let (secrets, rules) = (active.settings.policy.secrets().count(), active.settings.policy.rules().len());
    let (items, bytes) = server.broker.size();
    let count = |n: usize, thing: &str| format!("{n} {thing}{}", if n == 1 { "" } else { "s" });
    let (secrets, rules, items) = (count(secrets, "secret"), count(rules, "rule"), count(items, "item"));
    format!("serving {secrets} and {rules}; {items} ({bytes} bytes) in the store")
}

fn watch(keeper: &Keeper) -> io::Result<AsyncFd<OwnedFd>> {
    crate::sys::register(keeper.ended().try_clone_to_owned()?)
}

struct Signals {
    stop: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            stop: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}
