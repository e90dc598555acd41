//! Identifies callers and what they may do: root may do everything, a unit what the policy allows, others
//! what polkit allows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use zbus::message::{Flags, Header};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::error::BusError;
use super::introspection::{INTROSPECTABLE, PROPERTIES};
use crate::domain::name::UnitName;
use crate::domain::policy::Policy;
use crate::domain::secret::Secret;
use crate::host::systemd::manager::Link;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::asker::Asker;

/// How long polkit's answer for `Inspect` is valid: reading all properties asks many times.
const GOOD_FOR: Duration = Duration::from_secs(3);

/// An action that polkit can authorize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Read the state of secrets.
    Inspect,
    /// Open a value.
    Read,
    /// Refresh secrets.
    Refresh,
    /// Set and remove overrides.
    Put,
    /// Reload the configuration.
    Reload,
}

impl Action {
    fn id(self) -> &'static str {
        match self {
            Self::Inspect => "org.onecred.credentials1.inspect",
            Self::Read => "org.onecred.credentials1.read",
            Self::Refresh => "org.onecred.credentials1.refresh",
            Self::Put => "org.onecred.credentials1.put",
            Self::Reload => "org.onecred.credentials1.reload",
        }
    }

    /// Whether this needs root or polkit. A unit may do the rest to its own secrets without polkit.
    pub(super) fn needs_polkit(self, is_own: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Inspect | Self::Read | Self::Refresh => !is_own(),
            Self::Put | Self::Reload => true,
        }
    }
}

/// A client on the bus.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) uid: u32,
    /// The unit of its process, if known.
    pub(super) unit: Option<UnitName>,
    /// polkit's last answer for `Inspect`.
    inspects: Mutex<Option<(Instant, bool)>>,
    /// Permits for asking polkit: of this caller, and of all callers.
    asking: [Arc<Semaphore>; 2],
}

impl Caller {
    /// A caller of this user and unit. `asking` are the permits to ask polkit: the user's, and those of all.
    pub(super) fn new(uid: u32, unit: Option<UnitName>, asking: [Arc<Semaphore>; 2]) -> Self {
        Self { uid, unit, inspects: Mutex::default(), asking }
    }

    /// The asker for look-ups that it requests.
    pub(super) fn asker(&self) -> Asker {
        Asker::on_bus(self.uid, self.unit.as_ref())
    }

    pub(super) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether the policy grants a secret to the caller's unit, under any ID.
    pub(super) fn owns(&self, secret: &Secret, policy: &Policy) -> bool {
        let Some(unit) = &self.unit else { return false };
        let ids =
            secret.grants.iter().filter(|grant| grant.units.matches(unit)).map(|grant| &grant.credential);
        ids.into_iter()
            .any(|id| policy.judge(unit, id).is_ok_and(|what| what.label() == secret.name.as_str()))
    }

    /// The names that the caller may see: all for root and for callers that polkit just allowed to inspect,
    /// otherwise those of its unit's secrets.
    pub(super) fn visible<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = &'a str> {
        let all = self.known_answer(Action::Inspect, Instant::now()) == Some(true);
        let secrets = policy.secrets().filter(move |secret| all || self.owns(secret, policy));
        secrets.map(|secret| secret.name.as_str())
    }

    /// The error for a name that does not exist.
    pub(super) fn no_secret(&self, active: &ActiveConfig, name: &str) -> BusError {
        BusError::no_secret(active, name, self.visible(&active.settings.policy))
    }

    /// Whether it may do this to secrets of other units.
    pub(super) async fn may(&self, action: Action, header: &Header<'_>, link: &Link) -> Result<(), BusError> {
        if let Some(allowed) = self.known_answer(action, Instant::now()) {
            return if allowed { Ok(()) } else { Err(self.denied(action)) };
        }
        let [own, all] = &self.asking;
        let _turns = (
            own.try_acquire().map_err(|_| BusError::too_many())?,
            all.try_acquire().map_err(|_| BusError::too_many())?,
        );
        let allowed = ask_polkit(action, header, link).await;
        if action == Action::Inspect {
            *self.last_word() = Some((Instant::now(), allowed));
        }
        if allowed { Ok(()) } else { Err(self.denied(action)) }
    }

    /// Whether it may do this, if polkit need not be asked: root may do everything, and polkit's answer for
    /// `Inspect` is valid for a while.
    fn known_answer(&self, action: Action, now: Instant) -> Option<bool> {
        if self.is_root() {
            return Some(true);
        }
        let (at, allowed) = self.last_word().filter(|_| action == Action::Inspect)?;
        (now.saturating_duration_since(at) < GOOD_FOR).then_some(allowed)
    }

    fn last_word(&self) -> MutexGuard<'_, Option<(Instant, bool)>> {
        self.inspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn denied(&self, action: Action) -> BusError {
        let unit = self.unit.as_ref().map(|unit| format!(" in {unit}")).unwrap_or_default();
        BusError::NotAuthorized(format!(
            "user {}{unit} may not do this ({}); run it as root, or allow the action in a rule of polkit; a unit may read the secrets whose \"units\" name it",
            self.uid,
            action.id()
        ))
    }
}

/// Whether polkit allows it. Without polkit, the answer is no.
async fn ask_polkit(action: Action, header: &Header<'_>, link: &Link) -> bool {
    let Ok(subject) = Subject::new_for_message_header(header) else { return false };
    // a program that shows properties reads many of them, and polkit must not prompt for each
    let is_look =
        header.interface().is_some_and(|name| [PROPERTIES, INTROSPECTABLE].contains(&name.as_str()));
    let interactive = !is_look && header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let flags = match interactive {
        true => CheckAuthorizationFlags::ALLOW_USER_INTERACTION,
        false => CheckAuthorizationFlags::empty(),
    };
    let answer = async {
        let authority = AuthorityProxy::new(&link.connection().await?).await?;
        authority.check_authorization(&subject, action.id(), &HashMap::new(), flags, "").await
    };
    match answer.await {
        Ok(result) => result.is_authorized,
        Err(error) => {
            tracing::debug!("polkit can't be asked, so only root and units are served: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::base::active_config::ActiveConfig;

    fn caller(uid: u32, unit: Option<&str>) -> Caller {
        let unit = unit.map(|unit| UnitName::parse(unit).unwrap());
        Caller::new(uid, unit, [Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1))])
    }

    #[test]
    fn what_a_unit_may_do_to_its_own_secrets() {
        for (action, is_allowed) in [
            (Action::Inspect, true),
            (Action::Read, true),
            (Action::Refresh, true),
            (Action::Put, false),
            (Action::Reload, false),
        ] {
            assert_eq!(action.needs_polkit(|| true), !is_allowed, "{action:?}");
            assert!(action.needs_polkit(|| false), "{action:?}");
        }
    }

    #[test]
    fn polkit_is_asked_unless_the_answer_is_known() {
        let at = Instant::now();
        let millisecond = Duration::from_millis(1);
        for (uid, action, answer, age, known) in [
            (0, Action::Put, None, Duration::ZERO, Some(true)),
            (0, Action::Inspect, Some(false), Duration::ZERO, Some(true)),
            (1000, Action::Inspect, None, Duration::ZERO, None),
            (1000, Action::Inspect, Some(true), GOOD_FOR - millisecond, Some(true)),
            (1000, Action::Inspect, Some(false), GOOD_FOR - millisecond, Some(false)),
            (1000, Action::Inspect, Some(true), GOOD_FOR, None),
            (1000, Action::Inspect, Some(true), GOOD_FOR + millisecond, None),
            (1000, Action::Read, Some(true), Duration::ZERO, None),
        ] {
            let caller = caller(uid, None);
            *caller.last_word() = answer.map(|allowed| (at, allowed));
            assert_eq!(caller.known_answer(action, at + age), known, "{uid} {action:?} {answer:?} {age:?}");
        }
    }

    #[test]
    fn polkit_knows_the_actions() {
        let policy = include_str!("../../../units/polkit-1/actions/org.onecred.credentials1.policy");
        for action in [Action::Inspect, Action::Read, Action::Refresh, Action::Put, Action::Reload] {
            assert!(policy.contains(&format!("<action id=\"{}\">", action.id())), "{action:?}");
        }
        let ids: std::collections::HashSet<_> =
            [Action::Inspect, Action::Read, Action::Refresh, Action::Put, Action::Reload]
                .map(Action::id)
                .into();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn a_secret_is_owned_by_the_units_of_its_grants() {
        let text = r#"{ "secrets": [
            { "name": "db-password", "reference": "op://v/i/f", "units": ["app", "web@*/db"] },
            { "name": "none", "reference": "op://v/i/g", "units": [] } ] }"#;
        let loaded = crate::config::from_text(std::path::Path::new("test.json"), text).unwrap();
        let policy = &loaded.settings.policy;
        for (unit, owns) in [
            (Some("app.service"), true),
            (Some("web@1.service"), true),
            (Some("web.service"), false),
            (Some("other.service"), false),
            (None, false),
        ] {
            let caller = caller(998, unit);
            let owned: Vec<_> =
                policy.secrets().filter(|it| caller.owns(it, policy)).map(|it| it.name.as_str()).collect();
            assert_eq!(owned, if owns { vec!["db-password"] } else { vec![] }, "{unit:?}");
        }
    }

    #[test]
    fn a_name_is_suggested_only_to_those_who_may_see_it() {
        let text = r#"{ "secrets": [
            { "name": "db-password", "reference": "op://v/i/f", "units": ["app"] },
            { "name": "api-key", "reference": "op://v/i/g", "units": ["web"] } ] }"#;
        let loaded =
            crate::config::from_text(std::path::Path::new("/etc/onecred/secrets.json"), text).unwrap();
        let active = ActiveConfig::new(loaded.settings);
        let said = |caller: &Caller, name: &str| {
            let error = caller.no_secret(&active, name);
            zbus::DBusError::description(&error).unwrap_or_default().to_owned()
        };
        let (root, app, user) = (caller(0, None), caller(998, Some("app.service")), caller(1000, None));
        assert!(said(&root, "api-kye").contains("did you mean \"api-key\"?"));
        assert!(said(&root, "something").contains("see: onecred list"));
        assert!(said(&app, "db-pasword").contains("did you mean \"db-password\"?"));
        for (caller, name) in [(&app, "api-kye"), (&user, "api-kye"), (&user, "db-pasword")] {
            assert!(!said(caller, name).contains("did you mean"), "{caller:?} {name}");
        }
        // polkit has just allowed it to see all secrets
        *user.last_word() = Some((Instant::now(), true));
        assert!(said(&user, "api-kye").contains("did you mean \"api-key\"?"));
        *user.last_word() = Some((Instant::now(), false));
        assert!(!said(&user, "api-kye").contains("did you mean"));
    }
}
