//! One object for each secret, with its state as properties.

use std::sync::Arc;

use zbus::message::Header;
use zbus::{OwnedFd, interface};

use super::Desk;
use super::answer::{age, error_name, in_bytes, last_error, outcome, sealed_error, units, version_text};
use super::error::BusError;
use crate::domain::name::UnitName;
use crate::domain::policy::Deliverable;
use crate::domain::secret::Secret;
use crate::provider::dbus::authorization::Action;
use crate::provider::observe::secret_status::Condition;

pub(super) struct SecretObject {
    desk: Arc<Desk>,
    name: String,
}

impl SecretObject {
    pub(super) fn new(desk: Arc<Desk>, name: String) -> Self {
        Self { desk, name }
    }

    async fn seen<T>(
        &self,
        header: Option<Header<'_>>,
        see: impl FnOnce(&Secret) -> T,
    ) -> Result<T, BusError> {
        let header = header.ok_or_else(|| BusError::NotAuthorized("the message names no sender".into()))?;
        let found = self.desk.find(&self.name, Action::Inspect, &header).await?;
        Ok(see(found.secret()?))
    }

    /// Reads a property about units. A unit without the permission sees only itself.
    async fn of_units<T>(
        &self,
        header: Option<Header<'_>>,
        see: impl FnOnce(&Secret, Option<&UnitName>) -> T,
    ) -> Result<T, BusError> {
        let header = header.ok_or_else(|| BusError::NotAuthorized("the message names no sender".into()))?;
        let found = self.desk.find(&self.name, Action::Inspect, &header).await?;
        let caller = self.desk.caller(&header).await?;
        let allowed = caller.may(Action::Inspect, &header, &self.desk.link).await;
        let only = caller.unit.as_ref().filter(|_| allowed.is_err());
        Ok(see(found.secret()?, only))
    }

    async fn condition(&self, header: Option<Header<'_>>) -> Result<Condition, BusError> {
        self.seen(header, |secret| self.desk.condition(secret)).await
    }
}

/// The state of a secret, and its value by file descriptor.
#[interface(name = "org.onecred.Credentials1.Secret")]
impl SecretObject {
    /// Refreshes the secret. Flags: 0 compares versions with 1Password first, 1 always fetches the value. The
    /// outcome is "changed" or "unchanged".
    #[zbus(out_args("outcome", "version"))]
    async fn refresh(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(String, u64), BusError> {
        let found = self.desk.find(&self.name, Action::Refresh, &header).await?;
        let secret = found.secret()?;
        let asked = self.desk.context.broker.ask(&secret.wanted);
        let asker = self.desk.caller(&header).await?.asker();
        let (word, version) = outcome(self.desk.refresh(secret, flags, asked, &asker).await?);
        Ok((word.to_owned(), version))
    }

    /// Returns the value as a sealed memfd, to be read from offset 0.
    #[zbus(out_args("value"))]
    async fn open(&self, #[zbus(header)] header: Header<'_>) -> Result<OwnedFd, BusError> {
        let found = self.desk.find(&self.name, Action::Read, &header).await?;
        let wanted = Arc::new(found.secret()?.wanted.clone());
        let caller = self.desk.caller(&header).await?;
        Ok(self.desk.open(&self.name, &Deliverable::Secret(wanted), &caller).await?.into())
    }

    /// The secret's name.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn name(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.seen(header, |secret| secret.name.to_string()).await
    }

    /// The secret reference in 1Password.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn reference(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.seen(header, |secret| secret.wanted.reference.to_string()).await
    }

    /// The source of the secret.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn source(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.seen(header, |secret| secret.wanted.source.to_string()).await
    }

    /// The units that may load it, by name or glob, with /ID if the credential ID is not the name.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn units(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<Vec<String>, BusError> {
        self.seen(header, units).await
    }

    /// Where the secret is declared, as FILE:LINE.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn declared_at(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.seen(header, |secret| secret.declared_at.clone()).await
    }

    /// "never-fetched"; "fresh": served at once; "stale": compared with 1Password before it is served again;
    /// "failing": the last look-up failed, or units are refused the value because it is empty or too large;
    /// "held": an override is active.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn state(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        Ok(self.condition(header).await?.state.as_str().to_owned())
    }

    /// The version of the item, comparable only with other versions of the same secret; 0 if nothing was
    /// fetched. It is 1Password's version number, or is derived from the time of the last change if the
    /// source has no version numbers. VersionText is for people.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn version(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u64, BusError> {
        Ok(self.condition(header).await?.version.unwrap_or_default())
    }

    /// The version for people: 1Password's version number, or the time of the last change, such as
    /// 2024-01-02T03:04:05Z; empty if nothing was fetched.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn version_text(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        Ok(version_text(&self.condition(header).await?))
    }

    /// Seconds since the value was last confirmed to be current; -1 if nothing was fetched.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn age(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<i64, BusError> {
        Ok(age(&self.condition(header).await?))
    }

    /// The last error and what to do; empty without an error.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn last_error(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        Ok(last_error(&self.condition(header).await?))
    }

    /// The name of that error, such as org.onecred.Error.NotFound.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn last_error_name(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        Ok(error_name(&self.condition(header).await?).to_owned())
    }

    /// Why the sealed socket refuses the value although the plain socket serves it: it is too large.
    /// Otherwise empty.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn sealed_error(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        Ok(sealed_error(&self.condition(header).await?))
    }

    /// The size of the value in bytes; -1 if it is not known.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn size(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<i64, BusError> {
        Ok(in_bytes(self.condition(header).await?.size))
    }

    /// The active override: "put" or "rollback". Otherwise empty.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn held(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        Ok(self.condition(header).await?.held.unwrap_or_default().to_owned())
    }

    /// The units whose restart or reload is withheld although the secret changed, because they would not
    /// start; each with the reason. A unit without the permission sees only itself.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn withheld(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<Vec<String>, BusError> {
        self.of_units(header, |secret, only| self.desk.withheld(secret.name.as_str(), only)).await
    }

    /// The units that run with another value than the current one, each with the version of its value. A unit
    /// without the permission sees only itself.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn outdated(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<Vec<String>, BusError> {
        self.of_units(header, |secret, only| self.desk.outdated(secret.name.as_str(), only)).await
    }

    /// How often units received it since onecred started.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn answers(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u64, BusError> {
        self.seen(header, |secret| self.desk.counts(secret).answers).await
    }

    /// How often units were refused the secret since onecred started.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn refusals(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u64, BusError> {
        self.seen(header, |secret| self.desk.counts(secret).refusals).await
    }
}
