//! One object for each source: whether it answers.

use std::sync::Arc;

use zbus::message::Header;
use zbus::{Connection, interface};

use super::caller::Action;
use super::error::BusError;
use super::{Desk, PATH, in_path};
use crate::name::SourceName;
use crate::wire::Failure;

/// A source on the bus.
pub(super) struct SourceObject {
    desk: Arc<Desk>,
    name: SourceName,
}

impl SourceObject {
    /// The object of the source of this name.
    pub(super) fn new(desk: Arc<Desk>, name: SourceName) -> Self {
        Self { desk, name }
    }

    /// Where a source's object is.
    pub(super) fn path(name: &str) -> String {
        format!("{PATH}/source/{}", in_path(name))
    }

    async fn allowed(&self, header: Option<Header<'_>>, connection: &Connection) -> Result<(), BusError> {
        let header = header.ok_or_else(|| BusError::NotAuthorized("the message names no sender".into()))?;
        self.desk.caller(&header, connection).await?.may(Action::Inspect, &header, connection).await
    }

    fn trouble(&self) -> Option<Failure> {
        self.desk.server.broker.last_failure(&self.name)
    }
}

/// A source of secrets: an account, a Connect server or a development vault.
#[interface(name = "org.onecred.Credentials1.Source")]
impl SourceObject {
    /// Its name.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn name(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        self.allowed(header, connection).await?;
        Ok(self.name.to_string())
    }

    /// Why it could not be asked the last time; empty where it could.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn last_error(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        self.allowed(header, connection).await?;
        Ok(self.trouble().map(|failure| failure.to_string()).unwrap_or_default())
    }
}
