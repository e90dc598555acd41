//! Predicts what a unit would receive if it started now, with the code that answers requests; and which units
//! a change would restart.

use std::collections::BTreeSet;
use std::sync::Arc;

use zbus::message::Header;
use zbus::{DBusError, Variant};

use super::arguments::{Names, Requests};
use super::dict::Dict;
use super::error::BusError;
use super::{Desk, answer};
use crate::config::Source;
use crate::domain::name::{BadName, Claim, CredentialId, UnitName};
use crate::domain::policy::Deliverable;
use crate::domain::secret::Wanted;
use crate::host::clock::BootTime;
use crate::ipc::Failure;
use crate::provider::base::asker::Asker;
use crate::provider::base::limits::Form;
use crate::provider::base::refusal::Refusal;
use crate::provider::dbus::authorization::Action;
use crate::provider::fetch::assemble::{self, Assembled, Job};
use crate::provider::fetch::start::{self, Start};
use crate::provider::publish::{Awaited, Handle};

/// The limit for one prediction: units have fewer credentials, and each may cost as much as a request.
const MOST: usize = 256;

/// Rejects predictions over the limit.
fn bounded(credentials: usize) -> Result<(), BusError> {
    if credentials <= MOST {
        return Ok(());
    }
    Err(BusError::InvalidArgument(format!(
        "{credentials} credentials are too many for one prediction: ask for at most {MOST} at a time"
    )))
}

/// One credential that a unit requests.
#[derive(Debug, Clone)]
struct Request {
    credential: CredentialId,
    form: Form,
}

/// The predicted answer.
#[derive(Debug, Default)]
struct Prediction {
    name: String,
    references: String,
    reason: String,
    /// `None` if it is not known.
    answer: Option<Result<Option<Failure>, Refusal>>,
    overrides: Vec<String>,
    target: String,
    fetched: bool,
    needs_network: bool,
    /// The size of the value in bytes, as systemd counts it.
    size: Option<usize>,
}

impl Desk {
    /// The units that a change of these secrets and templates would restart, reload or signal; all, if no
    /// names are given.
    pub(super) async fn affected(
        &self,
        Names(names): Names,
        header: &Header<'_>,
    ) -> Result<Vec<(String, String, String, String)>, BusError> {
        let (caller, active) = self.allow_of_active(Action::Inspect, header).await?;
        let is_unknown = |name: &&String| active.secret(name).is_none() && active.template(name).is_none();
        if let Some(unknown) = names.iter().find(is_unknown) {
            return Err(caller.no_secret(&active, unknown));
        }
        let mut names: BTreeSet<String> = names.into_iter().collect();
        if names.is_empty() {
            let secrets = active.settings.policy.secrets().map(|secret| secret.name.to_string());
            let templates = active.settings.templates.iter().map(|template| template.name.to_string());
            names = secrets.chain(templates).collect();
        }
        let due = self.context.restarts.due(&active, &names).await?;
        let mut units = Vec::with_capacity(due.len());
        for due in due {
            let withheld = self.context.foresee(&due).await;
            units.push((due.unit, due.measure.as_str().to_owned(), due.secret, withheld));
        }
        Ok(units)
    }

    /// Predicts the answers to all requests of one start, for a caller who may see them.
    pub(super) async fn predict_start(
        self: &Arc<Self>,
        unit: &str,
        Requests(credentials): &Requests,
        flags: u64,
        header: &Header<'_>,
    ) -> Result<Vec<Dict>, BusError> {
        let invalid = |error: BadName| BusError::InvalidArgument(error.to_string());
        bounded(credentials.len())?;
        let unit = UnitName::parse_lenient(unit).map_err(invalid)?;
        let form = |sealed| if sealed { Form::Sealed } else { Form::Plain };
        let parse = |(id, sealed): &(String, bool)| {
            let credential = CredentialId::parse(id).map_err(invalid)?;
            Ok(Request { credential, form: form(*sealed) })
        };
        let requests = credentials.iter().map(parse).collect::<Result<Vec<_>, BusError>>()?;
        let action = match flags {
            0 => Action::Inspect,
            1 => Action::Refresh,
            _ => {
                return Err(BusError::InvalidArgument(format!(
                    "unknown flags {flags:#x}: 0 uses only values in memory, 1 also looks up values in 1Password"
                )));
            }
        };
        let caller = self.caller(header).await?;
        if caller.unit.as_ref() != Some(&unit) {
            caller.may(action, header, &self.link).await?;
        }
        let asker = caller.asker();
        if flags == 1 && !caller.is_root() {
            let ids = requests.iter().map(|request| &request.credential);
            self.check_rules(&self.context.config.get(), &unit, ids).await?;
        }
        if flags == 1 {
            let allowed = requests.iter().filter_map(|it| self.allowed(&unit, &it.credential).ok());
            let allowed: Vec<_> = allowed.collect();
            let parts = allowed.iter().flat_map(Deliverable::parts).map(|part| &**part);
            self.admit(&asker, unit.as_str(), parts)?;
        }
        Ok(self.predict(&unit, &requests, flags == 1, asker).await)
    }

    /// Predicts the answers to all requests of one start. With `look_up`, missing values are looked up first,
    /// once.
    async fn predict(
        self: &Arc<Self>,
        unit: &UnitName,
        requests: &[Request],
        look_up: bool,
        asker: Asker,
    ) -> Vec<Dict> {
        let mut answers = Vec::with_capacity(requests.len());
        let broker = &self.context.broker;
        let start = Start::new(broker, &*self.context, asker);
        for Request { credential, form } in requests {
            let claim = Claim { unit: unit.clone(), credential: credential.clone() };
            let handle = Handle::of(&claim).filter(|_| *form == Form::Plain);
            let (allowed, prediction) = match (handle, self.allowed(unit, credential)) {
                (Some(handle), _) => (true, self.predict_handle(&handle, &start, look_up).await),
                (None, Ok(what)) => (true, self.predict_one(&what, &start, &claim, *form, look_up).await),
                (None, Err(reason)) => (false, Prediction { reason, ..Prediction::default() }),
            };
            answers.push(dict(allowed, &prediction, unit, credential));
            // requests and the watchdog run in this thread too
            tokio::task::yield_now().await;
        }
        broker.forget(start.process);
        answers
    }

    /// What a unit may load under an ID, or why not.
    pub(super) fn allowed(&self, unit: &UnitName, id: &CredentialId) -> Result<Deliverable, String> {
        let active = self.context.config.get();
        if let Some(error) = &active.error {
            return Err(format!("onecred serves nothing at present: {error}"));
        }
        let denied = |denial: crate::domain::policy::Denial| {
            format!("{}; {}", denial.cause(unit, id), denial.remedy(unit, id))
        };
        active.settings.policy.judge(unit, id).map_err(denied)
    }

    /// Why a unit may load it.
    pub(super) fn reason(&self, what: &Deliverable) -> String {
        let (active, label) = (self.context.config.get(), what.label());
        match (active.secret(label), active.template(label)) {
            (Some(secret), _) => format!("secret {label} ({}) names it", secret.declared_at),
            (_, Some(template)) => format!("template {label} ({}) names it", template.declared_at),
            _ => format!("{label} matches it"),
        }
    }

    async fn predict_one(
        self: &Arc<Self>,
        what: &Deliverable,
        start: &Start<'_>,
        claim: &Claim,
        form: Form,
        look_up: bool,
    ) -> Prediction {
        let broker = &self.context.broker;
        let active = self.context.config.get();
        let conditions: Vec<_> = what.parts().iter().map(|part| (part, broker.condition(part))).collect();
        let overrides =
            conditions.iter().filter_map(|(part, it)| Some(format!("{} ({})", part.label, it.held?)));
        let source = |part: &Arc<Wanted>| active.settings.sources.get(&part.source);
        let label = what.label();
        let target = match (active.secret(label), active.template(label)) {
            (Some(secret), _) => secret.target.as_ref(),
            (None, template) => template.and_then(|template| template.target.as_ref()),
        };
        let mut prediction = Prediction {
            name: label.to_owned(),
            references: what.references(),
            reason: self.reason(what),
            answer: None,
            overrides: overrides.collect(),
            target: target.map(|target| target.path.display().to_string()).unwrap_or_default(),
            fetched: conditions.iter().all(|(_, it)| it.size.is_some()),
            needs_network: what.parts().iter().filter_map(source).any(Source::needs_network),
            size: None,
        };
        let answer = start.answer(what, claim, form, look_up).await;
        (prediction.answer, prediction.size) = (answer.result, answer.size);
        prediction
    }

    /// Predicts the answer to one of onecred's own handles, which is sent once the handle's files are
    /// published.
    async fn predict_handle(
        self: &Arc<Self>,
        handle: &Handle,
        start: &Start<'_>,
        look_up: bool,
    ) -> Prediction {
        let broker = &self.context.broker;
        let files = match self.context.publisher.awaited(handle).await {
            Ok(files) => files,
            Err(refusal) => return Prediction { answer: Some(Err(refusal)), ..Prediction::default() },
        };
        let active = self.context.config.get();
        let parts = || files.iter().flat_map(|file| file.content.parts());
        let needs_network =
            |part: &Arc<Wanted>| active.settings.sources.get(&part.source).is_some_and(Source::needs_network);
        let overrides =
            parts().filter_map(|part| Some(format!("{} ({})", part.label, broker.condition(part).held?)));
        let mut prediction = Prediction {
            overrides: overrides.collect::<BTreeSet<_>>().into_iter().collect(),
            fetched: parts().all(|part| broker.condition(part).size.is_some()),
            needs_network: parts().any(needs_network),
            answer: Some(Ok(None)),
            reason: awaits(handle, &files),
            ..Prediction::default()
        };
        if let (Handle::One(_), Some(file)) = (handle, files.first()) {
            prediction.name.clone_from(&file.name);
            prediction.references = file.content.references();
            prediction.target = file.path.display().to_string();
        }
        for Awaited { name, content, unwritable, .. } in files {
            let answer = match unwritable {
                Some(refusal) => Some(Err(refusal)),
                None => self.predict_file(&content, start, look_up).await,
            };
            match answer {
                Some(Ok(stale)) => {
                    if let Some(Ok(first)) = &mut prediction.answer {
                        *first = first.take().or(stale);
                    }
                }
                None => prediction.answer = None,
                Some(Err(refusal)) => {
                    prediction.name = name;
                    prediction.answer = Some(Err(refusal));
                    break;
                }
            }
        }
        prediction
    }

    /// What one of onecred's own handles waits for: whether it is allowed, the name, the references and the
    /// reason.
    pub(super) async fn explain_handle(
        &self,
        handle: &Handle,
        claim: &Claim,
    ) -> (bool, String, String, String) {
        match self.context.publisher.awaited(handle).await {
            Ok(files) => {
                let (name, references) = match (handle, files.first()) {
                    (Handle::One(_), Some(file)) => (file.name.clone(), file.content.references()),
                    _ => Default::default(),
                };
                (true, name, references, awaits(handle, &files))
            }
            Err(refusal) => {
                let (unit, id) = (&claim.unit, &claim.credential);
                let reason = format!("{}; {}", refusal.cause(unit, id), refusal.remedy(unit, id));
                (true, String::new(), String::new(), reason)
            }
        }
    }

    /// Whether a file's content is available; `None` if that is not known.
    async fn predict_file(
        self: &Arc<Self>,
        what: &Deliverable,
        start: &Start<'_>,
        look_up: bool,
    ) -> Option<Result<Option<Failure>, Refusal>> {
        let (process, arrived, asker) = (start.process, BootTime::now(), start.asker.clone());
        let job = Job { what: what.clone(), process, arrived, asker };
        let at_once = || {
            let stale = |it: Assembled| it.stale.into_iter().next().map(|(_, failure)| failure);
            assemble::look_up(&self.context.broker, &job).known().map(|result| result.map(stale))
        };
        match at_once() {
            None if look_up => {
                let failure = start::look_up(&self.context.broker, what, &start.asker).await;
                at_once().or_else(|| failure.map(Err))
            }
            answer => answer,
        }
    }
}

fn awaits(handle: &Handle, files: &[Awaited]) -> String {
    match (handle, files) {
        (Handle::One(_), [file, ..]) => format!("it starts once {} is published", file.path.display()),
        _ => "it starts once all files are published".to_owned(),
    }
}

fn dict(allowed: bool, prediction: &Prediction, unit: &UnitName, id: &CredentialId) -> Dict {
    let mut dict = Dict::new();
    let mut put = |key, value: Variant<'_>| super::dict::put(&mut dict, key, value);
    put("Credential", Variant::from(id.as_str()));
    put("Allowed", Variant::from(allowed));
    put("Name", Variant::from(prediction.name.as_str()));
    put("Reference", Variant::from(prediction.references.as_str()));
    put("Reason", Variant::from(prediction.reason.as_str()));
    put("Overrides", Variant::from(prediction.overrides.clone()));
    put("Target", Variant::from(prediction.target.as_str()));
    put("Fetched", Variant::from(prediction.fetched));
    put("NeedsNetwork", Variant::from(prediction.needs_network));
    put("Size", Variant::from(answer::in_bytes(prediction.size)));
    let (word, stale, name, error) = match &prediction.answer {
        _ if !allowed => {
            let denied = BusError::NotAuthorized(prediction.reason.clone());
            ("refused", String::new(), DBusError::name(&denied).to_string(), prediction.reason.clone())
        }
        None => ("unknown", String::new(), String::new(), String::new()),
        Some(Ok(stale)) => (
            "value",
            stale.as_ref().map(ToString::to_string).unwrap_or_default(),
            String::new(),
            String::new(),
        ),
        Some(Err(refusal)) => {
            let message = format!("{}; {}", refusal.cause(unit, id), refusal.remedy(unit, id));
            ("refused", String::new(), answer::refusal_name(refusal).to_owned(), message)
        }
    };
    put("Answer", Variant::from(word));
    put("Stale", Variant::from(stale));
    put("ErrorName", Variant::from(name));
    put("Error", Variant::from(error));
    dict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_is_bounded() {
        assert!(bounded(MOST).is_ok());
        assert!(
            matches!(bounded(MOST + 1), Err(BusError::InvalidArgument(text)) if text.starts_with("257 "))
        );
    }
}
