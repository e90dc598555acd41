//! Operations on secrets: refreshes of many at once, and overrides.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zbus::DBusError;

use super::Desk;
use super::answer::outcome;
use super::error::BusError;
use crate::domain::reference::FieldRef;
use crate::domain::secret::{SecretValue, Wanted};
use crate::host::systemd::message_id;
use crate::ipc::version;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;
use crate::provider::dbus::authorization::Caller;
use crate::provider::store::{Origin, Snapshot, StoredField};

/// How many secrets one call refreshes at the same time.
const AT_ONCE: usize = 64;

/// The result of refreshing one secret: its name, "changed", "unchanged" or "failed", the version, and the
/// error's name and message. Without a failure, the last two may hold a warning.
pub(super) type RefreshResult = (String, String, u64, String, String);

impl Desk {
    /// Refreshes secrets and templates concurrently. The outcomes have the order of the names.
    pub(super) async fn refresh_these(
        self: &Arc<Self>,
        names: Vec<String>,
        flags: u64,
        caller: &Arc<Caller>,
    ) -> Result<Vec<RefreshResult>, BusError> {
        let (turns, mut work) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        let broker = &self.context.broker;
        let active = self.context.config.get();
        // register all requests before the first one runs, so that one check covers a whole source
        let ask = |name: &String| {
            let what = active.settings.policy.by_name(name)?;
            Some(what.parts().iter().map(|part| broker.ask(part)).collect::<Vec<_>>())
        };
        let asked: Vec<_> = names.iter().map(ask).collect();
        for (at, (name, asked)) in names.into_iter().zip(asked).enumerate() {
            let (desk, turns, caller) = (Arc::clone(self), Arc::clone(&turns), Arc::clone(caller));
            work.spawn(async move {
                let _turn = turns.acquire().await;
                let active = desk.context.config.get();
                let unknown = || caller.no_secret(&active, &name);
                let mut asked = asked.unwrap_or_default();
                let result = match (active.secret(&name), active.template(&name)) {
                    (Some(secret), _) => match asked.pop() {
                        Some(asked) => desk.refresh(secret, flags, asked, &caller.asker()).await,
                        None => Err(unknown()),
                    },
                    (None, Some(template)) => {
                        desk.refresh_template(template, flags, asked, &caller.asker()).await
                    }
                    (None, None) => Err(unknown()),
                };
                let outcome = match result {
                    Ok(refreshed) => {
                        let (word, version) = outcome(refreshed);
                        let of_secret = active.secret(&name).map(|it| desk.warning(it));
                        let of_template = || active.template(&name).map(|it| desk.template_warning(it));
                        let (error, warning) = of_secret.or_else(of_template).unwrap_or_default();
                        (name, word.to_owned(), version, error.to_owned(), warning)
                    }
                    Err(error) => {
                        let words = error.description().unwrap_or_default().to_owned();
                        (name, "failed".to_owned(), 0, DBusError::name(&error).to_string(), words)
                    }
                };
                (at, outcome)
            });
        }
        let mut outcomes = work.join_all().await;
        outcomes.sort_by_key(|(at, _)| *at);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// Overrides a secret with a value.
    pub(super) fn put(&self, name: &str, wanted: &Wanted, value: SecretValue) -> Result<(), BusError> {
        let key = ItemKey::new(&wanted.source, &wanted.reference.item);
        self.hold(name, Origin::Put, (&key, &wanted.reference.field), 0, value)?;
        tracing::warn!(
            message_id = message_id::PUT,
            onecred_secret = name,
            "secret {name} is overridden by an administrator; to remove the override: onecred release {name}"
        );
        Ok(())
    }

    /// Overrides a secret with its previous value: the last one that differs from the current one. Returns
    /// the version of that value.
    pub(super) fn rollback(&self, name: &str, wanted: &Wanted) -> Result<u64, BusError> {
        let (key, field) = (ItemKey::new(&wanted.source, &wanted.reference.item), &wanted.reference.field);
        let broker = &self.context.broker;
        let slot = broker.slot(&key);
        let differs = |previous: &&Arc<Snapshot>| {
            let current = slot.as_ref().and_then(|slot| slot.snapshot.digest(field));
            previous.digest(field) != current
        };
        let previous = slot.as_ref().and_then(|slot| slot.previous.as_ref()).filter(differs);
        let entry = previous.and_then(|previous| previous.entry(field));
        let (Some(previous), Some(&StoredField::Value { offset, len, .. })) = (previous, entry) else {
            return Err(BusError::InvalidArgument(format!(
                "{name}: no previous value: it has not changed since boot, or was removed since; to override it: onecred put {name}"
            )));
        };
        let unreadable = |_| {
            BusError::Failed(format!(
                "{name}: its snapshot in the store can't be read; see: systemctl status onecred"
            ))
        };
        let value = previous.read(offset, len).map_err(unreadable)?;
        if value.is_empty() && !wanted.allow_empty {
            return Err(BusError::Empty(format!(
                "{name}: the previous version is empty, which units are refused; to override the value: onecred put {name}"
            )));
        }
        let version = previous.version_of(field);
        self.hold(name, Origin::Rollback, (&key, field), version, value)?;
        tracing::warn!(
            message_id = message_id::ROLLED_BACK,
            onecred_secret = name,
            "secret {name} is overridden by its previous value, of version {}; to remove the override: onecred release {name}",
            version::text(version)
        );
        Ok(version)
    }

    /// Removes an override.
    pub(super) fn release(&self, name: String) -> Result<(), BusError> {
        let broker = &self.context.broker;
        if !broker.store().release(&name) {
            return Err(BusError::InvalidArgument(format!("{name} has no override")));
        }
        tracing::warn!(
            message_id = message_id::RELEASED,
            onecred_secret = name.as_str(),
            "secret {name}: the override was removed; its value comes from 1Password again"
        );
        broker.events.tell(Event::Held { name });
        Ok(())
    }

    fn hold(
        &self,
        name: &str,
        origin: Origin,
        place: (&ItemKey, &FieldRef),
        version: u64,
        value: SecretValue,
    ) -> Result<(), BusError> {
        let broker = &self.context.broker;
        let kept = broker.store().hold(name, origin, place, version, value);
        kept.map_err(|error| BusError::of(name, &error.failure()))?;
        broker.events.tell(Event::Held { name: name.to_owned() });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
