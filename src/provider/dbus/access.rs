//! Checks what a caller may do before an object answers.

use std::sync::Arc;

use zbus::Connection;
use zbus::message::Header;

use super::Desk;
use super::error::BusError;
use crate::domain::secret::Secret;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::dbus::authorization::{Action, Caller};

/// A secret of the active configuration, for a caller who may use it.
pub(super) struct Found {
    active: Arc<ActiveConfig>,
    name: String,
    caller: Arc<Caller>,
}

impl Found {
    pub(super) fn secret(&self) -> Result<&Secret, BusError> {
        self.active.secret(&self.name).ok_or_else(|| self.caller.no_secret(&self.active, &self.name))
    }
}

impl Desk {
    /// Identifies the sender of a message.
    pub(super) async fn caller(
        &self,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<Arc<Caller>, BusError> {
        self.callers.of(header, connection).await
    }

    /// Returns the active configuration. If none is active, callers with the permission get the reason. A
    /// unit only learns that none is active, because its own secrets are not known then.
    pub(super) async fn active(
        &self,
        caller: &Caller,
        action: Action,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<Arc<ActiveConfig>, BusError> {
        let active = self.context.config.get();
        let Some(why) = &active.error else { return Ok(active) };
        match (caller.may(action, header, connection).await, &caller.unit) {
            (Ok(()), _) => Err(BusError::serves_nothing(Some(why))),
            (Err(_), Some(_)) => Err(BusError::serves_nothing(None)),
            (Err(denied), None) => Err(denied),
        }
    }

    /// Finds a secret for a caller who may do this, or whose unit owns the secret. Other callers cannot find
    /// out which names exist.
    pub(super) async fn find(
        &self,
        name: &str,
        action: Action,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<Found, BusError> {
        let caller = self.caller(header, connection).await?;
        self.active(&caller, action, header, connection).await?;
        let found = || Found {
            active: self.context.config.get(),
            name: name.to_owned(),
            caller: Arc::clone(&caller),
        };
        let is_own = |found: &Found| {
            found.secret().is_ok_and(|secret| caller.owns(secret, &found.active.settings.policy))
        };
        if action.needs_polkit(|| is_own(&found())) {
            caller.may(action, header, connection).await?;
        }
        let found = found(); // polkit may have waited for a password
        found.secret()?;
        Ok(found)
    }

    /// Returns the caller, if it may do this.
    pub(super) async fn allow(
        &self,
        action: Action,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<Arc<Caller>, BusError> {
        let caller = self.caller(header, connection).await?;
        caller.may(action, header, connection).await?;
        Ok(caller)
    }

    /// Checks that the caller may read a property.
    pub(super) async fn allow_property(
        &self,
        header: Option<Header<'_>>,
        connection: &Connection,
    ) -> Result<(), BusError> {
        let header = header.ok_or_else(|| BusError::NotAuthorized("the message names no sender".into()))?;
        self.allow(Action::Inspect, &header, connection).await.map(drop)
    }

    /// Returns the active configuration to a caller who may do this to all secrets.
    pub(super) async fn allow_of_active(
        &self,
        action: Action,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<(Arc<Caller>, Arc<ActiveConfig>), BusError> {
        let caller = self.caller(header, connection).await?;
        let active = self.active(&caller, action, header, connection).await?;
        caller.may(action, header, connection).await?;
        Ok((caller, active))
    }
}
