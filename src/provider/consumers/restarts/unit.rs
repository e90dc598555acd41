//! The credentials in a unit's loaded settings, and whether the unit would get them all if it started now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Restarts;
use super::pending::{Activity, Problem};
use crate::domain::name::{Claim, CredentialId, UnitName};
use crate::domain::policy::Deliverable;
use crate::host::clock::BootTime;
use crate::host::systemd::manager::{Link, exec_interface};
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::asker::Asker;
use crate::provider::base::limits::Form;
use crate::provider::base::refusal::Refusal;
use crate::provider::fetch::broker::Broker;
use crate::provider::fetch::preview;
use crate::provider::fetch::start::{Fit, Predicted, Start};
use crate::provider::publish::Handle;

const PLAIN: &str = "/run/onecred/credential.sock";
const SEALED: &str = "/run/onecred/sealed.sock";
/// The credential ID with which handles request files.
const FILE: &str = "file";
/// The settings of other units that make systemd restart them with a unit, as the unit has them.
const DEPENDENTS: [&str; 4] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"];
/// The maximum number of units that are judged with a unit.
const MOST_DEPENDENTS: usize = 64;

/// The settings of a unit that provide credentials, as on D-Bus: IDs with paths or values.
#[derive(Debug, Default)]
struct Lines {
    load: Vec<(String, String)>,
    load_encrypted: Vec<(String, String)>,
    set: Vec<(String, Vec<u8>)>,
    /// Environment files, each with whether it may be missing.
    environment: Vec<(String, bool)>,
}

/// The credentials of a unit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Those that are requested from onecred, and whether at the sealed socket.
    requests: Vec<(String, bool)>,
    /// The sizes of others in bytes, if known.
    others: BTreeMap<String, usize>,
    /// Published files that do not exist: the credential, or [`FILE`] for an environment file, and the path.
    missing: Vec<(String, PathBuf)>,
}

/// What a path leads to, following symbolic links.
struct Found {
    path: PathBuf,
    /// Its size in bytes, if it is a regular file.
    size: Option<usize>,
}

impl Restarts {
    /// The IDs of the credentials that a unit's lines load from onecred.
    pub async fn loaded_by(&self, active: &Arc<ActiveConfig>, unit: &UnitName) -> zbus::Result<Vec<String>> {
        let credentials = Credentials::read(&self.link, active, unit).await?;
        Ok(credentials.requests.into_iter().map(|(id, _)| id).collect())
    }
}

impl Credentials {
    /// Sorts the settings. `find` examines a path; `is_target` returns whether the configuration publishes a
    /// file there.
    fn of(lines: &Lines, find: impl Fn(&str) -> Option<Found>, is_target: impl Fn(&Path) -> bool) -> Self {
        let mut it = Self::default();
        let loads = lines.load.iter().map(|line| (line, true));
        for ((id, path), plain) in loads.chain(lines.load_encrypted.iter().map(|line| (line, false))) {
            if !path.starts_with('/') {
                continue; // from systemd's credential stores
            }
            let found = find(path);
            match found.as_ref().map(|found| found.path.as_path()) {
                Some(socket) if socket == Path::new(PLAIN) => it.requests.push((id.clone(), false)),
                Some(socket) if socket == Path::new(SEALED) => it.requests.push((id.clone(), true)),
                Some(_) => {
                    // the size of the content of an encrypted file is unknown
                    if let Some(size) = found.and_then(|found| found.size).filter(|_| plain) {
                        it.others.insert(id.clone(), size);
                    }
                }
                // others may be at paths that this process cannot see
                None if is_target(Path::new(path)) => it.missing.push((id.clone(), path.into())),
                None => {}
            }
        }
        let required = lines.environment.iter().filter(|(_, optional)| !optional).map(|(path, _)| path);
        let missing = required.filter(|path| is_target(Path::new(path)) && find(path).is_none());
        it.missing.extend(missing.map(|path| (FILE.to_owned(), path.into())));
        let loaded = |id: &String| lines.load.iter().chain(&lines.load_encrypted).any(|(line, _)| line == id);
        let set = lines.set.iter().filter(|(id, _)| !loaded(id));
        it.others.extend(set.map(|(id, value)| (id.clone(), value.len())));
        it
    }

    /// Reads the credentials of a unit.
    pub(super) async fn read(link: &Link, active: &Arc<ActiveConfig>, unit: &UnitName) -> zbus::Result<Self> {
        let Some(interface) = exec_interface(unit.suffix()) else { return Ok(Self::default()) };
        let section = interface.as_str().rsplit('.').next().unwrap_or_default();
        let properties = link.properties(unit.as_str(), section).await?;
        let lines = Lines {
            load: properties.get("LoadCredential").await?,
            load_encrypted: properties.get("LoadCredentialEncrypted").await?,
            set: properties.get("SetCredential").await?,
            environment: properties.get("EnvironmentFiles").await?,
        };
        let active = Arc::clone(active);
        // a file system may be slow
        let sorted = tokio::task::spawn_blocking(move || {
            Self::of(&lines, find, |path| {
                let settings = &active.settings;
                let secrets = settings.policy.secrets().filter_map(|secret| secret.target.as_ref());
                let templates = settings.templates.iter().filter_map(|template| template.target.as_ref());
                secrets.chain(templates).any(|target| target.path == path)
            })
        });
        sorted.await.map_err(|error| zbus::Error::Failure(error.to_string()))
    }

    /// Why the unit would not get all its credentials if it started now. With `look_up`, looks up in
    /// 1Password what is not in memory, as for a start.
    pub(super) async fn problem(
        &self,
        (broker, fit): (&Arc<Broker>, &dyn Fit),
        active: &ActiveConfig,
        unit: &UnitName,
        look_up: bool,
    ) -> Option<Problem> {
        if let Some((credential, path)) = self.missing.first() {
            let reason =
                format!("{} is not published; see: systemctl status 'onecred-file@*'", path.display());
            return Some(Problem::Refused(credential.clone(), reason));
        }
        let start = Start::new(broker, fit, Asker::Onecred);
        for (id, size) in &self.others {
            if let Ok(credential) = CredentialId::parse(id) {
                let claim = Claim { unit: unit.clone(), credential };
                let _ = start.totals.add(start.process, &claim, *size, BootTime::now());
            }
        }
        let mut problem = None;
        for (id, sealed) in &self.requests {
            let Ok(credential) = CredentialId::parse(id) else { continue };
            let claim = Claim { unit: unit.clone(), credential };
            let form = if *sealed { Form::Sealed } else { Form::Plain };
            if Handle::of(&claim).is_some() {
                continue;
            }
            let reason = reason(&start, active, &claim, form, look_up).await;
            problem = reason.map(|reason| Problem::Refused(id.clone(), reason));
            if problem.is_some() {
                break;
            }
            tokio::task::yield_now().await; // units that ask have priority
        }
        broker.forget(start.process);
        problem
    }
}

/// Why a restart would fail because of a published file that the unit requires: its handle has failed, or is
/// waiting.
pub(super) async fn handle_problem(link: &Link, unit: &str) -> zbus::Result<Option<Problem>> {
    let properties = link.properties(unit, "Unit").await?;
    for setting in ["Requires", "Requisite", "BindsTo"] {
        for needed in properties.get::<Vec<String>>(setting).await? {
            if UnitName::parse(&needed).ok().and_then(|unit| Handle::of_unit(&unit)).is_none() {
                continue;
            }
            let state: String = link.properties(&needed, "Unit").await?.get("ActiveState").await?;
            if state == "failed" || state == "activating" {
                let reason =
                    format!("it requires {needed}, which is {state}; see: systemctl status {needed}");
                return Ok(Some(Problem::Refused(FILE.to_owned(), reason)));
            }
        }
    }
    Ok(None)
}

/// The running units that systemd restarts together with this one.
pub(super) async fn restarted_with(link: &Link, unit: &str) -> zbus::Result<Vec<String>> {
    let mut known = BTreeSet::from([unit.to_owned()]);
    let (mut running, mut next) = (Vec::new(), vec![unit.to_owned()]);
    while let Some(unit) = next.pop() {
        let properties = link.properties(&unit, "Unit").await?;
        for setting in DEPENDENTS {
            for dependent in properties.get::<Vec<String>>(setting).await? {
                if running.len() >= MOST_DEPENDENTS || !known.insert(dependent.clone()) {
                    continue;
                }
                let state: String = link.properties(&dependent, "Unit").await?.get("ActiveState").await?;
                if Activity::of(&state) != Activity::Ended {
                    running.push(dependent.clone());
                    next.push(dependent);
                }
            }
        }
    }
    Ok(running)
}

fn find(path: &str) -> Option<Found> {
    let path = std::fs::canonicalize(path).ok()?;
    let metadata = std::fs::metadata(&path).ok()?;
    let size = metadata.is_file().then(|| usize::try_from(metadata.len()).unwrap_or(usize::MAX));
    Some(Found { path, size })
}

/// Why a request would be refused.
async fn reason(
    start: &Start<'_>,
    active: &ActiveConfig,
    claim: &Claim,
    form: Form,
    look_up: bool,
) -> Option<String> {
    let Claim { unit, credential } = claim;
    let in_words = |refusal: &Refusal| {
        format!("{}; {}", refusal.cause(unit, credential), refusal.remedy(unit, credential))
    };
    if let Some(error) = &active.error {
        return Some(in_words(&Refusal::Unconfigured(error.clone())));
    }
    let what: Deliverable = match active.settings.policy.judge(unit, credential) {
        Ok(what) => what,
        Err(denial) => return Some(in_words(&Refusal::Denied(denial))),
    };
    let Predicted { result, .. } = start.answer(&what, claim, form, look_up).await;
    match result {
        Some(Ok(_)) => None,
        Some(Err(refusal)) => Some(in_words(&refusal)),
        None => of_memory(start, claim, form, &what),
    }
}

/// Why a request would be refused according to what is in memory, of any age: the size of the value, and the
/// last failure.
fn of_memory(start: &Start<'_>, claim: &Claim, form: Form, what: &Deliverable) -> Option<String> {
    let preview = preview::of(start.broker, what, form, std::slice::from_ref(&claim.credential));
    if let Some(why) = preview.refusal {
        return Some(why.text);
    }
    let size = preview.size?;
    let others = start.totals.add(start.process, claim, size, BootTime::now()).err()?;
    let refusal = Refusal::TooLargeTogether { what: what.references(), size, others };
    let Claim { unit, credential } = claim;
    Some(format!("{}; {}", refusal.cause(unit, credential), refusal.remedy(unit, credential)))
}

#[cfg(test)]
mod tests;
