//! The provider's main loop: opens what it needs, serves requests, reloads on SIGHUP, and on SIGTERM answers what it can and refuses the rest.

mod guard;
mod memory;
mod reload;
mod wind_down;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep};

use self::guard::Guard;
use self::reload::Reloads;
use self::wind_down::wind_down;
use super::base::files::Standing;
use super::fetch::resolver_unit::{ResolverUnit, take_up_tokens};
use super::store::{Kind, Store};
use crate::config::{Limits, Paths, Problem, Report};
use crate::domain::secret::wipe_stack;
use crate::host::clock::{self, BootTime};
use crate::host::systemd::{journal, message_id, notify, private};
use crate::ipc::Resolve;
use crate::ipc::client::SocketResolver;
use crate::provider::base::active_config::{ActiveConfig, CurrentConfig};
use crate::provider::base::limits::Form;
use crate::provider::base::sealer::Sealer;
use crate::provider::context::Context;
use crate::provider::dbus;
use crate::provider::fetch::broker::Broker;
use crate::provider::fetch::rotation;
use crate::provider::request::attestation::Attestation;
use crate::provider::request::handler::Handler;
use crate::provider::request::keeper::{Keeper, scope};
use crate::provider::request::listener::Listener;
use crate::provider::store::last_valid::{self, Start};

/// How often to retry a journal that was busy.
const CATCHING_UP: Duration = Duration::from_millis(20);
/// How often to log counts and to drop expired data.
const HOUSEKEEPING: Duration = Duration::from_secs(20);

/// The unit that creates a host key.
const HOST_KEY_UNIT: &str = "onecred-host-key.service";

/// The options of the provider.
pub struct Options {
    /// The listening socket, for `LoadCredential=`.
    pub listener: OwnedFd,
    /// The listening socket for `LoadCredentialEncrypted=`, if any.
    pub sealed: Option<OwnedFd>,
    /// The file of the host key, with which sealed values are encrypted.
    pub host_key: PathBuf,
    /// Its keeper.
    pub keeper: Keeper,
    /// The paths of its configuration.
    pub config: Paths,
    /// The directory of the store.
    pub store: PathBuf,
    /// The resolver's socket.
    pub resolver: PathBuf,
    /// Whether claims are trusted and the store may be on any file system.
    pub development: bool,
}

/// Why the provider cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The store is available now, but was not when the provider started.
    #[error("the store is mounted now; the provider restarts to use it")]
    StoreIsBack,
    /// The runtime, a signal or the listening socket failed.
    #[error("the provider can't continue: {0}")]
    Io(#[from] io::Error),
    /// The keeper has ended: no process would refuse open connections if this process died.
    #[error("the keeper was killed; the provider restarts with a new keeper once no connection is open")]
    KeeperGone,
}

/// Runs the provider until it is stopped or fails.
pub fn run(options: Options) -> Result<(), Fatal> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().on_thread_park(wipe_stack).build()?;
    let result = runtime.block_on(live(options));
    runtime.shutdown_background(); // open connections stay open for the keeper
    result
}

/// The parts that serve requests.
struct Served {
    context: Arc<Context>,
    handler: Arc<Handler>,
    listener: Listener,
}

async fn live(options: Options) -> Result<(), Fatal> {
    let kind = if options.development { Kind::Anything } else { Kind::Memory };
    // the active configuration sets its own limit later
    let open = || Store::open(&options.store, kind, Limits::default().store_bytes);
    let (store, (active, standing)) = match open() {
        Ok(store) => {
            let start = load(&options.config, &store);
            (store, start)
        }
        Err(error) => {
            tracing::error!("{error}");
            // units are refused with this reason, instead of waiting for a provider that does not start
            (Store::none(), (ActiveConfig::broken(error.to_string()), Standing::None))
        }
    };
    let (storeless, connections) = (!store.exists(), active.settings.limits.connections);
    let resolver: Arc<dyn Resolve> = Arc::new(SocketResolver::new(options.resolver));
    let resolver = if options.development { resolver } else { Arc::new(ResolverUnit::new(resolver)) };
    let config = CurrentConfig::new(active);
    let broker = Arc::new(Broker::new(resolver, store, Arc::clone(&config)));
    let attestation = Attestation { uid: nix::unistd::geteuid().as_raw(), trusting: options.development };
    let sealer = Sealer::new(&options.host_key);
    let sealer = if options.development { sealer } else { sealer.with_maker(make_host_key) };
    let context = Arc::new(Context::new(config, options.config, broker, sealer, kind));
    let handler = Arc::new(Handler::new(Arc::clone(&context), attestation));
    let listener = Listener::new(Arc::clone(&handler), connections);
    let served = Served { context, handler, listener };
    let context = &served.context;
    let mut signals = Signals::new()?;
    let mut guard = Guard::new(&options.keeper)?;
    tracing::info!("serving; the keeper is process {}", options.keeper.pid());
    notify::ready(&line(context, &standing));
    tokio::spawn(Arc::clone(&context.publisher).follow());
    let fit = || storeless && open().is_ok();
    let (reloads, mut wishes) = mpsc::channel(1);
    if !options.development {
        start_tasks(context, options.keeper.pid(), reloads);
    }
    let result =
        serve(&served, (options.listener, options.sealed), &mut signals, &mut wishes, &mut guard, fit).await;
    wind_down(&served, &guard).await;
    result
}

/// Starts the background tasks of a provider that systemd runs.
fn start_tasks(context: &Arc<Context>, keeper: Pid, reloads: mpsc::Sender<dbus::Reload>) {
    let moving = Arc::clone(context);
    tokio::spawn(async move { scope::enter(keeper, &moving.keeper).await });
    tokio::spawn(memory::keep_limit(Arc::clone(context)));
    tokio::spawn(dbus::serve(Arc::clone(context), reloads));
    tokio::spawn(rotation::keep_fresh(Arc::clone(&context.broker)));
    tokio::spawn(Arc::clone(&context.publisher).follow_handles());
    let restarting = Arc::clone(context);
    tokio::spawn(async move { restarting.restart_units().await });
    let keeping = Arc::clone(context);
    tokio::spawn(async move { keeping.restarts.keep_received(&keeping.broker).await });
    tokio::spawn(take_up_tokens(context.broker.events.follow()));
    tokio::spawn(Arc::clone(&context.recovery).follow_jobs());
    tokio::spawn(Arc::clone(&context.recovery).follow_sealed());
    tokio::spawn(Arc::clone(&context.recovery).keep_list(Arc::clone(&context.broker)));
    tokio::spawn(Arc::clone(&context.recovery).recover(Arc::clone(&context.broker)));
}

/// Makes systemd create a host key, or replace a key of another machine.
fn make_host_key() {
    tokio::spawn(async {
        match private::start_unit(HOST_KEY_UNIT).await {
            Ok(()) => {
                tracing::info!("this host has no valid host key: {HOST_KEY_UNIT} is started to create one")
            }
            Err(error) => tracing::warn!("{HOST_KEY_UNIT} can't be started to make a host key: {error}"),
        }
    });
}

async fn serve(
    served: &Served,
    (plain, sealed): (OwnedFd, Option<OwnedFd>),
    signals: &mut Signals,
    wishes: &mut mpsc::Receiver<dbus::Reload>,
    guard: &mut Guard,
    mut store_is_back: impl FnMut() -> bool,
) -> Result<(), Fatal> {
    let Served { context, handler, listener } = served;
    let mut reloads = Reloads::new(context.config_paths.clone());
    let mut accepting = std::pin::pin!(listener.accept(plain, Form::Plain));
    let mut accepting_sealed = std::pin::pin!(async {
        match sealed {
            Some(socket) => listener.accept(socket, Form::Sealed).await,
            None => std::future::pending().await,
        }
    });
    let mut housekeeping = interval_at(Instant::now() + HOUSEKEEPING, HOUSEKEEPING);
    let mut alive = interval(notify::watchdog_interval().unwrap_or(HOUSEKEEPING));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut accepting => return Ok(ended?),
            ended = &mut accepting_sealed => return Ok(ended?),
            () = guard.loses_keeper() => guard.lost_keeper(served),
            () = guard.can_end(listener) => return guard.end(served),
            () = ended(&mut signals.stop, &mut signals.interrupt) => if guard.stop(served).await {
                return Ok(());
            },
            _ = signals.reload.recv() => {
                if guard.may_end() && store_is_back() {
                    return Err(Fatal::StoreIsBack);
                }
                reloads.request(context, None).await;
            }
            Some(caller) = wishes.recv() => reloads.request(context, Some(caller)).await,
            loaded = reloads.loaded() => reloads.end(context, loaded).await,
            _ = alive.tick() => guard.alive(),
            () = sleep(CATCHING_UP), if journal::is_behind() => journal::catch_up(),
            _ = housekeeping.tick() => {
                if guard.may_end() && store_is_back() {
                    return Err(Fatal::StoreIsBack);
                }
                journal::catch_up();
                handler.log.sweep(false);
                context.broker.sweep();
                context.recovery.take_unanswered(context.broker.store());
                context.unit_totals.sweep(BootTime::now());
                crate::host::sys::give_back_free_memory();
                let context = Arc::clone(context);
                tokio::spawn(async move {
                    let standing = context.standing().await;
                    notify::status(&line(&context, &standing));
                });
            }
        }
    }
}

/// The configuration to start with. If none is valid, each request is refused with the reason, which then is in the journal of each unit.
fn load(paths: &Paths, store: &Store) -> (ActiveConfig, Standing) {
    match last_valid::start(paths, store) {
        Start::Files(active, warnings) => {
            warn(&warnings);
            (active, Standing::Current)
        }
        Start::Last(active, report) => {
            rejected(&report, &format!("the one of {} stays active", time_of(&active)));
            (active, Standing::Rejected(report.first_error()))
        }
        Start::Nothing(report) => {
            rejected(&report, "every unit that asks is refused");
            (ActiveConfig::broken(report.first_error()), Standing::None)
        }
    }
}

/// Logs what is wrong with the files, and the consequence.
fn rejected(report: &Report, so: &str) {
    for problem in &report.problems {
        tracing::error!("{problem}");
    }
    tracing::error!(
        message_id = message_id::CONFIGURATION_REJECTED,
        "the configuration has errors or can't be read, so {so}; see: onecred check"
    );
}

/// When a configuration was loaded, as a time of day.
fn time_of(active: &ActiveConfig) -> String {
    clock::time_of_day(active.loaded, clock::unix())
}

fn warn(warnings: &[Problem]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// The status line for `systemctl status`.
fn line(context: &Context, standing: &Standing) -> String {
    let active = context.config.get();
    if let Some(error) = &active.error {
        return format!("refusing everything: {error}");
    }
    let (secrets, rules) = (active.settings.policy.secrets().count(), active.settings.policy.rules().len());
    let (items, bytes) = context.broker.size();
    let count = |n: usize, thing: &str| format!("{n} {thing}{}", if n == 1 { "" } else { "s" });
    let (secrets, rules, items) = (count(secrets, "secret"), count(rules, "rule"), count(items, "item"));
    let line = format!("serving {secrets} and {rules}; {items} ({bytes} bytes) in the store");
    match standing {
        Standing::Current | Standing::None => line,
        Standing::Changed => {
            format!("{line}; the configuration changed on disk since it was loaded: onecred reload")
        }
        Standing::Rejected(error) => {
            format!("{line}; the configuration of {} stays active: {error}", time_of(&active))
        }
    }
}

/// Waits for a request to stop.
async fn ended(stop: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
    }
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
