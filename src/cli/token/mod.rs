//! `onecred token set` and `onecred token check`: sets the resolver's token, and shows what it gives access
//! to.

mod check;
mod form;
mod json;
mod place;
pub(super) mod prompt;
mod report;
mod set;
mod source;
mod system;
mod verdict;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

pub use set::{SetArgs, TokenKey};

/// The verbs of `onecred token`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum TokenVerb {
    /// Read a token from the terminal or standard input, test it, and store it for the resolver
    ///
    /// The token is tested before anything is written, and encrypted with systemd-creds. The provider is not
    /// restarted.
    #[command(
        after_help = "Exit codes: 0 set, 1 rejected, not tested because there was no answer, or not written (the previous token is kept), 2 wrong command line"
    )]
    Set(SetArgs),
    /// Show what the installed token gives access to
    #[command(
        after_help = "Exit codes: 0 good, or a vault file that needs none (warnings on standard error), 1 rejected, missing, malformed, \
                            readable by others, or not checked since the server did not answer, calls are limited or the core is missing; \
                            the message says which. 2 wrong command line"
    )]
    Check(CheckArgs),
}

/// The source of the token, and how to reach the resolver.
#[derive(Debug, Clone, clap::Args)]
pub struct Where {
    /// The source of the token, if there are several
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The configuration's directory
    #[arg(long, value_name = "DIR", default_value = "/etc/onecred")]
    pub config: PathBuf,
    /// The resolver's socket
    #[arg(long, value_name = "PATH", default_value = "/run/onecred/resolver.sock")]
    pub socket: PathBuf,
    /// For experiments without 1Password: relax the same checks as `onecred resolve --development`
    #[arg(long, hide = true)]
    pub development: bool,
}

/// The arguments of `onecred token check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The source of the token.
    #[command(flatten)]
    pub place: Where,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Runs one of the verbs. Returns the exit code.
pub fn run(verb: &TokenVerb, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    super::serve::harden();
    match verb {
        TokenVerb::Set(args) => set::run(args, out, err),
        TokenVerb::Check(args) => check::run(args, out, err),
    }
}
