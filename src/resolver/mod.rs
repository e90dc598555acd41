//! The resolver process, which has the network and the tokens. It knows references and 1Password, but not
//! units or files.
//!
//! Each question names a source. A source is an `engine` over a `backend`: a service account, a Connect
//! server or a vault file. `items` interprets references and fields without I/O, so a reference has the same
//! meaning in every source.

mod backend;
mod ca_file;
mod call_limit;
mod connect;
mod engine;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/rules/resolver.rs"]
pub(crate) mod fuzz;
mod items;
mod payer;
mod ready_line;
mod record;
mod registry;
pub mod run;
pub mod service_account;
mod shares;
mod vault_file;

pub use crate::host::calendar::date_of_unix;
pub use ca_file::examine as examine_ca_file;
pub use call_limit::CallLimit;
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
pub use vault_file::examine as examine_vault_file;

use crate::config::Source;
use crate::domain::name::{CredentialId, SourceName};
use crate::domain::secret::SecretValue;
use crate::host::calendar;
use crate::ipc::{
    Check, Checked, Class, Declarations, Failure, Fetch, Fetched, Pending, Probe, Probed, Resolve, Status,
};

use connect::Claims;
use registry::{Opened, Print};
use service_account::Surroundings;

/// All sources of a configuration.
#[derive(Default)]
pub struct Resolver {
    sources: BTreeMap<SourceName, Arc<Opened>>,
    /// The definitions of the sources, to try other tokens.
    definitions: BTreeMap<SourceName, Source>,
    surroundings: Surroundings,
}

impl Resolver {
    /// Prepares the sources without any calls. `tokens` returns a systemd credential of the resolver's unit
    /// by its name. A source that cannot be used fails each question to it, and does not affect the others.
    pub fn new(
        sources: &BTreeMap<SourceName, Source>,
        tokens: impl Fn(&CredentialId) -> Option<SecretValue>,
    ) -> Self {
        Self::within(sources, tokens, &Surroundings::default())
    }

    /// Like [`Resolver::new`], but with the given surroundings.
    pub fn within(
        sources: &BTreeMap<SourceName, Source>,
        tokens: impl Fn(&CredentialId) -> Option<SecretValue>,
        surroundings: &Surroundings,
    ) -> Self {
        Self { surroundings: surroundings.clone(), ..Self::default() }.renewed(sources, tokens)
    }

    /// Like [`Resolver::within`], but after the configuration or the tokens were read again. Sources that did
    /// not change are kept, with all that they have learned; sources that could not be used are tried again.
    pub fn renewed(
        &self,
        sources: &BTreeMap<SourceName, Source>,
        tokens: impl Fn(&CredentialId) -> Option<SecretValue>,
    ) -> Self {
        let open = |(name, source): (&SourceName, &Source)| {
            let print = Print::of(source, &tokens);
            let before = self.sources.get(name).filter(|before| before.is_good_for(&print)).map(Arc::clone);
            let open = || Arc::new(Opened::open(name, source, &tokens, &self.surroundings, print));
            (name.clone(), before.unwrap_or_else(open))
        };
        Self {
            sources: sources.iter().map(open).collect(),
            definitions: sources.clone(),
            surroundings: self.surroundings.clone(),
        }
    }

    /// Opens a source with another token than the configured one.
    fn with_token(&self, name: &SourceName, token: &SecretValue) -> Result<Opened, Failure> {
        self.source(name)?;
        // exposed: the token is used as if it were configured
        let token = |_: &CredentialId| Some(SecretValue::new(token.expose().to_vec()));
        match self.definitions.get(name) {
            Some(source) => {
                let print = Print::of(source, &token);
                Ok(Opened::open(name, source, &token, &self.surroundings, print))
            }
            None => Err(undeclared(name)),
        }
    }

    /// The state of the sources.
    fn about(&self) -> Status {
        Status { sources: self.sources.iter().map(|(name, source)| source.about(name)).collect() }
    }

    fn source(&self, name: &SourceName) -> Result<&Opened, Failure> {
        self.sources.get(name).map(Arc::as_ref).ok_or_else(|| undeclared(name))
    }
}

fn undeclared(name: &SourceName) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("the resolver has no source {name}"),
        "declare it in the configuration and restart onecred-resolver.service",
    )
}

impl Resolve for Resolver {
    fn fetch(&self, fetch: Fetch) -> Pending<'_, Fetched> {
        match self.source(&fetch.source) {
            Ok(source) => source.fetch(fetch),
            Err(failure) => Box::pin(ready(Err(failure))),
        }
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        match self.source(&check.source) {
            Ok(source) => source.check(check),
            Err(failure) => Box::pin(ready(Err(failure))),
        }
    }

    fn probe(&self, probe: Probe, token: Option<SecretValue>) -> Pending<'_, Probed> {
        Box::pin(async move {
            match token {
                Some(token) => self.with_token(&probe.source, &token)?.probe(probe, None).await,
                None => self.source(&probe.source)?.probe(probe, None).await,
            }
        })
    }

    fn status(&self, _prints: Declarations) -> Pending<'_, Status> {
        Box::pin(ready(Ok(self.about())))
    }
}

/// Whether a token has the form of a Connect token.
pub fn looks_like_connect(token: &SecretValue) -> bool {
    Claims::read(token).is_some()
}

#[cfg(test)]
mod status_tests;
#[cfg(test)]
mod vectors_tests;
