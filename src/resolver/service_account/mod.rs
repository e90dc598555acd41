//! A service account: its token, and 1Password's SDK core in a worker process, which makes calls within a
//! budget.

mod backend;
mod batch;
mod book;
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/rules/service_account.rs"]
pub(crate) mod fuzz;
pub mod install;
mod items;
mod ledger;
mod quota;
mod raw;
mod releases;
mod sdk;
mod session;
mod token;
mod verdict;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use super::CallLimit;
use super::ca_file;
use super::engine::Engine;
use super::record::Record;
use crate::config::ServiceAccount as Configured;
use crate::domain::secret::SecretValue;
use crate::ipc::{Check, Checked, Class, Failure, Fetch, Fetched, Pending, Probe, Probed, Resolve};

pub use book::Book;
#[cfg(any(test, fuzzing))]
pub(crate) use book::fuzz::book as fuzz_book;
use ledger::Budget;
pub(super) use quota::Quota;
pub use raw::{RawAccount, Refusal};
use token::{Hosts, Token};
pub use worker::run as run_worker;
use worker::{Launch, Wanted, Work, Worker};

/// The directories that are searched for the library by default, those of packages first.
const PLACES: [&str; 4] =
    ["/usr/lib/onecred", "/usr/lib/x86_64-linux-gnu/onecred", "/usr/local/lib/onecred", "/var/lib/onecred"];
/// The file name of the SDK core's library.
pub const LIBRARY: &str = "libop_uniffi_core.so";

/// Checks that are relaxed in demos and tests.
#[derive(Debug, Clone, Default)]
pub struct Leniency {
    /// A user who may own the library besides root.
    pub owner: Option<u32>,
    /// Whether a token may be sent to this host, also over plain HTTP, to a fake of 1Password.
    pub insecure_loopback: bool,
}

/// What a source is opened with, besides its configuration and token.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The relaxed checks.
    pub leniency: Leniency,
    /// Where to record what is spent.
    pub book: Arc<Book>,
    /// The limit on the calls of all sources together.
    pub limit: CallLimit,
}

/// A source that uses a service account.
pub(super) struct ServiceAccount<W = Worker> {
    engine: Engine<backend::Account<W>>,
    quota: Arc<Quota>,
}

impl ServiceAccount {
    /// Prepares the source without any calls.
    pub(super) fn new(
        name: &str,
        configured: &Configured,
        token: &SecretValue,
        surroundings: &Surroundings,
        record: Arc<Record>,
    ) -> Result<Self, Failure> {
        Self::with(name, configured, token, surroundings, record, Launch::default())
    }
}

impl<W: Work> ServiceAccount<W> {
    fn with(
        name: &str,
        configured: &Configured,
        token: &SecretValue,
        surroundings: &Surroundings,
        record: Arc<Record>,
        launch: Launch,
    ) -> Result<Self, Failure> {
        let token = Token::read(token, &hosts(configured, &surroundings.leniency)).map_err(|bad| {
            let cause = format!("the token of source {name} is not used: {bad}");
            Failure::new(Class::Denied, cause, verdict::NEW_TOKEN).malformed_token()
        })?;
        if let Some(path) = &configured.ca_file {
            ca_file::examine(path)?;
        }
        let budget = Budget { per_day: configured.calls_per_day() };
        // another token may belong to another account, and is not limited yet
        let page = format!("{name} {}", token.fingerprint());
        let quota = Arc::new(
            Quota::new(budget, Arc::clone(&surroundings.book), page).within(surroundings.limit.clone()),
        );
        let account = session::Account {
            token,
            launch: launch.with(environment(configured)),
            library: wanted(configured, surroundings.leniency.owner),
            quota: Arc::clone(&quota),
            record,
        };
        let engine = Engine::new(backend::Account::new(session::Session::new(account)));
        Ok(Self { engine, quota })
    }

    /// The quota of the source.
    pub(super) fn quota(&self) -> Arc<Quota> {
        Arc::clone(&self.quota)
    }
}

impl<W: Work> Resolve for ServiceAccount<W> {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        self.engine.fetch(fetch)
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        Box::pin(async move {
            self.quota.admit_check(check.asker)?;
            self.engine.check(check).await
        })
    }

    fn probe(&self, probe: Probe, token: Option<SecretValue>) -> Pending<'_, Probed> {
        Box::pin(async move {
            let probed = self.engine.probe(probe, token).await?;
            Ok(Probed { spent: Some(self.quota.spent()), ..probed })
        })
    }
}

/// Parses a token without using it. Returns the host of its account, if the token may be sent there.
pub fn read_token(
    token: &SecretValue,
    configured: &Configured,
    leniency: &Leniency,
) -> Result<String, String> {
    let token = Token::read(token, &hosts(configured, leniency)).map_err(|bad| bad.to_string())?;
    Ok(token.host().to_owned())
}

fn hosts(configured: &Configured, leniency: &Leniency) -> Hosts {
    Hosts { allowed: configured.allowed_hosts.clone(), insecure_loopback: leniency.insecure_loopback }
}

fn wanted(configured: &Configured, owner: Option<u32>) -> Wanted {
    let paths = match &configured.library {
        Some(path) => vec![path.clone()],
        None => PLACES.iter().map(|place| PathBuf::from(place).join(LIBRARY)).collect(),
    };
    Wanted { paths, sha256: configured.library_sha256.clone(), owner }
}

/// The files that a source depends on: if the library or the certificate authorities change, a new worker is
/// needed.
pub(super) fn files(configured: &Configured) -> Vec<PathBuf> {
    let library = wanted(configured, None).paths;
    library.into_iter().chain(configured.ca_file.clone()).collect()
}

/// The complete environment of the worker: how to reach 1Password, according to the configuration.
fn environment(configured: &Configured) -> Vec<(OsString, OsString)> {
    let proxy = configured.proxy.as_ref().map(|proxy| ("HTTPS_PROXY".into(), proxy.into()));
    let authorities = configured.ca_file.as_ref().map(|file| ("SSL_CERT_FILE".into(), file.into()));
    proxy.into_iter().chain(authorities).collect()
}

#[cfg(test)]
mod day_tests;
#[cfg(test)]
mod greedy_tests;
#[cfg(test)]
mod tests;
