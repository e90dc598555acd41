//! Checks what a caller may do before an object answers.

use std::sync::Arc;

use zbus::message::Header;

use super::Desk;
use super::error::BusError;
use crate::domain::name::{CredentialId, UnitName};
use crate::domain::secret::Secret;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::dbus::authorization::{Action, Caller};

/// A secret of the active configuration, for a caller who may use it.
pub(super) struct AllowedSecret {
    active: Arc<ActiveConfig>,
    name: String,
    caller: Arc<Caller>,
}

impl AllowedSecret {
    pub(super) fn secret(&self) -> Result<&Secret, BusError> {
        self.active.secret(&self.name).ok_or_else(|| self.caller.no_secret(&self.active, &self.name))
    }
}

impl Desk {
    /// Identifies the sender of a message.
    pub(super) async fn caller(&self, header: &Header<'_>) -> Result<Arc<Caller>, BusError> {
        self.callers.of(header, &self.link).await
    }

    /// Returns the active configuration. Without one, callers with the permission get the reason. A
    /// unit only learns that there is no configuration, because its own secrets are unknown.
    pub(super) async fn active(
        &self,
        caller: &Caller,
        action: Action,
        header: &Header<'_>,
    ) -> Result<Arc<ActiveConfig>, BusError> {
        let active = self.context.config.get();
        let Some(why) = &active.error else { return Ok(active) };
        match (caller.may(action, header, &self.link).await, &caller.unit) {
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
    ) -> Result<AllowedSecret, BusError> {
        let caller = self.caller(header).await?;
        self.active(&caller, action, header).await?;
        let found = || AllowedSecret {
            active: self.context.config.get(),
            name: name.to_owned(),
            caller: Arc::clone(&caller),
        };
        let is_own = |found: &AllowedSecret| {
            found.secret().is_ok_and(|secret| caller.owns(secret, &found.active.settings.policy))
        };
        if action.needs_polkit(|| is_own(&found())) {
            caller.may(action, header, &self.link).await?;
        }
        let found = found(); // polkit may have waited for a password
        found.secret()?;
        Ok(found)
    }

    /// Returns the caller, if it may do this.
    pub(super) async fn allow(&self, action: Action, header: &Header<'_>) -> Result<Arc<Caller>, BusError> {
        let caller = self.caller(header).await?;
        caller.may(action, header, &self.link).await?;
        Ok(caller)
    }

    /// Checks that the caller may read a property.
    pub(super) async fn allow_property(&self, header: Option<Header<'_>>) -> Result<(), BusError> {
        let header = header.ok_or_else(|| BusError::NotAuthorized("the message names no sender".into()))?;
        self.allow(Action::Inspect, &header).await.map(drop)
    }

    /// Returns the active configuration to a caller who may do this to all secrets.
    pub(super) async fn allow_of_active(
        &self,
        action: Action,
        header: &Header<'_>,
    ) -> Result<(Arc<Caller>, Arc<ActiveConfig>), BusError> {
        let caller = self.caller(header).await?;
        let active = self.active(&caller, action, header).await?;
        caller.may(action, header, &self.link).await?;
        Ok((caller, active))
    }

    /// Checks that a unit may have credentials over the bus. A rule can grant any number of credentials, and the
    /// unit file loads a few of them: a process of the unit gets only these, and those that the rule names.
    pub(super) async fn check_rules<'a>(
        &self,
        active: &Arc<ActiveConfig>,
        unit: &UnitName,
        ids: impl Iterator<Item = &'a CredentialId>,
    ) -> Result<(), BusError> {
        let by_pattern = |id: &'a CredentialId| Some((id, active.settings.policy.rule_by_pattern(unit, id)?));
        let by_pattern: Vec<_> = ids.filter_map(by_pattern).collect();
        if by_pattern.is_empty() {
            return Ok(());
        }
        let loaded = self.context.restarts.loaded_by(active, unit).await?;
        match by_pattern.into_iter().find(|(id, _)| !loaded.iter().any(|loaded| loaded == id.as_str())) {
            Some((id, rule)) => Err(BusError::NotAuthorized(format!(
                "{unit} loads no credential {id} from onecred, and the rule at {} gives {id} by a pattern; add a LoadCredential= line for it to the unit, or name it in \"credentials\" of the rule",
                rule.declared_at
            ))),
            None => Ok(()),
        }
    }
}
