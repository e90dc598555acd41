//! The manager's object: all secrets at once, and what is done to them.

use std::sync::Arc;

use tokio::sync::oneshot;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedFd, interface};

use super::arguments::{Names, Requests, distinct};
use super::dict::Dict;
use super::error::BusError;
use super::{Desk, handover};
use crate::domain::name::{Claim, CredentialId, UnitName};
use crate::domain::policy::Deliverable;
use crate::provider::base::files::Standing;
use crate::provider::dbus::authorization::Action;
use crate::provider::dbus::metrics_snapshot;
use crate::provider::dbus::operations::Outcome;
use crate::provider::observe::metrics;
use crate::provider::publish::Handle;

/// The manager on the bus.
pub(super) struct Manager {
    desk: Arc<Desk>,
}

impl Manager {
    /// The manager.
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    async fn standing(
        &self,
        header: Option<Header<'_>>,
        connection: &Connection,
    ) -> Result<Standing, BusError> {
        self.desk.allow_property(header, connection).await?;
        Ok(self.desk.context.standing().await)
    }
}

/// All secrets, and what can be done with them. Names of secrets and versions are told to everybody on the bus by signals; all else is
/// for root, for whom polkit allows, and for units of their own secrets. A value is never part of a message.
#[interface(name = "org.onecred.Credentials1.Manager")]
impl Manager {
    /// All secrets, each with what its object has as properties. A unit that polkit does not allow sees its own.
    #[zbus(out_args("secrets"))]
    async fn list_secrets(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<Dict>, BusError> {
        self.desk.list_secrets(&header, connection).await
    }

    /// All templates, each with its references, units, target, state, and why units are refused it. A unit that polkit does not allow sees
    /// its own.
    #[zbus(out_args("templates"))]
    async fn list_templates(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<Dict>, BusError> {
        self.desk.list_templates(&header, connection).await
    }

    /// All rules, in their order: reference, units, credential IDs. A unit that polkit does not allow sees its own.
    #[zbus(out_args("rules"))]
    async fn list_rules(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<Dict>, BusError> {
        self.desk.list_rules(&header, connection).await
    }

    /// Brings secrets and templates up to date. Flags: 0 compares versions with 1Password first, 1 fetches the values in any case.
    /// Each comes back once, with "changed", "unchanged" or "failed", its version, and the error's name and words; without a failure,
    /// those of a warning: the value is too large for the sealed socket.
    #[zbus(out_args("outcomes"))]
    async fn refresh(
        &self,
        names: Names,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<Outcome>, BusError> {
        let names = distinct(names);
        let caller = self.desk.caller(&header, connection).await?;
        let active = self.desk.active(&caller, Action::Refresh, &header, connection).await?;
        let policy = &active.settings.policy;
        let own = |name: &String| match (active.secret(name), active.template(name)) {
            (Some(secret), _) => caller.owns(secret, policy),
            (None, template) => template.is_some_and(|template| caller.has_template(template)),
        };
        if !names.iter().all(own) {
            caller.may(Action::Refresh, &header, connection).await?;
        }
        let unknown = names.iter().find(|name| policy.by_name(name).is_none());
        match unknown {
            // no answer is longer than one about everything
            Some(unknown) if names.len() > policy.secrets().count() + active.settings.templates.len() => {
                Err(caller.no_secret(&active, unknown))
            }
            _ => self.desk.refresh_these(names, flags, &caller).await,
        }
    }

    /// The same for all secrets that are configured.
    #[zbus(out_args("outcomes"))]
    async fn refresh_all(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<Outcome>, BusError> {
        let (caller, active) = self.desk.allow_of_active(Action::Refresh, &header, connection).await?;
        let names = active.settings.policy.secrets().map(|secret| secret.name.to_string()).collect();
        self.desk.refresh_these(names, flags, &caller).await
    }

    /// Which units would be restarted, reloaded or sent a signal if these secrets and templates had changed (all, if none is named): each unit that
    /// runs, "restart", "reload" or the signal's name, the secret or template that it is for, and why that would be withheld by what is in memory, or
    /// an empty text.
    #[zbus(out_args("units"))]
    async fn affected(
        &self,
        names: Names,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<(String, String, String, String)>, BusError> {
        self.desk.affected(names, &header, connection).await
    }

    /// What a unit would be told that asks for a credential: whether it may have it, which secret or rule it is, the reference, and why, or
    /// why not and what to do. Nothing is fetched.
    #[zbus(out_args("allowed", "secret", "reference", "reason"))]
    async fn explain(
        &self,
        unit: String,
        credential: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(bool, String, String, String), BusError> {
        let invalid = |error: crate::domain::name::BadName| BusError::InvalidArgument(error.to_string());
        let unit = UnitName::parse_lenient(&unit).map_err(invalid)?;
        let credential = CredentialId::parse(&credential).map_err(invalid)?;
        let caller = self.desk.caller(&header, connection).await?;
        if caller.unit.as_ref() != Some(&unit) {
            caller.may(Action::Inspect, &header, connection).await?;
        }
        let claim = Claim { unit: unit.clone(), credential: credential.clone() };
        if let Some(handle) = Handle::of(&claim) {
            return Ok(self.desk.explain_handle(&handle, &claim).await);
        }
        Ok(match self.desk.allowed(&unit, &credential) {
            Ok(what) => (true, what.label().to_owned(), what.references(), self.desk.reason(&what)),
            Err(reason) => (false, String::new(), String::new(), reason),
        })
    }

    /// Predicts what a unit would be answered that starts now and asks for these credentials: each ID, and whether it asks at the sealed
    /// socket. Flags: 0 looks into memory only, 1 looks up in 1Password what a start would. Each comes back as a dictionary; see the manual.
    #[zbus(out_args("predictions"))]
    async fn predict(
        &self,
        unit: String,
        credentials: Requests,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<Dict>, BusError> {
        self.desk.predict_start(&unit, &credentials, flags, &header, connection).await
    }

    /// Loads the configuration again. If it has errors, the one before stays active, and the first error is the answer.
    async fn reload(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        self.desk.allow(Action::Reload, &header, connection).await?;
        let (answer, answered) = oneshot::channel();
        let gone = || BusError::Failed("onecred is being stopped".to_owned());
        self.desk.reloads.send(answer).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(BusError::Misconfigured)
    }

    /// Gives a secret's value, as a sealed memfd to be read from its beginning.
    #[zbus(out_args("value"))]
    async fn open(
        &self,
        name: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedFd, BusError> {
        let found = self.desk.find(&name, Action::Read, &header, connection).await?;
        let what = Deliverable::Secret(Arc::new(found.secret()?.wanted.clone()));
        let caller = self.desk.caller(&header, connection).await?;
        Ok(self.desk.open(&name, &what, &caller).await?.into())
    }

    /// The same for the calling unit's own credential, by the ID that it has in LoadCredential=.
    #[zbus(out_args("value"))]
    async fn open_credential(
        &self,
        credential: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedFd, BusError> {
        let caller = self.desk.caller(&header, connection).await?;
        let no_unit = || {
            BusError::NotAuthorized(
                "the caller is in no unit's cgroup, or not of that unit's user (User=); ask by the secret's name: Open"
                    .to_owned(),
            )
        };
        let unit = caller.unit.as_ref().ok_or_else(no_unit)?;
        let id =
            CredentialId::parse(&credential).map_err(|error| BusError::InvalidArgument(error.to_string()))?;
        let active = self.desk.active(&caller, Action::Read, &header, connection).await?;
        let judged = active.settings.policy.judge(unit, &id);
        let what = judged.map_err(|denial| {
            BusError::NotAuthorized(format!("{}; {}", denial.cause(unit, &id), denial.remedy(unit, &id)))
        })?;
        Ok(self.desk.open(what.label(), &what, &caller).await?.into())
    }

    /// Breaks the glass: has the content of a file, memfd or other, stand in for a secret's value until it is released.
    async fn put(
        &self,
        name: String,
        value: OwnedFd,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let found = self.desk.find(&name, Action::Put, &header, connection).await?;
        let wanted = &found.secret()?.wanted;
        // a file of some file systems can keep its reader waiting, which no unit may feel
        let allow_empty = wanted.allow_empty;
        let value = tokio::task::spawn_blocking(move || handover::take(&value, allow_empty)).await;
        let value = value.map_err(|_| BusError::Failed("the value could not be read".to_owned()))??;
        self.desk.put(&name, wanted, value)
    }

    /// Overrides a secret with its previous value until it is released: the last value that differs from the current one. Returns the version
    /// of the item that it is of.
    #[zbus(out_args("version"))]
    async fn rollback(
        &self,
        name: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, BusError> {
        let found = self.desk.find(&name, Action::Put, &header, connection).await?;
        let wanted = &found.secret()?.wanted;
        self.desk.rollback(&name, wanted)
    }

    /// Ends what stands in for a secret.
    async fn release(
        &self,
        name: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let _ = self.desk.find(&name, Action::Put, &header, connection).await?;
        self.desk.release(name)
    }

    /// What is counted, as OpenMetrics text.
    #[zbus(out_args("text"))]
    async fn metrics(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        self.desk.allow(Action::Inspect, &header, connection).await?;
        Ok(metrics::text(&metrics_snapshot::gather(&self.desk.context).await))
    }

    /// The version of onecred.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    /// Why nothing is served, where the configuration or the store could not be used; else empty.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn configuration_error(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        self.desk.allow_property(header, connection).await?;
        Ok(self.desk.context.config.get().error.clone().unwrap_or_default())
    }

    /// Why units are refused every secret at the sealed socket, and what to do, where the host key cannot be used; else empty.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn sealing_error(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        self.desk.allow_property(header, connection).await?;
        Ok(self.desk.context.sealer.error().map(|error| error.with_remedy()).unwrap_or_default())
    }

    /// How many units are to be started again, since they were refused a credential or need such a unit.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn units_to_recover(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, BusError> {
        self.desk.allow_property(header, connection).await?;
        Ok(u32::try_from(self.desk.context.recovery.progress().0).unwrap_or(u32::MAX))
    }

    /// How many units were started again since the first refusal after which UnitsToRecover was not 0.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn units_recovered(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, BusError> {
        self.desk.allow_property(header, connection).await?;
        Ok(u32::try_from(self.desk.context.recovery.progress().1).unwrap_or(u32::MAX))
    }

    /// How the active configuration relates to the files: "current"; "changed": they are valid and were not loaded; "rejected": they have errors
    /// or can't be read, and what was loaded before is active; "none": no configuration is active. The files are read for this.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn configuration_state(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        Ok(self.standing(header, connection).await?.as_str().to_owned())
    }

    /// Why the files can't be used, where ConfigurationState is "rejected"; else empty.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn configuration_file_error(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        Ok(match self.standing(header, connection).await? {
            Standing::Rejected(why) => why,
            _ => String::new(),
        })
    }

    /// When the active configuration was loaded first since boot, in seconds of the Unix epoch; 0 where none is active.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn configuration_loaded(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, BusError> {
        self.desk.allow_property(header, connection).await?;
        Ok(self.desk.context.config.get().loaded)
    }

    /// A secret has another value than before. Whoever follows it calls Open.
    #[zbus(signal)]
    async fn changed(emitter: &SignalEmitter<'_>, name: &str, version: u64) -> zbus::Result<()>;

    /// A secret could not be had; the error's name says of what kind that is.
    #[zbus(signal)]
    async fn failed(emitter: &SignalEmitter<'_>, name: &str, error: &str) -> zbus::Result<()>;
}
