//! The manager object: lists, refreshes and overrides secrets.

use std::sync::Arc;

use tokio::sync::oneshot;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedFd, interface};

use super::arguments::{Names, Requests, distinct};
use super::dict::Dict;
use super::error::BusError;
use super::{Desk, handover};
use crate::domain::name::{Claim, CredentialId, UnitName};
use crate::domain::policy::Deliverable;
use crate::provider::base::files::Standing;
use crate::provider::dbus::authorization::Action;
use crate::provider::dbus::metrics_snapshot;
use crate::provider::dbus::operations::RefreshResult;
use crate::provider::observe::metrics;
use crate::provider::publish::Handle;

pub(super) struct Manager {
    desk: Arc<Desk>,
}

impl Manager {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    async fn standing(&self, header: Option<Header<'_>>) -> Result<Standing, BusError> {
        self.desk.allow_property(header).await?;
        Ok(self.desk.context.standing().await)
    }
}

/// Lists, refreshes and overrides secrets. Signals announce the names and versions of secrets to every user
/// of the bus. Everything else is for root, for users that polkit allows, and for units that ask about their
/// own secrets. Messages never contain a value.
#[interface(name = "org.onecred.Credentials1.Manager")]
impl Manager {
    /// Returns all secrets, each with the properties of its object. A unit without the permission sees its
    /// own.
    #[zbus(out_args("secrets"))]
    async fn list_secrets(&self, #[zbus(header)] header: Header<'_>) -> Result<Vec<Dict>, BusError> {
        self.desk.list_secrets(&header).await
    }

    /// Returns secrets in order of name: those after this name, at most `limit` (0: 1000, the maximum). `next` is
    /// the name to pass for the following page; it is empty after the last. A unit without the permission sees
    /// its own.
    #[zbus(out_args("secrets", "next"))]
    async fn list_secrets_page(
        &self,
        after: String,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(Vec<Dict>, String), BusError> {
        self.desk.list_secrets_page(&after, limit, &header).await
    }

    /// Returns all templates, each with its references, units, target, state, and, if units are refused the
    /// template, the reason. A unit without the permission sees its own.
    #[zbus(out_args("templates"))]
    async fn list_templates(&self, #[zbus(header)] header: Header<'_>) -> Result<Vec<Dict>, BusError> {
        self.desk.list_templates(&header).await
    }

    /// Returns all rules in their order, with reference, units and credential IDs. A unit without the
    /// permission sees its own.
    #[zbus(out_args("rules"))]
    async fn list_rules(&self, #[zbus(header)] header: Header<'_>) -> Result<Vec<Dict>, BusError> {
        self.desk.list_rules(&header).await
    }

    /// Refreshes secrets and templates. Flags: 0 compares versions with 1Password first, 1 always fetches the
    /// values. Each outcome has the name, "changed", "unchanged" or "failed", the version, and the error's
    /// name and message. If the refresh succeeded, the last two may hold a warning: the value is too large
    /// for the sealed socket.
    #[zbus(out_args("outcomes"))]
    async fn refresh(
        &self,
        names: Names,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<RefreshResult>, BusError> {
        let names = distinct(names);
        let caller = self.desk.caller(&header).await?;
        let active = self.desk.active(&caller, Action::Refresh, &header).await?;
        let policy = &active.settings.policy;
        let own = |name: &String| match (active.secret(name), active.template(name)) {
            (Some(secret), _) => caller.owns(secret, policy),
            (None, template) => template.is_some_and(|template| caller.has_template(template)),
        };
        if !names.iter().all(own) {
            caller.may(Action::Refresh, &header, &self.desk.link).await?;
        }
        let unknown = names.iter().find(|name| policy.by_name(name).is_none());
        match unknown {
            // bounds the reply: it is never longer than the one for all secrets
            Some(unknown) if names.len() > policy.secrets().count() + active.settings.templates.len() => {
                Err(caller.no_secret(&active, unknown))
            }
            _ => self.desk.refresh_these(names, flags, &caller).await,
        }
    }

    /// Refreshes all configured secrets.
    #[zbus(out_args("outcomes"))]
    async fn refresh_all(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<RefreshResult>, BusError> {
        let (caller, active) = self.desk.allow_of_active(Action::Refresh, &header).await?;
        let names = active.settings.policy.secrets().map(|secret| secret.name.to_string()).collect();
        self.desk.refresh_these(names, flags, &caller).await
    }

    /// Returns the units that would be restarted, reloaded or sent a signal if these secrets and templates
    /// had changed (all, if no names are given). Each running unit comes with "restart", "reload" or the
    /// signal's name, with the secret or template, and with the reason why the action would be withheld,
    /// judged by the values in memory, or an empty string.
    #[zbus(out_args("units"))]
    async fn affected(
        &self,
        names: Names,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(String, String, String, String)>, BusError> {
        self.desk.affected(names, &header).await
    }

    /// Explains whether a unit may load a credential: the secret or rule that applies, its reference, and the
    /// reason, or what to do. Nothing is fetched.
    #[zbus(out_args("allowed", "secret", "reference", "reason"))]
    async fn explain(
        &self,
        unit: String,
        credential: String,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(bool, String, String, String), BusError> {
        let invalid = |error: crate::domain::name::BadName| BusError::InvalidArgument(error.to_string());
        let unit = UnitName::parse_lenient(&unit).map_err(invalid)?;
        let credential = CredentialId::parse(&credential).map_err(invalid)?;
        let caller = self.desk.caller(&header).await?;
        if caller.unit.as_ref() != Some(&unit) {
            caller.may(Action::Inspect, &header, &self.desk.link).await?;
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

    /// Predicts what a unit would receive if it started now and requested these credentials: each ID, and
    /// whether it uses the sealed socket. Flags: 0 looks only into memory, 1 looks up in 1Password what a
    /// start would. The manual lists the keys of the dictionaries.
    #[zbus(out_args("predictions"))]
    async fn predict(
        &self,
        unit: String,
        credentials: Requests,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Dict>, BusError> {
        self.desk.predict_start(&unit, &credentials, flags, &header).await
    }

    /// Reloads the configuration. If it has errors, the old configuration stays active, and the first error
    /// is returned.
    async fn reload(&self, #[zbus(header)] header: Header<'_>) -> Result<(), BusError> {
        self.desk.allow(Action::Reload, &header).await?;
        let (answer, answered) = oneshot::channel();
        let gone = || BusError::Failed("onecred is being stopped".to_owned());
        self.desk.reloads.send(answer).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(BusError::Misconfigured)
    }

    /// Returns a secret's value as a sealed memfd, to be read from offset 0.
    #[zbus(out_args("value"))]
    async fn open(&self, name: String, #[zbus(header)] header: Header<'_>) -> Result<OwnedFd, BusError> {
        let found = self.desk.find(&name, Action::Read, &header).await?;
        let what = Deliverable::Secret(Arc::new(found.secret()?.wanted.clone()));
        let caller = self.desk.caller(&header).await?;
        Ok(self.desk.open(&name, &what, &caller).await?.into())
    }

    /// Returns a credential of the calling unit, by its ID in LoadCredential=, in the same way. A credential of
    /// a rule is returned only if the rule names the ID, or if the unit loads it.
    #[zbus(out_args("value"))]
    async fn open_credential(
        &self,
        credential: String,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, BusError> {
        let caller = self.desk.caller(&header).await?;
        let no_unit = || {
            BusError::NotAuthorized(
                "the caller is not in the cgroup of a unit, or does not run as the unit's user (User=); call Open with the secret's name"
                    .to_owned(),
            )
        };
        let unit = caller.unit.as_ref().ok_or_else(no_unit)?;
        let id =
            CredentialId::parse(&credential).map_err(|error| BusError::InvalidArgument(error.to_string()))?;
        let active = self.desk.active(&caller, Action::Read, &header).await?;
        let judged = active.settings.policy.judge(unit, &id);
        let what = judged.map_err(|denial| {
            BusError::NotAuthorized(format!("{}; {}", denial.cause(unit, &id), denial.remedy(unit, &id)))
        })?;
        self.desk.check_rules(&active, unit, std::iter::once(&id)).await?;
        Ok(self.desk.open(what.label(), &what, &caller).await?.into())
    }

    /// Overrides a secret with the content of a memfd or a regular file, until Release.
    async fn put(
        &self,
        name: String,
        value: OwnedFd,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        let found = self.desk.find(&name, Action::Put, &header).await?;
        let wanted = &found.secret()?.wanted;
        // some file systems can block the reader of a file, and units must not wait for that
        let allow_empty = wanted.allow_empty;
        let value = tokio::task::spawn_blocking(move || handover::take(&value, allow_empty)).await;
        let value = value.map_err(|_| BusError::Failed("the value could not be read".to_owned()))??;
        self.desk.put(&name, wanted, value)
    }

    /// Overrides a secret with its previous value, until Release: the last value that differs from the
    /// current one. Returns the version of the item with that value.
    #[zbus(out_args("version"))]
    async fn rollback(&self, name: String, #[zbus(header)] header: Header<'_>) -> Result<u64, BusError> {
        let found = self.desk.find(&name, Action::Put, &header).await?;
        let wanted = &found.secret()?.wanted;
        self.desk.rollback(&name, wanted)
    }

    /// Removes an override.
    async fn release(&self, name: String, #[zbus(header)] header: Header<'_>) -> Result<(), BusError> {
        let _ = self.desk.find(&name, Action::Put, &header).await?;
        self.desk.release(name)
    }

    /// Returns the metrics as OpenMetrics text.
    #[zbus(out_args("text"))]
    async fn metrics(&self, #[zbus(header)] header: Header<'_>) -> Result<String, BusError> {
        self.desk.allow(Action::Inspect, &header).await?;
        Ok(metrics::text(&metrics_snapshot::gather(&self.desk.context).await))
    }

    /// The version of onecred.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    /// Why nothing is served: the configuration or the store cannot be used. Otherwise empty.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn configuration_error(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<String, BusError> {
        self.desk.allow_property(header).await?;
        Ok(self.desk.context.config.get().error.clone().unwrap_or_default())
    }

    /// Why the sealed socket refuses every secret, and what to do: the host key cannot be used. Otherwise
    /// empty.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn sealing_error(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.desk.allow_property(header).await?;
        let problem = self.desk.context.sealer.problem().await;
        Ok(problem.map(|error| error.with_remedy()).unwrap_or_default())
    }

    /// What is wrong with the keeper, the process that refuses open connections if the provider dies: it was
    /// killed, or it has no scope unit. Otherwise empty.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn keeper_error(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.desk.allow_property(header).await?;
        Ok(self.desk.context.keeper.get().problem())
    }

    /// How many units wait to be started again, because they were refused a credential or depend on such a
    /// unit.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn units_to_recover(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u32, BusError> {
        self.desk.allow_property(header).await?;
        Ok(u32::try_from(self.desk.context.recovery.progress().0).unwrap_or(u32::MAX))
    }

    /// How many units were started again since UnitsToRecover last rose from 0.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn units_recovered(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u32, BusError> {
        self.desk.allow_property(header).await?;
        Ok(u32::try_from(self.desk.context.recovery.progress().1).unwrap_or(u32::MAX))
    }

    /// How the active configuration relates to the files: "current"; "changed": the files are valid, but were
    /// not loaded since they changed; "rejected": the files have errors or cannot be read, and the old
    /// configuration stays active; "none": no configuration is active. Reading this property reads the files.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn configuration_state(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<String, BusError> {
        Ok(self.standing(header).await?.as_str().to_owned())
    }

    /// Why the files cannot be used, if ConfigurationState is "rejected". Otherwise empty.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn configuration_file_error(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<String, BusError> {
        Ok(match self.standing(header).await? {
            Standing::Rejected(why) => why,
            _ => String::new(),
        })
    }

    /// When the active configuration was first loaded since boot, in seconds since the Unix epoch; 0 if none
    /// is active.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn configuration_loaded(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<u64, BusError> {
        self.desk.allow_property(header).await?;
        Ok(self.desk.context.config.get().loaded)
    }

    /// A secret has a new value. Call Open to get it.
    #[zbus(signal)]
    async fn changed(emitter: &SignalEmitter<'_>, name: &str, version: u64) -> zbus::Result<()>;

    /// A secret could not be fetched. The error is one of the names org.onecred.Error.*.
    #[zbus(signal)]
    async fn failed(emitter: &SignalEmitter<'_>, name: &str, error: &str) -> zbus::Result<()>;
}
