//! The D-Bus interface `org.onecred.Credentials1` on the system bus, where callers with the permission see
//! and refresh secrets.
//!
//! Serving credentials does not depend on it: the bus may start late, stop and restart. Messages never
//! contain a value.

mod access;
mod admission;
mod answer;
mod arguments;
mod authorization;
mod callers;
mod dict;
mod dispatch;
mod error;
mod handover;
mod introspection;
mod listing;
mod manager;
pub mod metrics_snapshot;
mod objects;
mod operations;
mod path;
mod predict;
mod secret;
mod signals;
mod source;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;
use zbus::fdo::RequestNameFlags;
use zbus::{Connection, MessageStream};

use crate::host::pause::Growing;
use crate::host::systemd::manager::Link;
use crate::provider::base::events::Event;
use crate::provider::context::Context;
use crate::provider::fetch::bus_pace::BusPace;
use callers::Callers;
use handover::Handouts;
use objects::Objects;

/// The name on the bus.
pub const NAME: &str = "org.onecred.Credentials1";
/// The path of the manager object; all other objects are below it.
pub const PATH: &str = "/org/onecred/Credentials1";

/// How long to wait before the next attempt to connect to the bus.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// How long connecting may take: a bus without free descriptors or memory may accept a connection and never answer.
const CONNECTING: Duration = Duration::from_secs(30);
/// How long to wait for an answer: long enough to type a password at polkit's prompt.
const LOST: Duration = Duration::from_secs(120);

/// A request to reload the configuration, with a channel for the result.
pub type Reload = oneshot::Sender<Result<(), String>>;

/// What all objects share.
pub(super) struct Desk {
    context: Arc<Context>,
    reloads: mpsc::Sender<Reload>,
    callers: Callers,
    pace: BusPace,
    handouts: Handouts,
    /// The connection for calls to the bus, systemd and polkit. Its replies arrive even while calls wait on the serving connection.
    link: Link,
}

/// Serves on the system bus while it is polled. Connects again when the bus restarts or closes the connection.
pub async fn serve(context: Arc<Context>, reloads: mpsc::Sender<Reload>) {
    let mut pauses = Growing::doubling(PAUSES[0], PAUSES[1]);
    loop {
        // subscribe before requesting the name, so that no change is missed
        let events = context.broker.events.follow();
        let desk = Arc::new(Desk {
            context: Arc::clone(&context),
            reloads: reloads.clone(),
            callers: Callers::default(),
            pace: BusPace::default(),
            handouts: Handouts::default(),
            link: Link::with_patience(LOST),
        });
        match timeout(CONNECTING, connect(&desk)).await {
            Ok(Ok((objects, calls))) => match serve_on(&desk, objects, calls, events).await {
                Ok(()) => {
                    pauses.reset();
                    tracing::info!("the connection to the bus was lost; credentials are still served");
                }
                Err(error) => tracing::debug!("the name {NAME} can't be taken: {error}"),
            },
            Ok(Err(error)) => tracing::debug!("the system bus can't be served now: {error}"),
            Err(_) => tracing::debug!("the system bus does not answer"),
        }
        tokio::time::sleep(pauses.pause()).await;
    }
}

/// Connects. Calls are queued from the start, so that no call is lost.
async fn connect(desk: &Arc<Desk>) -> zbus::Result<(Arc<Objects>, MessageStream)> {
    let connection = zbus::connection::Builder::system().build().await?;
    let calls = dispatch::calls(&connection).await?;
    let server = desk.link.connection().await?.object_server().clone();
    Ok((Arc::new(Objects { desk: Arc::clone(desk), connection, server }), calls))
}

/// Requests the name. The caller must read calls at the same time: calls that waited in the bus arrive before the reply.
async fn take_name(connection: &Connection) -> zbus::Result<()> {
    // a provider that was killed leaves the name to its keeper's copy of the connection until the last consumer is refused
    let flags = RequestNameFlags::REPLACE_EXISTING
        | RequestNameFlags::ALLOW_REPLACEMENT
        | RequestNameFlags::DO_NOT_QUEUE;
    match timeout(CONNECTING, connection.request_name_with_flags(NAME, flags)).await {
        Ok(taken) => taken.map(|_| tracing::debug!("on the bus as {NAME}")),
        Err(_elapsed) => Err(zbus::Error::Failure("the bus does not answer".to_owned())),
    }
}

/// Takes the name, then answers calls and sends signals until the connection ends.
async fn serve_on(
    desk: &Arc<Desk>,
    objects: Arc<Objects>,
    calls: MessageStream,
    events: broadcast::Receiver<Event>,
) -> zbus::Result<()> {
    let connection: Connection = objects.connection.clone();
    let sending = async {
        take_name(&connection).await?;
        signals::send(desk, &connection, events).await;
        Ok(())
    };
    let result = tokio::select! {
        () = connection.closed() => Ok(()),
        () = dispatch::answer(objects, calls) => Ok(()),
        result = sending => result,
    };
    let _ = connection.close().await; // calls that are still in progress hold it
    result
}
