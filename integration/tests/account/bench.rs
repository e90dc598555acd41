//! The environment of the cases: a fake service, and a resolver with the SDK core.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use onecred::config::{ServiceAccount, Source, SourceKind};
use onecred::domain::name::{CredentialId, SourceName};
use onecred::domain::reference::Reference;
use onecred::domain::secret::SecretValue;
use onecred::ipc::{Check, Failure, Fetch, Fetched, ItemState, Known, Resolve};
use onecred::resolver::Resolver;
use onecred::resolver::service_account::{Leniency, Surroundings};
use onecred_integration::fake_account::{FakeAccount, Options};

pub(crate) const DB: &str = "op://My Vault/db/password";

static CORE: OnceLock<PathBuf> = OnceLock::new();

/// Sets the path of the SDK core. Returns the reason if it is missing.
pub(crate) fn find_core(core: Result<PathBuf, String>) -> Option<String> {
    core.map(|path| drop(CORE.set(path))).err()
}

pub(crate) fn fake() -> FakeAccount {
    FakeAccount::start(Options::default()).unwrap()
}

pub(crate) fn configured() -> ServiceAccount {
    ServiceAccount { library: CORE.get().cloned(), ..ServiceAccount::default() }
}

pub(crate) fn resolver(fake: &FakeAccount) -> Resolver {
    resolver_with(configured(), Some(fake.control.token().unwrap()))
}

/// A resolver that sends tokens only to this host, over plain HTTP if the token demands it.
pub(crate) fn resolver_with(configured: ServiceAccount, token: Option<String>) -> Resolver {
    let owner = Some(nix::unistd::geteuid().as_raw());
    open(configured, token, &Leniency { owner, insecure_loopback: true })
}

pub(crate) fn open(configured: ServiceAccount, token: Option<String>, leniency: &Leniency) -> Resolver {
    let token = |_: &CredentialId| token.as_ref().map(|token| SecretValue::new(token.clone().into_bytes()));
    let surroundings = Surroundings { leniency: leniency.clone(), ..Surroundings::default() };
    Resolver::within(&source(configured), token, &surroundings)
}

/// The sources of a configuration with this one.
pub(crate) fn source(configured: ServiceAccount) -> BTreeMap<SourceName, Source> {
    let kind = SourceKind::ServiceAccount(configured);
    let token = CredentialId::parse("token").unwrap();
    BTreeMap::from([(SourceName::default_source(), Source { kind, token, declared_at: "here:1".into() })])
}

/// Runs a case's future as the resolver runs its own.
pub(crate) fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(case);
    runtime.shutdown_background();
}

pub(crate) fn ask(reference: &str) -> Fetch {
    let Reference { item, field } = Reference::parse(reference).unwrap();
    let source = SourceName::default_source();
    Fetch {
        source,
        print: String::new(),
        definition: None,
        item,
        known: None,
        version: None,
        fields: vec![field],
        look_again: None,
        asker: Default::default(),
        patience: Duration::from_secs(20),
    }
}

pub(crate) async fn value(resolver: &Resolver, reference: &str) -> Result<String, Failure> {
    let mut fetched = resolver.fetch(ask(reference)).await?;
    let found = fetched.fields.pop().unwrap()?;
    Ok(String::from_utf8_lossy(found.value.expose()).into_owned())
}

pub(crate) fn known(fetch: &Fetch, fetched: &Fetched) -> Known {
    let Fetched { id, version, vault_version, .. } = fetched;
    Known { item: fetch.item.clone(), id: id.clone(), version: *version, vault_version: *vault_version }
}

pub(crate) async fn check(resolver: &Resolver, items: &[Known]) -> Result<Vec<ItemState>, Failure> {
    let source = SourceName::default_source();
    let question = Check {
        source,
        print: String::new(),
        definition: None,
        items: items.to_vec(),
        asker: Default::default(),
        patience: Duration::from_secs(20),
    };
    Ok(resolver.check(question).await?.items)
}
