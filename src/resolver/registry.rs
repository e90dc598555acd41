//! An open source: its backend and its state.

use std::future::ready;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::connect::{Address, Connect};
use super::engine::Engine;
use super::record::{Counted, Record};
use super::service_account::{self, Quota, ServiceAccount, Surroundings};
use super::shares;
use super::vault_file::VaultFile;
use crate::config::{Source, SourceKind};
use crate::domain::name::{CredentialId, SourceName};
use crate::domain::secret::SecretValue;
use crate::host::clock::BootTime;
use crate::ipc::{
    Check, Checked, Class, Failure, Fetch, Fetched, Pending, Probe, Probed, Resolve, SourceState,
    SourceStatus,
};

/// All that a source is opened from, to detect changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Print {
    definition: String,
    /// A digest of the token.
    token: Option<[u8; 32]>,
    /// The files that the definition names, by attributes that change with their content.
    files: Vec<Option<Stamp>>,
}

type Stamp = (u64, u64, i64, i64, u64);

impl Print {
    pub(super) fn of(source: &Source, tokens: &dyn Fn(&CredentialId) -> Option<SecretValue>) -> Self {
        let files = match &source.kind {
            SourceKind::File { .. } => Vec::new(), // the file is read again for every question
            SourceKind::Connect { ca_file, .. } => ca_file.iter().cloned().collect(),
            SourceKind::ServiceAccount(configured) => service_account::files(configured),
        };
        // exposed: to compute a digest
        let digest =
            |token: SecretValue| ring::digest::digest(&ring::digest::SHA256, token.expose().trim_ascii());
        let token = tokens(&source.token).and_then(|token| digest(token).as_ref().try_into().ok());
        Self { definition: source.print(), token, files: files.iter().map(|path| stamp(path)).collect() }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.dev(), about.ino(), about.ctime(), about.ctime_nsec(), about.len()))
}

pub(super) struct Opened {
    resolve: Box<dyn Resolve>,
    kind: &'static str,
    print: Print,
    record: Arc<Record>,
    /// Its quota, if calls are counted.
    quota: Option<Arc<Quota>>,
    /// Why it cannot be used.
    refused: Option<Failure>,
    /// The file that is read for each question, if the source is a vault file.
    file: Option<VaultFile>,
}

impl Opened {
    /// Prepares a source without any calls. A source that cannot be used fails each question.
    pub(super) fn open(
        name: &SourceName,
        source: &Source,
        tokens: &dyn Fn(&CredentialId) -> Option<SecretValue>,
        surroundings: &Surroundings,
        print: Print,
    ) -> Self {
        let kind = match &source.kind {
            SourceKind::ServiceAccount(_) => "service-account",
            SourceKind::Connect { .. } => "connect",
            SourceKind::File { .. } => "file",
        };
        let file = match &source.kind {
            SourceKind::File { path } => Some(VaultFile::new(path.clone())),
            _ => None,
        };
        let record = Arc::<Record>::default();
        match working(name, source, tokens, surroundings, &record) {
            Ok((resolve, quota)) => Self { resolve, kind, print, record, quota, refused: None, file },
            Err(failure) => Self {
                resolve: Box::new(Refused(failure.clone())),
                kind,
                print,
                record,
                quota: None,
                refused: Some(failure),
                file,
            },
        }
    }

    /// Whether this source can be kept instead of opening it again from `print`. A source that cannot be used
    /// is always opened again.
    pub(super) fn is_good_for(&self, print: &Print) -> bool {
        let refused = self.refused.is_some() || self.record.entries().state() == SourceState::Refused;
        !refused && self.print == *print
    }

    /// The state of the source.
    pub(super) fn about(&self, name: &SourceName) -> SourceStatus {
        let entries = self.record.entries();
        let quota = self.quota.as_ref().map(|quota| quota.status());
        let spenders = match &self.quota {
            Some(quota) => quota.spenders(),
            None => entries.shares.top(shares::SHOWN, BootTime::now()),
        };
        // a file that was deleted or damaged is reported before the next question
        let refused = self.refused.clone().or_else(|| self.file.as_ref()?.examine().err());
        let state = match &refused {
            Some(failure) if failure.class == Class::NoToken => SourceState::NoToken,
            Some(_) => SourceState::Refused,
            None if quota.as_ref().is_some_and(|quota| quota.limited_until.is_some()) => SourceState::Limited,
            None => entries.state(),
        };
        SourceStatus {
            name: name.clone(),
            print: self.print.definition.clone(),
            kind: self.kind.to_owned(),
            state,
            last_failure: refused.or(entries.last_failure),
            last_success: entries.last_success,
            calls: entries.calls,
            quota,
            spenders,
            core: entries.core,
        }
    }
}

impl std::ops::Deref for Opened {
    type Target = dyn Resolve;

    fn deref(&self) -> &Self::Target {
        &*self.resolve
    }
}

/// A backend, and its quota if calls are counted.
type Working = (Box<dyn Resolve>, Option<Arc<Quota>>);

/// Opens a backend by the type of the source.
fn working(
    name: &SourceName,
    source: &Source,
    tokens: &dyn Fn(&CredentialId) -> Option<SecretValue>,
    surroundings: &Surroundings,
    record: &Arc<Record>,
) -> Result<Working, Failure> {
    let token = || tokens(&source.token).as_ref().and_then(trimmed).ok_or_else(|| no_token(name, source));
    let record = Arc::clone(record);
    Ok(match &source.kind {
        SourceKind::File { path } => {
            (Box::new(Engine::new(Counted::new(VaultFile::new(path.clone()), record))), None)
        }
        SourceKind::Connect { url, insecure, users, ca_file } => {
            let address = Address {
                url: url.clone(),
                insecure: *insecure,
                users: users.clone(),
                ca_file: ca_file.clone(),
            };
            let connect = Connect::new(address, &token()?, surroundings.limit.clone())?;
            (Box::new(Engine::new(Counted::new(connect, record))), None)
        }
        SourceKind::ServiceAccount(configured) => {
            let account = ServiceAccount::new(name.as_str(), configured, &token()?, surroundings, record)?;
            let quota = account.quota();
            (Box::new(account), Some(quota))
        }
    })
}

/// The failure for a missing token. It ends when a token is set, because that restarts the resolver.
fn no_token(name: &SourceName, source: &Source) -> Failure {
    let cause = format!("source {name} has none: the credential {} is missing or empty", source.token);
    let remedy = match *name == SourceName::default_source() {
        true => "run: onecred token set".to_owned(),
        false => format!("run: onecred token set --source {name}"),
    };
    Failure::new(Class::NoToken, cause, remedy)
}

/// A token without surrounding whitespace, or `None` if it is empty.
fn trimmed(token: &SecretValue) -> Option<SecretValue> {
    // exposed: to remove surrounding whitespace
    let token = token.expose().trim_ascii();
    (!token.is_empty()).then(|| SecretValue::new(token.to_vec()))
}

/// A source that cannot be used, for a reason that is known when it is opened.
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
