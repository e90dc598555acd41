//! `onecred resolve`: runs the resolver. systemd starts it, or a user by hand.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::socket::SockType;
use tracing::Level;

use crate::config::Paths;
use crate::domain::name::CredentialId;
use crate::host::systemd::{activation, journal, notify};
use crate::resolver::run::{Options, run as resolve};
use crate::resolver::service_account::{Book, Leniency, Surroundings};

/// The name under which the service manager stores the record of calls.
const BOOK: &str = "onecred-book";

/// The arguments of `onecred resolve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ResolveArgs {
    /// The configuration's directory, with secrets.json and secrets.d
    #[arg(long, value_name = "DIR", default_value = "/etc/onecred")]
    pub config: PathBuf,
    /// Listen here instead of on the socket from systemd
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// A file with a token, instead of this service's credential with that name; the default name is "token"
    #[arg(long = "token", value_name = "[NAME=]FILE")]
    pub tokens: Vec<String>,
    /// For experiments without systemd: accept requests from processes of this user instead of root
    #[arg(long)]
    pub development: bool,
    /// Log more
    #[arg(long, short)]
    pub verbose: bool,
}

/// Runs the resolver until it is stopped.
pub fn run(args: ResolveArgs) -> Result<(), Box<dyn Error>> {
    let (handed_over, kept) = activation::handed_over_and_kept(SockType::SeqPacket, BOOK)?;
    journal::start("onecred-resolver", if args.verbose { Level::DEBUG } else { Level::INFO });
    super::serve::harden();
    let listener = match (handed_over, &args.socket) {
        (Some(listener), None) => listener,
        (None, Some(path)) => activation::bound_at(path, SockType::SeqPacket)
            .map_err(|error| format!("can't listen on {}: {error}", path.display()))?,
        (Some(_), Some(_)) => return Err("systemd has passed a socket; omit --socket".into()),
        (None, None) => {
            return Err("no socket was passed: start onecred-resolver.socket, or use --socket PATH".into());
        }
    };
    let tokens = args.tokens.iter().map(|token| named(token)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let allowed_uid = if args.development { nix::unistd::geteuid().as_raw() } else { 0 };
    let surroundings =
        Surroundings { leniency: leniency(args.development), book: book(kept)?, ..Surroundings::default() };
    Ok(resolve(Options { listener, config: Paths { dir: args.config }, tokens, allowed_uid, surroundings })?)
}

/// The record of an earlier process of this service, or a new one, which the service manager keeps for later
/// processes.
fn book(kept: Option<OwnedFd>) -> io::Result<Arc<Book>> {
    let file = match kept {
        Some(file) => file,
        None => {
            let file = Book::file()?;
            notify::keep(BOOK, &file);
            file
        }
    };
    Ok(Arc::new(Book::in_file(file)))
}

/// The checks that `--development` relaxes. Sending a token to a fake of 1Password on this host also requires
/// an environment variable, which is not set by accident.
pub(super) fn leniency(development: bool) -> Leniency {
    Leniency {
        owner: development.then(|| nix::unistd::geteuid().as_raw()),
        insecure_loopback: development
            && std::env::var_os("ONECRED_TEST_INSECURE_LOOPBACK").is_some_and(|value| value == "1"),
    }
}

fn named(token: &str) -> Result<(CredentialId, PathBuf), Box<dyn Error>> {
    if token.starts_with("ops_") || token.starts_with("eyJ") {
        return Err("--token takes a file, not the token itself, which every user could see; write: --token [SOURCE=]FILE".into());
    }
    let (name, file) = token.split_once('=').unwrap_or(("token", token));
    Ok((CredentialId::parse(name)?, PathBuf::from(file)))
}
