//! `onecred serve`: runs the provider. systemd starts it, or a user by hand.

use std::error::Error;
use std::path::PathBuf;

use nix::sys::socket::SockType;
use tracing::Level;

use crate::config::Paths;
use crate::host::systemd::{activation, journal};
use crate::provider::request::keeper::Keeper;
use crate::provider::run::{Options, run as provide};

/// The name that the unit gives to the sealed socket (FileDescriptorName=).
const SEALED: &str = "sealed";

/// The arguments of `onecred serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// The configuration's directory, with secrets.json and secrets.d
    #[arg(long, value_name = "DIR", default_value = "/etc/onecred")]
    pub config: PathBuf,
    /// Listen here instead of on the socket from systemd
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// With --socket: listen here too, and deliver values encrypted with the host key, for
    /// LoadCredentialEncrypted=
    #[arg(long, value_name = "PATH", requires = "socket")]
    pub sealed_socket: Option<PathBuf>,
    /// The host key, which `systemd-creds setup` creates
    #[arg(long, value_name = "FILE", default_value = "/var/lib/systemd/credential.secret")]
    pub host_key: PathBuf,
    /// The store: a directory on a ramfs that belongs to this user
    #[arg(long, value_name = "DIR", default_value = "/run/onecred/store")]
    pub store: PathBuf,
    /// The resolver's socket
    #[arg(long, value_name = "PATH", default_value = "/run/onecred/resolver.sock")]
    pub resolver: PathBuf,
    /// For experiments without systemd: accept the unit that a process of this user claims to be, and allow a
    /// store on any file system. Do not use it for important secrets
    #[arg(long)]
    pub development: bool,
    /// Also log each answer
    #[arg(long, short)]
    pub verbose: bool,
}

/// Runs the provider until it is stopped.
pub fn run(args: ServeArgs) -> Result<(), Box<dyn Error>> {
    // both before any thread starts and before any secret is in memory
    let (handed_over, sealed) = activation::handed_over_and_another(SockType::Stream, SEALED)?;
    let hardened = hardened(); // also for the keeper, whose descriptors are the provider's
    let keeper =
        Keeper::start(&args.store).map_err(|error| format!("the keeper can't be started: {error}"))?;
    journal::start("onecred", if args.verbose { Level::DEBUG } else { Level::INFO });
    warn_if_soft(hardened);
    crate::host::sys::give_back_long_memory();
    if args.development && handed_over.is_some() && nix::unistd::geteuid().is_root() {
        return Err(
            "--development is not for a system service: the provider would trust any process; omit it".into(),
        );
    }
    let bound = |path: &PathBuf| {
        activation::bound_at(path, SockType::Stream)
            .map_err(|error| format!("can't listen on {}: {error}", path.display()))
    };
    let (listener, sealed) = match (handed_over, &args.socket) {
        (Some(listener), None) => (listener, sealed),
        (None, Some(path)) => (bound(path)?, args.sealed_socket.as_ref().map(bound).transpose()?),
        (Some(_), Some(_)) => return Err("systemd has passed a socket; omit --socket".into()),
        (None, None) => {
            return Err("no socket was passed: start onecred.socket, or use --socket PATH".into());
        }
    };
    Ok(provide(Options {
        listener,
        sealed,
        host_key: args.host_key,
        keeper,
        config: Paths { dir: args.config },
        store: args.store,
        resolver: args.resolver,
        development: args.development,
    })?)
}

/// Disables core dumps of this process, and access to it by other processes of the same user.
pub(super) fn harden() {
    warn_if_soft(hardened());
}

fn hardened() -> nix::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    // the limit alone is not enough: the kernel ignores it if dumps are piped to a program
    nix::sys::prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Logs a failure to harden the process, once the journal is available.
fn warn_if_soft(hardened: nix::Result<()>) {
    if let Err(error) = hardened {
        tracing::warn!("core dumps of this process can't be turned off: {error}");
    }
}
