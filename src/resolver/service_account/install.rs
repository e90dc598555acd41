//! Support for installing the SDK core: identifies the release of a library, and tests whether a worker can
//! load it.

use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::time::Instant;

use super::worker::{Ask, Launch, Told, Wanted, Work, Worker, WorkerError};
use super::{PLACES, releases, verdict};
use crate::resolver::service_account::sdk::{fits_this_machine, sha256};

pub use super::LIBRARY;

/// How long a worker may take to load the library.
const LOADING: Duration = Duration::from_secs(20);

/// The identity of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// The release with this SHA-256, if it is known.
    pub version: Option<&'static str>,
}

/// Identifies a library by its content.
///
/// # Errors
///
/// Returns the reason if it is not a library for this machine.
pub fn sum(library: &[u8]) -> Result<Sum, String> {
    fits_this_machine(library)?;
    let sha256 = sha256(library);
    Ok(Sum { version: releases::release(&sha256), sha256 })
}

/// Whether the resolver searches this directory for the library by default.
pub fn is_looked_for_in(dir: &Path) -> bool {
    PLACES.iter().any(|place| Path::new(place) == dir)
}

/// Why a library did not pass the test.
#[derive(Debug)]
pub enum Trial {
    /// It is not the SDK core, or onecred does not know how to call it.
    Refused(String),
    /// The test could not be made.
    NotTried(String),
}

/// Loads a library in a worker, as the resolver would. Its contract version and checksums must be known. Its
/// code never runs as root or as the resolver's user, which has a token: the worker runs as `nobody`, without
/// a network.
pub fn try_out(library: &Path, sha256: &str) -> Result<(), Trial> {
    try_out_by(library, sha256, Launch::default())
}

pub(super) fn try_out_by(library: &Path, sha256: &str, launch: Launch) -> Result<(), Trial> {
    let not_tried = |why: std::io::Error| Trial::NotTried(why.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(not_tried)?;
    let euid = geteuid();
    let (launch, owner) = match euid.is_root() {
        true => (launch.for_a_stranger(), None),
        false => (launch.for_a_stranger(), Some(euid.as_raw())),
    };
    let wanted = Wanted { paths: vec![library.into()], sha256: Some(sha256.into()), owner };
    let outcome = runtime.block_on(async {
        let worker = Worker::start(&launch).map_err(not_tried)?;
        match worker.ask(Ask::Load(wanted), None, Instant::now() + LOADING).await {
            Ok(answer) if matches!(answer.told, Told::Loaded { .. }) => Ok(()),
            Ok(_) => Err(Trial::NotTried("the worker gave another answer".into())),
            Err(WorkerError::Refused(refused)) => Err(Trial::Refused(verdict::of("", "", &refused).0.cause)),
            Err(WorkerError::Died(why)) => {
                Err(Trial::Refused(format!("the library does not work on this machine: {why}")))
            }
            Err(WorkerError::Late) => Err(Trial::Refused("the library does not load within 20 s".into())),
        }
    });
    runtime.shutdown_background();
    outcome
}
