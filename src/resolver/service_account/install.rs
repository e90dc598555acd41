//! What installing the core needs to know of it: which release a library is, and whether a worker takes it.

use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::time::Instant;

use super::worker::{Ask, Launch, Told, Trouble, Wanted, Work, Worker};
use super::{PLACES, releases, verdict};
use crate::resolver::service_account::sdk::{fits_this_machine, sha256};

pub use super::LIBRARY;

/// How long a worker may take to load the core.
const LOADING: Duration = Duration::from_secs(20);

/// Which library some bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The release that has it, if any is known.
    pub version: Option<&'static str>,
}

/// Looks at a library's bytes.
///
/// # Errors
/// Where it is no library for this machine: why.
pub fn sum(library: &[u8]) -> Result<Sum, String> {
    fits_this_machine(library)?;
    let sha256 = sha256(library);
    Ok(Sum { version: releases::release(&sha256), sha256 })
}

/// Whether the resolver looks for the core in this directory by itself.
pub fn is_looked_for_in(dir: &Path) -> bool {
    PLACES.iter().any(|place| Path::new(place) == dir)
}

/// Why a library was not found good.
#[derive(Debug)]
pub enum Trial {
    /// It is not the core, or not one that is known how to use.
    Refused(String),
    /// There was no way to try.
    NotTried(String),
}

/// Has a worker load a library, as the resolver would: its contract version and checksums have to be known. Its code never runs as
/// root nor as the resolver's user, who has a token: the worker is nobody's process, without a network.
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
            Err(Trouble::Refused(refused)) => Err(Trial::Refused(verdict::of("", "", &refused).0.cause)),
            Err(Trouble::Died(why)) => {
                Err(Trial::Refused(format!("the library does not work on this machine: {why}")))
            }
            Err(Trouble::Late) => Err(Trial::Refused("the library does not load within 20 s".into())),
        }
    });
    runtime.shutdown_background();
    outcome
}
