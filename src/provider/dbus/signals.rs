//! Reports changes as signals on the bus.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use zbus::object_server::{Interface as _, SignalEmitter};
use zbus::{Connection, Variant};

use super::error::BusError;
use super::introspection::PROPERTIES;
use super::manager::{Manager, ManagerSignals as _};
use super::secret::SecretObject;
use super::{Desk, PATH, path};
use crate::domain::reference::FieldRef;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;

/// The properties of a secret that may change with its value, failure or override.
const OF_SECRET: [&str; 4] = ["State", "Version", "VersionText", "LastError"];
/// The properties of the manager that may change with the configuration.
const OF_MANAGER: [&str; 2] = ["ConfigurationError", "ConfigurationLoaded"];

/// Sends a signal for each event while it is polled. The first signal reports the configuration, because clients have not seen it on this connection.
pub(super) async fn send(desk: &Arc<Desk>, connection: &Connection, mut events: broadcast::Receiver<Event>) {
    let mut next = Ok(Event::Configured);
    loop {
        let event = match next {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => Event::Configured, // what was missed can be read as properties
            Err(RecvError::Closed) => return,
        };
        desk.handouts.forget(&event);
        if let Err(error) = report(desk, connection, event).await {
            tracing::debug!("a signal could not be sent: {error}");
        }
        next = events.recv().await;
    }
}

async fn report(desk: &Desk, connection: &Connection, event: Event) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(connection, PATH)?;
    match event {
        Event::Configured => invalidate(connection, PATH, Manager::name().as_str(), &OF_MANAGER).await,
        Event::Changed { key, fields, version, .. } => {
            for name in names(desk, &key, Some(&fields)) {
                emitter.changed(&name, version).await?;
                secret_changed(connection, &name).await?;
            }
            Ok(())
        }
        Event::Failed { key, fields, failure } => {
            for name in names(desk, &key, fields.as_deref()) {
                emitter.failed(&name, BusError::name_of(failure.class)).await?;
                secret_changed(connection, &name).await?;
            }
            Ok(())
        }
        Event::Held { name } => secret_changed(connection, &name).await,
    }
}

/// The secrets that refer to these fields of an item, or to any field if `fields` is `None`.
fn names(desk: &Desk, key: &ItemKey, fields: Option<&[FieldRef]>) -> Vec<String> {
    let active = desk.context.config.get();
    active.secrets_of(key, fields).map(|secret| secret.name.to_string()).collect()
}

async fn secret_changed(connection: &Connection, name: &str) -> zbus::Result<()> {
    invalidate(connection, &path::of_secret(name), SecretObject::name().as_str(), &OF_SECRET).await
}

/// Reports that properties changed, without their values: these are not for everybody.
async fn invalidate(
    connection: &Connection,
    path: &str,
    interface: &str,
    properties: &[&str],
) -> zbus::Result<()> {
    let changed = HashMap::<&str, Variant<'_>>::new();
    let body = (interface, changed, properties);
    connection.emit_signal(None::<&str>, path, PROPERTIES, "PropertiesChanged", &body).await
}
