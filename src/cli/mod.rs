//! The verbs, one file each.

pub mod check;
pub mod core;
pub mod demo;
pub mod get;
pub mod import;
pub mod resolve;
pub mod run_program;
pub mod schema;
pub mod serve;
pub mod token;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

/// A credential provider for systemd: units get their secrets from 1Password.
#[derive(Debug, clap::Parser)]
#[command(name = "onecred", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Serve credentials to units (the provider; started by onecred.socket)
    Serve(serve::ServeArgs),
    /// Resolve references in 1Password for the provider (started by onecred-resolver.socket)
    Resolve(resolve::ResolveArgs),
    /// Check the configuration and tell everything that is wrong with it
    Check(check::CheckArgs),
    /// Ask a credential socket as systemd would
    Get(get::GetArgs),
    /// Execute a program with variables of its environment set from the unit's credentials
    Run(run_program::RunArgs),
    /// Take over the configuration of another program
    #[command(subcommand)]
    Import(import::ImportVerb),
    /// Install 1Password's SDK core, which service accounts need
    #[command(subcommand)]
    Core(core::CoreVerb),
    /// Set or check the resolver's token
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// Show what onecred does, without root, systemd or an account
    Demo,
    /// Have 1Password's core at hand for the resolver, which starts this itself
    #[command(hide = true)]
    CoreWorker,
    /// Print the JSON Schema of the configuration
    Schema,
}

/// Runs a verb. Exit codes: 0 done, 1 it failed (with the reason on standard error), 2 the command line is wrong.
pub fn run(cli: Cli) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let result: Result<u8, Box<dyn Error>> = match cli.verb {
        Verb::Serve(args) => serve::run(args).map(|()| 0),
        Verb::Resolve(args) => resolve::run(args).map(|()| 0),
        Verb::Check(args) => check::run(&args, &mut out, &mut err).map_err(Into::into),
        Verb::Get(args) => get::run(&args, &mut out).map(|()| 0),
        Verb::Run(args) => run_program::run(&args, &mut err).map_err(Into::into),
        Verb::Import(verb) => import::run(&verb, &mut out, &mut err).map(|()| 0),
        Verb::Core(verb) => core::run(&verb, &mut out, &mut err).map(|()| 0),
        Verb::Token(verb) => token::run(&verb, &mut out, &mut err),
        Verb::Demo => demo::run(&mut out).map(|()| 0),
        Verb::CoreWorker => crate::resolver::service_account::run_worker().map(|()| 0).map_err(Into::into),
        Verb::Schema => schema::run(&mut out).map(|()| 0).map_err(Into::into),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // whoever closed the pipe has seen enough
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(err, "onecred: {error}");
            ExitCode::FAILURE
        }
    }
}
