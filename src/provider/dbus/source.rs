//! One object for each source, with its state and its quota.

use std::collections::BTreeMap;
use std::sync::Arc;

use zbus::interface;
use zbus::message::Header;

use super::Desk;
use super::error::BusError;
use crate::domain::name::SourceName;
use crate::ipc::{Failure, SourceState, SourceStatus};
use crate::provider::dbus::authorization::Action;

pub(super) struct SourceObject {
    desk: Arc<Desk>,
    name: SourceName,
}

impl SourceObject {
    pub(super) fn new(desk: Arc<Desk>, name: SourceName) -> Self {
        Self { desk, name }
    }

    async fn allowed(&self, header: Option<Header<'_>>) -> Result<(), BusError> {
        let header = header.ok_or_else(|| BusError::NotAuthorized("the message names no sender".into()))?;
        self.desk.caller(&header).await?.may(Action::Inspect, &header, &self.desk.link).await
    }

    /// What the resolver reports about it; `None` if the resolver does not answer.
    async fn status<T: Default>(
        &self,
        header: Option<Header<'_>>,
        see: impl FnOnce(SourceStatus) -> T,
    ) -> Result<T, BusError> {
        self.allowed(header).await?;
        let context = &self.desk.context;
        Ok(context.statuses.of(&context.broker, &self.name).await.map(see).unwrap_or_default())
    }

    fn trouble(&self) -> Option<Failure> {
        self.desk.context.broker.last_failure(&self.name)
    }
}

/// Why a source cannot be used, from the resolver's report and the provider's own observations.
fn last_error(status: Option<SourceStatus>, trouble: Option<Failure>) -> Option<Failure> {
    match status {
        // without a valid token, an earlier outage no longer matters
        Some(SourceStatus { state: SourceState::NoToken | SourceState::Refused, last_failure, .. }) => {
            last_failure.or(trouble)
        }
        // an administrator's check may have found it unreachable; the provider learns that only here
        Some(SourceStatus { last_failure, .. }) => {
            trouble.or(last_failure.filter(|failure| failure.class.is_transient()))
        }
        None => trouble,
    }
}

/// A source of secrets: an account, a Connect server or a development vault.
#[interface(name = "org.onecred.Credentials1.Source")]
impl SourceObject {
    /// The source's name.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn name(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.allowed(header).await?;
        Ok(self.name.to_string())
    }

    /// Why it cannot be used, or why the last call failed; empty after a successful call.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn last_error(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        let status = self.status(header, Some).await?;
        Ok(last_error(status, self.trouble()).map(|failure| failure.to_string()).unwrap_or_default())
    }

    /// The type of the source, as in the configuration: service-account, connect or file.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn kind(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.allowed(header).await?;
        let active = self.desk.context.config.get();
        Ok(active
            .settings
            .sources
            .get(&self.name)
            .map(|source| source.kind.as_str().to_owned())
            .unwrap_or_default())
    }

    /// Whether it can be used: ready, no-token, limited or refused; empty if the resolver does not answer.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn state(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.status(header, |status| status.state.word().to_owned()).await
    }

    /// Calls of the last 24 hours; 0 if they are not counted.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn calls_today(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u32, BusError> {
        self.status(header, |status| status.quota.map_or(0, |quota| quota.spent.day)).await
    }

    /// How many calls it may make in 24 hours; 0 if they are not counted.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn budget(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u32, BusError> {
        self.status(header, |status| status.quota.map_or(0, |quota| quota.spent.budget)).await
    }

    /// How many of these calls are left.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn left(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u32, BusError> {
        self.status(header, |status| status.quota.map_or(0, |quota| quota.left)).await
    }

    /// The units and users that caused the most calls in the last 24 hours, each with its calls; five at
    /// most.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn spenders(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<Vec<(String, u32)>, BusError> {
        self.status(header, |status| self.desk.context.broker.spenders(&status)).await
    }

    /// Until when onecred makes no calls because 1Password limits them, in seconds since the Unix epoch; 0
    /// without a limit.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn limited_until(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u64, BusError> {
        self.status(header, |status| status.quota.and_then(|quota| quota.limited_until).unwrap_or_default())
            .await
    }

    /// When a call last succeeded, in seconds since the Unix epoch; 0 if none has.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn last_success(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<u64, BusError> {
        self.status(header, |status| status.last_success.unwrap_or_default()).await
    }

    /// Calls since the resolver opened it, by outcome: ok, or the class of the failure.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn calls(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<BTreeMap<String, u64>, BusError> {
        self.status(header, |status| status.calls).await
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
