//! The D-Bus interface `org.onecred.Credentials1` on the system bus, where callers with the permission see
//! and refresh secrets.
//!
//! Serving credentials does not depend on it: the bus may start late, stop and restart. Messages never
//! contain a value.

mod access;
mod answer;
mod arguments;
mod authorization;
mod dict;
mod error;
mod handover;
mod listing;
mod manager;
pub mod metrics_snapshot;
mod operations;
mod predict;
mod secret;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use zbus::fdo::RequestNameFlags;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectServer};

use crate::domain::reference::FieldRef;
use crate::host::pause::Growing;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;
use crate::provider::context::Context;
use crate::provider::fetch::bus_pace::BusPace;
use authorization::Callers;
use error::BusError;
use manager::{Manager, ManagerSignals as _};
use secret::SecretObject;
use source::SourceObject;

/// The name on the bus.
pub const NAME: &str = "org.onecred.Credentials1";
/// The path of the manager object; all other objects are below it.
pub const PATH: &str = "/org/onecred/Credentials1";

/// How long to wait before the next attempt to connect to the bus.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// After how long a reply counts as lost: longer than a user takes to answer polkit's password prompt.
const LOST: Duration = Duration::from_secs(120);

/// A request to reload the configuration, with a channel for the result.
pub type Reload = oneshot::Sender<Result<(), String>>;

/// What all objects share.
pub(super) struct Desk {
    context: Arc<Context>,
    reloads: mpsc::Sender<Reload>,
    callers: Callers,
    pace: BusPace,
}

/// Serves on the system bus until dropped, and reconnects if the bus is not running or restarts.
pub async fn serve(context: Arc<Context>, reloads: mpsc::Sender<Reload>) {
    let mut pauses = Growing::doubling(PAUSES[0], PAUSES[1]);
    loop {
        // subscribe before the objects are created, so that no change is missed
        let events = context.broker.events.follow();
        let desk = Arc::new(Desk {
            context: Arc::clone(&context),
            reloads: reloads.clone(),
            callers: Callers::default(),
            pace: BusPace::default(),
        });
        match connect(&desk).await {
            Ok(connection) => {
                tracing::debug!("on the bus as {NAME}");
                pauses.reset();
                tokio::select! {
                    () = connection.closed() => tracing::info!("the bus has gone; credentials are served all the same"),
                    () = tell(&desk, &connection, events) => {}
                }
            }
            Err(error) => tracing::debug!("the system bus can't be served now: {error}"),
        }
        tokio::time::sleep(pauses.pause()).await;
    }
}

async fn connect(desk: &Arc<Desk>) -> zbus::Result<Connection> {
    let builder = zbus::connection::Builder::system().method_timeout(LOST);
    let connection = builder.serve_at(PATH, Manager::new(Arc::clone(desk))).build().await?;
    show(desk, connection.object_server(), &BTreeSet::new()).await?;
    // the keeper of a killed provider holds a copy of the old connection, and with it the name, until it has
    // refused all waiting units
    let flags = RequestNameFlags::REPLACE_EXISTING
        | RequestNameFlags::ALLOW_REPLACEMENT
        | RequestNameFlags::DO_NOT_QUEUE;
    connection.request_name_with_flags(NAME, flags).await?;
    Ok(connection)
}

/// Creates an object for each secret and source, and removes outdated ones. Returns the paths of all objects.
async fn show(
    desk: &Arc<Desk>,
    objects: &ObjectServer,
    shown: &BTreeSet<String>,
) -> zbus::Result<BTreeSet<String>> {
    let active = desk.context.config.get();
    let mut now = BTreeSet::new();
    for secret in active.settings.policy.secrets() {
        let path = answer::secret_path(secret.name.as_str());
        if !shown.contains(&path) {
            let object = SecretObject::new(Arc::clone(desk), secret.name.to_string());
            objects.at(path.as_str(), object).await?;
        }
        now.insert(path);
    }
    for name in active.settings.sources.keys() {
        let path = SourceObject::path(name.as_str());
        if !shown.contains(&path) {
            objects.at(path.as_str(), SourceObject::new(Arc::clone(desk), name.clone())).await?;
        }
        now.insert(path);
    }
    for path in shown.difference(&now) {
        if !objects.remove::<SecretObject, _>(path.as_str()).await.unwrap_or(false) {
            let _ = objects.remove::<SourceObject, _>(path.as_str()).await;
        }
    }
    Ok(now)
}

/// Emits events as signals until the connection ends.
async fn tell(desk: &Arc<Desk>, connection: &Connection, mut events: broadcast::Receiver<Event>) {
    let objects = connection.object_server();
    let active = desk.context.config.get();
    let secrets = active.settings.policy.secrets().map(|secret| answer::secret_path(secret.name.as_str()));
    let sources = active.settings.sources.keys().map(|name| SourceObject::path(name.as_str()));
    let mut shown: BTreeSet<String> = secrets.chain(sources).collect();
    drop(active);
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => Event::Configured, // the properties show what was missed
            Err(RecvError::Closed) => return,
        };
        let told = match event {
            Event::Configured => match show(desk, objects, &shown).await {
                Ok(now) => {
                    shown = now;
                    manager_changed(connection).await
                }
                Err(error) => Err(error),
            },
            Event::Changed { key, fields, version, .. } => {
                changed(desk, connection, &key, &fields, version).await
            }
            Event::Failed { key, fields, failure } => {
                let name = BusError::name_of(failure.class);
                failed(desk, connection, &key, fields.as_deref(), name).await
            }
            Event::Held { name } => properties_changed(objects, &name).await,
        };
        if let Err(error) = told {
            tracing::debug!("a signal could not be sent: {error}");
        }
    }
}

async fn manager_changed(connection: &Connection) -> zbus::Result<()> {
    let manager = connection.object_server().interface::<_, Manager>(PATH).await?;
    let (object, emitter) = (manager.get().await, manager.signal_emitter());
    object.configuration_error_invalidate(emitter).await?;
    object.configuration_loaded_invalidate(emitter).await
}

async fn changed(
    desk: &Desk,
    connection: &Connection,
    key: &ItemKey,
    fields: &[FieldRef],
    version: u64,
) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(connection, PATH)?;
    for name in names(desk, key, Some(fields)) {
        emitter.changed(&name, version).await?;
        properties_changed(connection.object_server(), &name).await?;
    }
    Ok(())
}

async fn failed(
    desk: &Desk,
    connection: &Connection,
    key: &ItemKey,
    fields: Option<&[FieldRef]>,
    error: &str,
) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(connection, PATH)?;
    for name in names(desk, key, fields) {
        emitter.failed(&name, error).await?;
        properties_changed(connection.object_server(), &name).await?;
    }
    Ok(())
}

/// The secrets with these fields of an item; without fields, all secrets of the item.
fn names(desk: &Desk, key: &ItemKey, fields: Option<&[FieldRef]>) -> Vec<String> {
    let active = desk.context.config.get();
    active.secrets_of(key, fields).map(|secret| secret.name.to_string()).collect()
}

async fn properties_changed(objects: &ObjectServer, name: &str) -> zbus::Result<()> {
    let object = objects.interface::<_, SecretObject>(answer::secret_path(name)).await?;
    object.get().await.tell_changed(object.signal_emitter()).await
}

/// Escapes a name for an object path: each invalid character becomes `_` and two hexadecimal digits, as in
/// systemd.
fn in_path(name: &str) -> String {
    let escaped =
        |(at, byte): (usize, u8)| match byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit() {
            true => char::from(byte).to_string(),
            false => format!("_{byte:02x}"),
        };
    name.bytes().enumerate().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_that_d_bus_allows() {
        assert_eq!(in_path("db-password"), "db_2dpassword");
        assert_eq!(in_path("1st_key"), "_31st_5fkey");
        assert!(zbus::ObjectPath::try_from(answer::secret_path("a.b@c-d_e")).is_ok());
    }
}
