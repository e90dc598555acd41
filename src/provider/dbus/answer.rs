//! Answers that several objects share: the state of a secret, its refresh, its value.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::task::JoinSet;
use zbus::Variant;

use super::dict::{Dict, entries, put};
use super::error::BusError;
use super::handover::NotHandedOut;
use super::{Desk, listing, path};
use crate::config::{Audit, Template};
use crate::domain::name::UnitName;
use crate::domain::policy::Deliverable;
use crate::domain::secret::{Secret, Wanted};
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::ipc::version;
use crate::provider::base::asker::Asker;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::dbus::authorization::Caller;
use crate::provider::fetch::assemble::{self, Job, LookUp};
use crate::provider::fetch::broker::{Asked, Refreshed, Thoroughness};
use crate::provider::fetch::bus_pace;
use crate::provider::observe::counters::Counts;
use crate::provider::observe::secret_status::Condition;

impl Desk {
    /// The state of a secret.
    pub(super) fn condition(&self, secret: &Secret) -> Condition {
        self.context.broker.condition_for(&secret.wanted, &secret.ids())
    }

    /// How often units received a secret and how often the secret was refused.
    pub(super) fn counts(&self, secret: &Secret) -> Counts {
        self.context.counters.of(&secret.wanted.label)
    }

    /// The units whose restart or reload is withheld for a secret or template, each with the reason. With
    /// `only`, other units are left out.
    pub(super) fn withheld(&self, name: &str, only: Option<&UnitName>) -> Vec<String> {
        let withheld = self.context.restarts.withheld_for(name).into_iter();
        let shown = withheld.filter(|(unit, _)| only.is_none_or(|only| only.as_str() == unit));
        shown.map(|(unit, reason)| format!("{unit}: {reason}")).collect()
    }

    /// The units that run with another value of a secret or template than the current one, each with the
    /// version of its value. With `only`, other units are left out.
    pub(super) fn outdated(&self, name: &str, only: Option<&UnitName>) -> Vec<String> {
        let outdated = self.context.restarts.outdated(&self.context.broker, name).into_iter();
        let shown = outdated.filter(|(unit, _)| only.is_none_or(|only| only.as_str() == unit));
        shown.map(|(unit, version)| format!("{unit}: version {}", version::text(version))).collect()
    }

    /// All properties of a secret. With `only`, other units are left out of `Withheld` and `Outdated`.
    pub(super) fn describe(&self, secret: &Secret, only: Option<&UnitName>) -> Dict {
        let condition = self.condition(secret);
        let mut dict = Dict::new();
        let mut put = |key, value: Variant<'_>| put(&mut dict, key, value);
        put("Name", Variant::from(secret.name.as_str()));
        put("Reference", Variant::from(secret.wanted.reference.to_string()));
        put("Source", Variant::from(secret.wanted.source.as_str()));
        put("Units", Variant::from(units(secret)));
        put("State", Variant::from(condition.state.as_str()));
        put("Version", Variant::from(condition.version.unwrap_or_default()));
        put("VersionText", Variant::from(version_text(&condition)));
        put("Age", Variant::from(age(&condition)));
        put("LastErrorName", Variant::from(error_name(&condition)));
        put("LastError", Variant::from(last_error(&condition)));
        put("SealedError", Variant::from(sealed_error(&condition)));
        put("Size", Variant::from(in_bytes(condition.size)));
        put("Held", Variant::from(condition.held.unwrap_or_default()));
        let counts = self.counts(secret);
        put("Answers", Variant::from(counts.answers));
        put("Refusals", Variant::from(counts.refusals));
        put("Withheld", Variant::from(self.withheld(secret.name.as_str(), only)));
        put("Outdated", Variant::from(self.outdated(secret.name.as_str(), only)));
        put("DeclaredAt", Variant::from(secret.declared_at.as_str()));
        put("Path", Variant::from(path::of_secret(secret.name.as_str())));
        dict
    }

    /// Whether looking up any of these costs calls.
    fn cost_calls<'a>(&self, parts: impl IntoIterator<Item = &'a Wanted>) -> bool {
        let active = self.context.config.get();
        parts.into_iter().any(|part| active.calls_cost(&part.source))
    }

    /// Admits a look-up, or fails with the time of the next one.
    pub(super) fn admit<'a>(
        &self,
        asker: &Asker,
        name: &str,
        parts: impl IntoIterator<Item = &'a Wanted>,
    ) -> Result<(), BusError> {
        match self.cost_calls(parts) {
            true => self.pace.admit(asker, name).map_err(|failure| BusError::of(name, &failure)),
            false => Ok(()),
        }
    }

    /// Compares a secret with its source, as of the time of the request.
    pub(super) async fn refresh(
        &self,
        secret: &Secret,
        flags: u64,
        asked: Asked,
        asker: &Asker,
    ) -> Result<Refreshed, BusError> {
        let how = thoroughness(flags)?;
        let name = secret.name.as_str();
        self.admit(asker, name, [&secret.wanted])?;
        let refreshed = self.context.broker.refresh(&secret.wanted, how, asked, asker).await;
        let refreshed = refreshed.map_err(|failure| BusError::of(secret.name.as_str(), &failure))?;
        match self.condition(secret).unusable {
            Some(unusable) => Err(BusError::unusable(secret.name.as_str(), unusable)),
            None => Ok(refreshed),
        }
    }

    /// Refreshes all parts of a template, and checks the result.
    pub(super) async fn refresh_template(
        &self,
        template: &Template,
        flags: u64,
        asked: Vec<Asked>,
        asker: &Asker,
    ) -> Result<Refreshed, BusError> {
        let (how, mut work) = (thoroughness(flags)?, JoinSet::new());
        let name = template.name.as_str();
        self.admit(asker, name, template.filling.parts.iter().map(|part| &**part))?;
        let parts = &template.filling.parts;
        for (at, (part, asked)) in parts.iter().cloned().zip(asked).enumerate() {
            let (broker, asker) = (Arc::clone(&self.context.broker), asker.clone());
            work.spawn(async move { (at, broker.refresh(&part, how, asked, &asker).await) });
        }
        let mut refreshed = work.join_all().await;
        refreshed.sort_by_key(|(at, _)| *at);
        let mut changed = false;
        for (at, part) in refreshed {
            let failed = |failure| BusError::of(&format!("{name}: {}", parts[at].reference), &failure);
            changed |= matches!(part.map_err(failed)?, Refreshed::Changed(_));
        }
        match listing::preview_of(&self.context.broker, template).refusal {
            Some(why) => Err(BusError::of_preview(name, &why)),
            // templates have no version
            None if changed => Ok(Refreshed::Changed(0)),
            None => Ok(Refreshed::Unchanged(0)),
        }
    }

    /// Why some units are refused a template: the error's name and message, or two empty strings.
    pub(super) fn template_warning(&self, template: &Template) -> (&'static str, String) {
        let sealed = listing::sealed_error_of(&self.context.broker, template);
        sealed.map(|sealed| (BusError::name_of_unusable(sealed), sealed.to_string())).unwrap_or_default()
    }

    /// Why some units are refused a secret: the error's name and message, or two empty strings.
    pub(super) fn warning(&self, secret: &Secret) -> (&'static str, String) {
        let sealed = self.condition(secret).sealed;
        sealed.map(|sealed| (BusError::name_of_unusable(sealed), sealed.to_string())).unwrap_or_default()
    }

    /// Returns a value as a sealed memfd.
    pub(super) async fn open(
        &self,
        name: &str,
        what: &Deliverable,
        caller: &Caller,
    ) -> Result<OwnedFd, BusError> {
        let (process, asker) = (ProcessId::nobody(), caller.asker());
        let arrived = match self.cost_calls(what.parts().iter().map(|part| &**part)) {
            true => bus_pace::arrived(&asker, BootTime::now()),
            false => BootTime::now(),
        };
        let job = Job { what: what.clone(), process, arrived, asker };
        let broker = &self.context.broker;
        let result = match assemble::look_up(broker, &job) {
            LookUp::Known(result) => result,
            LookUp::Pending(_) => assemble::get(broker, &job).await,
        };
        broker.forget(job.process);
        let value = result.map_err(|refusal| refused(name, &refusal))?.value;
        let handed = self
            .handouts
            .out(caller.uid, &value, what.parts())
            .map_err(|error| not_handed_out(name, &error))?;
        if self.context.config.get().settings.audit == Audit::All {
            opened(name, what, caller);
        }
        Ok(handed)
    }
}

/// Logs who received a value; if it was a unit, in the unit's journal.
fn opened(name: &str, what: &Deliverable, caller: &Caller) {
    let unit = caller.unit.as_ref().map(UnitName::as_str);
    let by = match unit {
        Some(unit) => format!("user {} in {unit}", caller.uid),
        None => format!("user {}", caller.uid),
    };
    tracing::info!(
        message_id = message_id::OPENED,
        object_systemd_unit = unit,
        onecred_unit = unit,
        onecred_uid = caller.uid,
        onecred_secret = name,
        onecred_reference = what.references(),
        onecred_result = "opened",
        "secret {name} was opened on D-Bus by {by}"
    );
}

/// The error for a value that is not handed out.
fn not_handed_out(name: &str, error: &NotHandedOut) -> BusError {
    let message = format!("{name}: {error}");
    match error {
        NotHandedOut::Crowded(_) => BusError::Limited(message),
        NotHandedOut::Io(_) => BusError::Failed(message),
    }
}

/// Converts a refusal to an error of the bus.
fn refused(name: &str, refusal: &Refusal) -> BusError {
    match refusal {
        Refusal::Part { template, refusal } => refused(&format!("template {template}"), refusal),
        Refusal::Failed { reference, failure } => BusError::of(&format!("{name}: {reference}"), failure),
        Refusal::Empty(reference) => BusError::Empty(format!(
            "{name}: {reference}: the field is empty in 1Password; fill it in, or set \"allowEmpty\": true if it is meant to be empty"
        )),
        Refusal::Unfit { reference, why } => {
            BusError::Failed(format!("{name}: {reference}: the value can't be used in this template: {why}"))
        }
        _ => BusError::Failed(format!(
            "{name}: its snapshot in the store can't be read; see: systemctl status onecred"
        )),
    }
}

/// The name on the bus of a refusal.
pub(super) fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Part { refusal, .. } => refusal_name(refusal),
        Refusal::Denied(_) => "org.onecred.Error.NotAuthorized",
        Refusal::Failed { failure, .. } => BusError::name_of(failure.class),
        Refusal::Empty(_) => "org.onecred.Error.Empty",
        Refusal::TooLarge { .. } | Refusal::TooLargeTogether { .. } => "org.onecred.Error.TooLarge",
        Refusal::Unconfigured(_) => "org.onecred.Error.Misconfigured",
        _ => "org.onecred.Error.Failed",
    }
}

/// Parses the flags of a refresh: with 1, values are fetched even if the versions are equal.
fn thoroughness(flags: u64) -> Result<Thoroughness, BusError> {
    match flags {
        0 => Ok(Thoroughness::Versions),
        1 => Ok(Thoroughness::Values),
        _ => Err(BusError::InvalidArgument(format!(
            "unknown flags {flags:#x}: 0 compares versions first, 1 always fetches the values"
        ))),
    }
}

/// The entries of a secret's `units`.
pub(super) fn units(secret: &Secret) -> Vec<String> {
    entries(secret.name.as_str(), &secret.grants)
}

/// Seconds since the value was last confirmed; -1 if it was never fetched.
pub(super) fn age(condition: &Condition) -> i64 {
    condition.age.map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

/// The version for people; empty if nothing was fetched.
pub(super) fn version_text(condition: &Condition) -> String {
    condition.version.map(version::text).unwrap_or_default()
}

/// The name of the last error; empty without an error.
pub(super) fn error_name(condition: &Condition) -> &'static str {
    match (&condition.unusable, &condition.error) {
        (Some(unusable), _) => BusError::name_of_unusable(*unusable),
        (None, Some(failure)) => BusError::name_of(failure.class),
        (None, None) => "",
    }
}

/// The message of the last error; empty without an error.
pub(super) fn last_error(condition: &Condition) -> String {
    match (&condition.unusable, &condition.error) {
        (Some(unusable), _) => unusable.to_string(),
        (None, error) => error.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// Why units at the sealed socket are refused the value; otherwise empty.
pub(super) fn sealed_error(condition: &Condition) -> String {
    condition.sealed.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// A size in bytes; -1 if it is not known.
pub(super) fn in_bytes(size: Option<usize>) -> i64 {
    size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX))
}

/// The outcome of a refresh and the version.
pub(super) fn outcome(refreshed: Refreshed) -> (&'static str, u64) {
    match refreshed {
        Refreshed::Unchanged(version) => ("unchanged", version),
        Refreshed::Changed(version) => ("changed", version),
    }
}
