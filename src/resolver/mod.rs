//! The networked half: it knows references and 1Password, nothing of units or files.
//!
//! A question names a source. Each source is an `engine` over a `backend`: a service account, a Connect
//! server or a development vault. What
//! a reference means is decided in `matching`, what a field resolves to in `value`; both are pure, so that a reference
//! means one thing wherever it is looked up.

mod backend;
mod calendar;
mod connect;
mod engine;
mod matching;
mod model;
mod nearest;
mod otp;
pub mod run;
pub mod service_account;
mod ssh;
mod value;
mod vault_file;

pub use calendar::date_of_unix;
use std::collections::BTreeMap;
use std::future::ready;

use crate::config::{Source, SourceKind};
use crate::name::{CredentialId, SourceName};
use crate::secret::SecretValue;
use crate::wire::{Check, Checked, Class, Failure, Fetch, Fetched, Pending, Probe, Probed, Resolve};

use connect::{Address, Claims, Connect};
use engine::Engine;
use service_account::{ServiceAccount, Surroundings};
use vault_file::VaultFile;

/// All sources of a configuration.
#[derive(Default)]
pub struct Resolver {
    sources: BTreeMap<SourceName, Box<dyn Resolve>>,
    /// What a source is opened from, should another token be tried.
    definitions: BTreeMap<SourceName, Source>,
    surroundings: Surroundings,
}

impl Resolver {
    /// Makes the sources ready; nothing is asked yet. `tokens` gives the content of a systemd credential of the resolver's
    /// unit. A source that can't work says so to whoever asks it, and leaves the others alone.
    pub fn new(
        sources: &BTreeMap<SourceName, Source>,
        tokens: impl Fn(&CredentialId) -> Option<SecretValue>,
    ) -> Self {
        Self::within(sources, tokens, &Surroundings::default())
    }

    /// The same in other surroundings.
    pub fn within(
        sources: &BTreeMap<SourceName, Source>,
        tokens: impl Fn(&CredentialId) -> Option<SecretValue>,
        surroundings: &Surroundings,
    ) -> Self {
        let open = |(name, source)| {
            let opened = open(name, source, &tokens, surroundings);
            (SourceName::clone(name), opened.unwrap_or_else(|failure| Box::new(Refused(failure))))
        };
        Self {
            sources: sources.iter().map(open).collect(),
            definitions: sources.clone(),
            surroundings: surroundings.clone(),
        }
    }

    /// A source with another token than the one in place.
    fn with_token(&self, name: &SourceName, token: &SecretValue) -> Result<Box<dyn Resolve>, Failure> {
        self.source(name)?;
        // the token itself: it is tried as if it were in place
        let token = |_: &CredentialId| Some(SecretValue::new(token.expose().to_vec()));
        match self.definitions.get(name) {
            Some(source) => open(name, source, &token, &self.surroundings),
            None => Err(undeclared(name)),
        }
    }

    fn source(&self, name: &SourceName) -> Result<&dyn Resolve, Failure> {
        self.sources.get(name).map(Box::as_ref).ok_or_else(|| undeclared(name))
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
}

/// A source as its kind wants it.
fn open(
    name: &SourceName,
    source: &Source,
    tokens: &dyn Fn(&CredentialId) -> Option<SecretValue>,
    surroundings: &Surroundings,
) -> Result<Box<dyn Resolve>, Failure> {
    let token = || tokens(&source.token).as_ref().and_then(trimmed).ok_or_else(|| no_token(name, source));
    Ok(match &source.kind {
        SourceKind::File { path } => Box::new(Engine::new(VaultFile::new(path.clone()))),
        SourceKind::Connect { url, insecure, ca_file } => {
            let address = Address { url: url.clone(), insecure: *insecure, ca_file: ca_file.clone() };
            Box::new(Engine::new(Connect::new(address, &token()?)?))
        }
        SourceKind::ServiceAccount(configured) => {
            Box::new(ServiceAccount::new(name.as_str(), configured, &token()?, surroundings)?)
        }
    })
}

/// There is no token yet: a state that ends when one is set, since the resolver is started anew then.
fn no_token(name: &SourceName, source: &Source) -> Failure {
    let cause = format!("source {name} has none: the credential {} is missing or empty", source.token);
    let remedy = match *name == SourceName::default_source() {
        true => "run: onecred token set".to_owned(),
        false => format!("run: onecred token set --source {name}"),
    };
    Failure::new(Class::NoToken, cause, remedy)
}

/// Whether a token is of the form that those of Connect servers have.
pub fn looks_like_connect(token: &SecretValue) -> bool {
    Claims::read(token).is_some()
}

/// A token without the white space that files end in; none if nothing is left.
fn trimmed(token: &SecretValue) -> Option<SecretValue> {
    // the token itself: the client needs it without what a file has around it
    let token = token.expose().trim_ascii();
    (!token.is_empty()).then(|| SecretValue::new(token.to_vec()))
}

/// A source that can't work, for a reason that is known from the start.
struct Refused(Failure);

impl Resolve for Refused {
    fn fetch(&self, _fetch: Fetch) -> Pending<'_, Fetched> {
        Box::pin(ready(Err(self.0.clone())))
    }

    fn check(&self, _check: Check) -> Pending<'_, Checked> {
        Box::pin(ready(Err(self.0.clone())))
    }

    fn probe(&self, _probe: Probe, _token: Option<SecretValue>) -> Pending<'_, Probed> {
        Box::pin(ready(Err(self.0.clone())))
    }
}

#[cfg(test)]
mod vectors_tests;
