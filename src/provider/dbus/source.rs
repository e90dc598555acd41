//! One object for each source: whether it answers, and what it may still be asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use zbus::message::Header;
use zbus::{Connection, interface};

use super::error::BusError;
use super::{Desk, PATH, in_path};
use crate::domain::name::SourceName;
use crate::ipc::{Failure, SourceState, SourceStatus};
use crate::provider::dbus::authorization::Action;

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

    /// What the resolver tells of it; nothing, where it gives no answer.
    async fn status<T: Default>(
        &self,
        header: Option<Header<'_>>,
        connection: &Connection,
        see: impl FnOnce(SourceStatus) -> T,
    ) -> Result<T, BusError> {
        self.allowed(header, connection).await?;
        let context = &self.desk.context;
        Ok(context.statuses.of(&context.broker, &self.name).await.map(see).unwrap_or_default())
    }

    fn trouble(&self) -> Option<Failure> {
        self.desk.context.broker.last_failure(&self.name)
    }
}

/// Why a source can't be asked, by what the resolver reports and by what the provider has seen.
fn last_error(status: Option<SourceStatus>, trouble: Option<Failure>) -> Option<Failure> {
    match status {
        // without a token, or with one that is not accepted, an outage of before no longer matters
        Some(SourceStatus { state: SourceState::NoToken | SourceState::Refused, last_failure, .. }) => {
            last_failure.or(trouble)
        }
        // an administrator's check may have found it unreachable: the provider learns of that only here
        Some(SourceStatus { last_failure, .. }) => {
            trouble.or(last_failure.filter(|failure| failure.class.is_transient()))
        }
        None => trouble,
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

    /// Why it can't be asked, or could not the last time; empty if it could.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn last_error(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        let status = self.status(header, connection, Some).await?;
        Ok(last_error(status, self.trouble()).map(|failure| failure.to_string()).unwrap_or_default())
    }

    /// What it is, as the configuration has it: service-account, connect or file.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn kind(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        self.allowed(header, connection).await?;
        let active = self.desk.context.config.get();
        Ok(active
            .settings
            .sources
            .get(&self.name)
            .map(|source| source.kind.as_str().to_owned())
            .unwrap_or_default())
    }

    /// Whether it can be asked: ready, no-token, limited or refused; empty where the resolver gives no answer.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn state(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, BusError> {
        self.status(header, connection, |status| status.state.word().to_owned()).await
    }

    /// Calls of the last 24 hours, where they are counted.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn calls_today(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, BusError> {
        self.status(header, connection, |status| status.quota.map_or(0, |quota| quota.spent.day)).await
    }

    /// How many calls a day it may make; 0 where they are not counted.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn budget(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, BusError> {
        self.status(header, connection, |status| status.quota.map_or(0, |quota| quota.spent.budget)).await
    }

    /// How many of them are left.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn left(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, BusError> {
        self.status(header, connection, |status| status.quota.map_or(0, |quota| quota.left)).await
    }

    /// The units and users that caused the most calls in the last 24 hours, each with its calls; five at most.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn spenders(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<(String, u32)>, BusError> {
        self.status(header, connection, |status| self.desk.context.broker.spenders(&status)).await
    }

    /// Until when it is left alone, in seconds of the Unix epoch; 0 where it is not.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn limited_until(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, BusError> {
        self.status(header, connection, |status| {
            status.quota.and_then(|quota| quota.limited_until).unwrap_or_default()
        })
        .await
    }

    /// When it last answered with success, in seconds of the Unix epoch; 0 where it has not.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn last_success(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, BusError> {
        self.status(header, connection, |status| status.last_success.unwrap_or_default()).await
    }

    /// Calls since the resolver opened it, by outcome: ok, or what went wrong.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn calls(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<BTreeMap<String, u64>, BusError> {
        self.status(header, connection, |status| status.calls).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::Class;

    #[test]
    fn what_the_resolver_saw_counts_too() {
        let failure = |class: Class, cause: &str| Failure::new(class, cause, "wait");
        let away = |cause| failure(Class::Away, cause);
        let missing = || failure(Class::NotFound, "no item");
        let status = |state, last_failure| {
            Some(SourceStatus {
                name: SourceName::default_source(),
                print: String::new(),
                kind: "connect".into(),
                state,
                last_failure,
                last_success: None,
                calls: BTreeMap::new(),
                quota: None,
                spenders: Vec::new(),
                core: None,
            })
        };
        use SourceState::{Limited, NoToken, Ready};
        for (case, status, trouble, expected) in [
            ("all is well", status(Ready, None), None, None),
            ("the resolver does not answer", None, Some(away("p")), Some(away("p"))),
            ("a check found it unreachable", status(Ready, Some(away("r"))), None, Some(away("r"))),
            ("both", status(Ready, Some(away("r"))), Some(away("p")), Some(away("p"))),
            ("an item that is missing", status(Ready, Some(missing())), None, None),
            (
                "limited",
                status(Limited, Some(failure(Class::Limited, "r"))),
                None,
                Some(failure(Class::Limited, "r")),
            ),
            ("no token", status(NoToken, Some(missing())), Some(away("p")), Some(missing())),
            ("no token and no word of it", status(NoToken, None), Some(away("p")), Some(away("p"))),
        ] {
            assert_eq!(last_error(status, trouble), expected, "{case}");
        }
    }
}
