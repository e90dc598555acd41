//! `onecred status`: shows the health of the service, and its problems, on one screen.

mod screen;
mod source;

use std::error::Error;
use std::io::Write;

use serde::Serialize;

use self::screen::screen;
use self::source::SourceStatus;
use super::bus::{self, Bus, Fault};
use super::common::sockets::Socket;
use super::configuration::Configuration;
use super::secrets::{self, Listed};
use crate::cli::common::show::{self, Paint};
use crate::cli::creds_socket::{Finding, Level};
use crate::host::clock;
use crate::provider::publish;

/// The arguments of `onecred status`.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// The status.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: String,
    /// Why nothing is served, if the configuration or the store cannot be used.
    configuration_error: Option<String>,
    /// The relation between the active configuration and the files.
    configuration: Option<Configuration>,
    /// Why units are refused every secret at the sealed socket: the host key cannot be used.
    sealing_error: Option<String>,
    /// What is wrong with the keeper, which refuses open connections if the provider dies.
    keeper_error: Option<String>,
    /// Units that were refused, or depend on such a unit, and are started again. `None` if the provider is
    /// older or does not report it.
    recovery: Option<Recovery>,
    /// The units of onecred's sockets.
    sockets: Vec<Socket>,
    sources: Vec<SourceStatus>,
    secrets: Vec<Listed>,
    /// What is wrong with the socket through which hardened units decrypt sealed credentials.
    creds_socket: Option<Finding>,
    /// Roots whose files are still in a writable mount, and the consequence.
    writable_mounts: Vec<String>,
}

/// The progress of starting units again after an outage.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Recovery {
    /// How many must be started again.
    waiting: u32,
    /// How many were started again.
    started: u32,
}

impl Recovery {
    async fn ask(manager: &bus::ManagerProxy<'_>) -> Option<Self> {
        let waiting = manager.units_to_recover().await.ok()?;
        Some(Self { waiting, started: manager.units_recovered().await.ok()? })
    }

    /// `37 units were started again, 463 wait for their secrets`, unless there are none.
    fn line(&self) -> Option<String> {
        let units = |count| format!("{count} {}", if count == 1 { "unit waits" } else { "units wait" });
        match *self {
            Self { waiting: 0, .. } => None,
            Self { waiting, started: 0 } => Some(format!("{} to be started again", units(waiting))),
            Self { waiting, started } => {
                Some(format!("{} to be started again; {started} were already started", units(waiting)))
            }
        }
    }
}

/// Runs the verb. Returns the exit code: 1 if units that start now would be refused, or the configuration
/// files cannot be used.
pub fn run(args: &StatusArgs, out: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let status = bus::talk(ask)?;
    match args.json {
        true => show::json(out, &status)?,
        false => write!(out, "{}", screen(&status, clock::unix(), Paint::of_stdout()))?,
    }
    out.flush()?;
    Ok(u8::from(status.is_bad()))
}

impl Status {
    /// Whether units that start now would be refused, or may be refused if a value is not in memory.
    fn is_bad(&self) -> bool {
        self.configuration_error.is_some()
            || self.configuration.as_ref().is_some_and(Configuration::is_bad)
            || self.creds_socket.as_ref().is_some_and(|finding| finding.level == Level::Error)
            || self.sealing_error.is_some()
            || self.sockets.iter().any(|socket| !socket.listens())
            || self.sources.iter().any(|source| !source.is_fine())
            || failing(&self.secrets).next().is_some()
            || self.secrets.iter().any(|secret| !secret.withheld.is_empty())
    }
}

/// Names and error messages of the secrets that units cannot load.
fn failing(secrets: &[Listed]) -> impl Iterator<Item = (&str, &str)> {
    let failing = secrets.iter().filter(|secret| secret.state == "failing" || secret.is_unusable());
    failing.map(|secret| (secret.name.as_str(), secret.error.as_ref().map_or("", |error| &error.message)))
}

async fn ask(bus: Bus) -> Result<Status, Fault> {
    let manager = bus.manager().await?;
    // calls that may ask for a password first: later calls cannot ask
    let (secrets, nothing) = match secrets::all(&manager).await {
        Err(fault) if fault.is_misconfigured() => (Vec::new(), Some(fault.message)),
        listed => (listed?, None),
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let configuration_error = match manager.configuration_error().await.map_err(Fault::from) {
        Err(fault) if !fault.is_not_authorized() => return Err(fault),
        told => told.ok().and_then(some).or(nothing), // a unit sees only its own secrets
    };
    let configuration = Configuration::ask(&manager).await;
    let sealing_error = manager.sealing_error().await.ok().and_then(some);
    let keeper_error = manager.keeper_error().await.ok().and_then(some);
    let mut sources = Vec::new();
    for object in bus.sources().await? {
        let source = bus.source(&object).await?;
        match SourceStatus::of(&source).await {
            Ok(source) => sources.push(source),
            Err(fault) if !fault.is_not_authorized() => return Err(fault),
            Err(_) => {}
        }
    }
    let recovery = Recovery::ask(&manager).await;
    let (version, creds_socket) = (manager.version().await?, bus.creds_socket().await);
    let sockets = bus.sockets().await;
    Ok(Status {
        version,
        configuration_error,
        configuration,
        sealing_error,
        keeper_error,
        recovery,
        sockets,
        sources,
        secrets,
        creds_socket,
        writable_mounts: publish::old_mounts(),
    })
}

#[cfg(test)]
mod tests;
