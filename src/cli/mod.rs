//! The verbs, one file each.

pub mod add;
mod bus;
pub mod check;
mod check_report;
mod common;
pub mod complete;
mod configuration;
pub mod core;
pub mod demo;
pub mod explain;
pub mod generate;
pub mod get;
pub mod hold;
pub mod import;
mod live;
mod manual;
pub mod metrics;
mod nixos;
pub mod refresh;
pub mod reload;
pub mod remove;
pub mod resolve;
pub mod run_program;
pub mod schema;
pub mod secrets;
pub mod serve;
pub mod status;
mod templates;
pub mod token;
mod unit_lines;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use common::text::{Wrapping, width};

/// The meaning of the exit codes of all verbs.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong command line, 3 permission denied";

/// A credential provider for systemd: units get their secrets from 1Password.
#[derive(Debug, clap::Parser)]
#[command(name = "onecred", version, about, max_term_width = 80, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show service health and problems
    #[command(
        after_help = "Exit codes: 0 all is well, 1 units are or may be refused (a secret fails, a source can't be used, a socket is stopped, the configuration can't be used), or onecred can't be reached, 2 wrong command line, 3 permission denied"
    )]
    Status(status::StatusArgs),
    /// List secrets, templates and rules, and the state of each
    #[command(after_help = EXIT_CODES)]
    List(secrets::ListArgs),
    /// Show whether a unit would start now with a credential, and if not, why
    ///
    /// Examines the unit's settings as systemd has loaded them, and predicts onecred's answer. Looks up values
    /// that are not in memory in 1Password, as a start would. Does not start the unit.
    #[command(
        after_help = "Exit codes: 0 it would start with the credential, 1 it would not, or the outcome is unknown, 2 wrong command line, 3 permission denied"
    )]
    Explain(explain::ExplainArgs),
    /// Write a secret's value to standard output
    #[command(after_help = EXIT_CODES)]
    Get(get::GetArgs),
    /// Look up secrets in 1Password now
    #[command(
        after_help = "Exit codes: 0 all are up to date, 1 some failed, or onecred can't be reached, 2 wrong command line, 3 permission denied"
    )]
    Refresh(refresh::RefreshArgs),
    /// Print metrics for Prometheus
    #[command(after_help = EXIT_CODES)]
    Metrics(metrics::MetricsArgs),
    /// Declare a secret, and make units request it
    #[command(
        after_help = "Exit codes: 0 written, or already present, 1 nothing was written, 2 wrong command line"
    )]
    Add(add::AddArgs),
    /// Undo onecred add: remove a secret and the drop-ins of its units
    #[command(
        after_help = "Exit codes: 0 removed, 1 nothing was removed, or not all of it (run it again), 2 wrong command line"
    )]
    Remove(remove::RemoveArgs),
    /// Check the configuration and report every problem
    #[command(
        after_help = "Exit codes: 0 fine, 1 something is wrong, 2 wrong command line, 3 permission denied"
    )]
    Check(check::CheckArgs),
    /// Load the configuration again; if it has errors, the old one stays active
    #[command(after_help = EXIT_CODES)]
    Reload,
    /// Override a secret with a value from standard input, until it is released
    #[command(after_help = EXIT_CODES)]
    Put(hold::NameArgs),
    /// Override a secret with its previous value, until it is released
    #[command(after_help = EXIT_CODES)]
    Rollback(hold::NameArgs),
    /// Remove an override
    #[command(after_help = EXIT_CODES)]
    Release(hold::NameArgs),
    /// Execute a program with environment variables set from the unit's credentials
    #[command(after_help = run_program::AFTER_HELP)]
    Run(run_program::RunArgs),
    /// Convert the configuration of another program
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
    /// Run 1Password's SDK core; the resolver starts this itself
    #[command(hide = true)]
    CoreWorker,
    /// Print the JSON Schema of the configuration
    Schema,
    /// Serve credentials to units (the provider; started by onecred.socket)
    Serve(serve::ServeArgs),
    /// Resolve references in 1Password for the provider (started by onecred-resolver.socket)
    Resolve(resolve::ResolveArgs),
    /// List what a shell can insert for the last word
    #[command(hide = true)]
    Complete(complete::CompleteArgs),
    /// Write man pages or completions
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

/// Runs a verb. Returns the exit code, see `EXIT_CODES`.
pub fn run(cli: Cli) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut err = Wrapping::new(io::stderr(), width(&io::stderr()));
    let result: Result<u8, Box<dyn Error>> = match cli.verb {
        Verb::Serve(args) => serve::run(args).map(|()| 0),
        Verb::Resolve(args) => resolve::run(args).map(|()| 0),
        Verb::Status(args) => status::run(&args, &mut out),
        Verb::List(args) => secrets::list(&args, &mut out).map(|()| 0),
        Verb::Explain(args) => explain::run(&args, &mut out),
        Verb::Refresh(args) => refresh::run(&args, &mut out, &mut err),
        Verb::Metrics(args) => metrics::run(&args, &mut out).map(|()| 0),
        Verb::Add(args) => add::run(&args, &mut out, &mut err).map(|()| 0),
        Verb::Remove(args) => remove::run(&args, &mut out, &mut err).map(|()| 0),
        Verb::Reload => reload::run(&mut out).map(|()| 0),
        Verb::Put(args) => hold::put(&args, &mut out, &mut err).map(|()| 0),
        Verb::Rollback(args) => hold::rollback(&args, &mut out, &mut err).map(|()| 0),
        Verb::Release(args) => hold::release(&args, &mut out).map(|()| 0),
        Verb::Complete(args) => complete::run(&args, &mut out).map(|()| 0).map_err(Into::into),
        Verb::Generate(args) => generate::run(&args).map(|()| 0),
        Verb::Check(args) => check::run(&args, &mut out, &mut err),
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
        // the reader of the pipe has seen enough
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(err, "onecred: {error}");
            match error.downcast_ref::<bus::Fault>().is_some_and(bus::Fault::is_not_authorized) {
                true => ExitCode::from(3),
                false => ExitCode::FAILURE,
            }
        }
    }
}

pub mod creds_socket;
#[cfg(test)]
mod docs_tests;
mod source_files;
#[cfg(test)]
mod tests;
