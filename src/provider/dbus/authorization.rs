//! Identifies callers and what they may do: root may do everything, a unit what the policy allows, others
//! what polkit allows.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, Semaphore};
use zbus::message::{Flags, Header};
use zbus::names::{BusName, OwnedUniqueName};
use zbus::{Connection, fdo};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::error::BusError;
use crate::domain::name::UnitName;
use crate::domain::policy::Policy;
use crate::domain::secret::Secret;
use crate::host::systemd::manager::{ManagerProxy, exec_interface};
use crate::host::systemd::unit_type::ExecType;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::asker::Asker;
use crate::provider::request::attestation::unit_of;

/// How many callers are remembered.
const REMEMBERED: usize = 256;
/// How long polkit's answer for `inspect` is cached: a client reads many properties one after another.
const GOOD_FOR: Duration = Duration::from_secs(3);

/// The largest message in bytes: longer than any valid request.
const LONGEST: usize = 1 << 20;
/// How many calls may wait at once: for the identity of their caller, for polkit per caller, and for polkit
/// in total.
const UNKNOWN_AT_ONCE: usize = 4096;
const ASKING_EACH: usize = 16;
const ASKING_AT_ONCE: usize = 256;

/// The interface for reading properties.
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The polkit actions.
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

/// The callers so far. The bus never reuses a unique name, so each caller is identified once.
#[derive(Debug)]
pub(super) struct Callers {
    known: Mutex<HashMap<OwnedUniqueName, Arc<Identity>>>,
    /// Permits for callers that are not identified yet.
    unknown: Semaphore,
    asking: Arc<Semaphore>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            unknown: Semaphore::new(UNKNOWN_AT_ONCE),
            asking: Arc::new(Semaphore::new(ASKING_AT_ONCE)),
        }
    }
}

/// The first call identifies the caller, and further calls wait for that: a bus with too many pending
/// requests drops replies.
type Identity = OnceCell<Arc<Caller>>;

impl Callers {
    /// Identifies the sender of a message.
    pub(super) async fn of(
        &self,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<Arc<Caller>, BusError> {
        let sender =
            header.sender().ok_or_else(|| BusError::NotAuthorized("the message names no sender".into()))?;
        // any user can send anything; reject excess calls at once to bound memory
        if header.primary().body_len() as usize > LONGEST {
            return Err(BusError::InvalidArgument(format!("a message may have {LONGEST} bytes")));
        }
        let name = OwnedUniqueName::from(sender.to_owned());
        let identity = self.entry(&name);
        if let Some(known) = identity.get() {
            return Ok(Arc::clone(known));
        }
        let _turn = self.unknown.try_acquire().map_err(|_| too_many())?;
        let found = identity
            .get_or_try_init(|| async { identify(&name, connection, &self.asking).await.map(Arc::new) })
            .await;
        found.map(Arc::clone)
    }

    fn entry(&self, name: &OwnedUniqueName) -> Arc<Identity> {
        let mut known = self.known();
        if known.len() >= REMEMBERED && !known.contains_key(name) {
            known.clear(); // callers are identified again
        }
        Arc::clone(known.entry(name.clone()).or_default())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<OwnedUniqueName, Arc<Identity>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many() -> BusError {
    BusError::Failed("too many calls at once; wait for answers, then ask again".to_owned())
}

async fn identify(
    name: &OwnedUniqueName,
    connection: &Connection,
    asking: &Arc<Semaphore>,
) -> Result<Caller, BusError> {
    let bus = fdo::DBusProxy::new(connection).await?;
    let ask = || bus.get_connection_credentials(BusName::from(name.as_ref()));
    let told = ask().await.map_err(zbus::Error::from)?;
    let uid = told
        .unix_user_id()
        .ok_or_else(|| BusError::NotAuthorized("the bus does not say whose process this is".into()))?;
    let (pid, pidfd) =
        (told.process_id(), told.process_fd().and_then(|fd| fd.as_fd().try_clone_to_owned().ok()));
    let mut unit = pid.and_then(|pid| read_unit(pid, pidfd));
    if let Some(name) = &unit
        && !acts_as_unit(uid, if uid == 0 { None } else { user_of(name, connection).await })
    {
        unit = None;
    }
    let asking = [Arc::new(Semaphore::new(ASKING_EACH)), Arc::clone(asking)];
    Ok(Caller { uid, unit, inspects: Mutex::default(), asking })
}

/// The unit of a process, if its type can load credentials.
fn read_unit(pid: u32, pidfd: Option<OwnedFd>) -> Option<UnitName> {
    unit_of(i32::try_from(pid).ok()?, pidfd).ok().filter(has_credentials)
}

/// Whether units of this type have credentials. All processes of a user are in the user's manager or in a
/// session's scope, so these types prove nothing.
fn has_credentials(unit: &UnitName) -> bool {
    ExecType::of(unit.suffix()).is_some() && !unit.as_str().starts_with("user@")
}

/// Whether a process of this user in a unit's cgroup may act as the unit: only root and the unit's own user.
fn acts_as_unit(uid: u32, user: Option<u32>) -> bool {
    uid == 0 || user == Some(uid)
}

/// The user that a unit runs as; `None` without `User=`: the unit runs as root.
///
/// Only this user can read the unit's credentials, so the same applies on the bus. Otherwise the jobs of any
/// user in the cgroup of cron.service would count as that unit. The check also covers reused process IDs
/// where the bus has no pidfd.
async fn user_of(unit: &UnitName, connection: &Connection) -> Option<u32> {
    let interface = exec_interface(unit.suffix())?;
    let manager = ManagerProxy::new(connection).await.ok()?;
    let path = manager.load_unit(unit.as_str()).await.ok()?;
    let properties = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1");
    let properties = properties.path(path).build().await.ok()?;
    let uid = properties.get(interface, "UID").await.ok()?;
    u32::try_from(uid).ok().filter(|uid| *uid != u32::MAX)
}

impl Caller {
    /// Who is charged for look-ups by this caller.
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
        let inspects = (*self.last_word()).is_some_and(|(at, allowed)| allowed && at.elapsed() < GOOD_FOR);
        let all = self.is_root() || inspects;
        let secrets = policy.secrets().filter(move |secret| all || self.owns(secret, policy));
        secrets.map(|secret| secret.name.as_str())
    }

    /// The error for a name that does not exist.
    pub(super) fn no_secret(&self, active: &ActiveConfig, name: &str) -> BusError {
        BusError::no_secret(active, name, self.visible(&active.settings.policy))
    }

    /// Checks that the caller may do this to secrets that are not its own.
    pub(super) async fn may(
        &self,
        action: Action,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<(), BusError> {
        if self.is_root() {
            return Ok(());
        }
        if action == Action::Inspect
            && let Some((at, allowed)) = *self.last_word()
            && at.elapsed() < GOOD_FOR
        {
            return if allowed { Ok(()) } else { Err(self.denied(action)) };
        }
        let [own, all] = &self.asking;
        let _turns = (own.try_acquire().map_err(|_| too_many())?, all.try_acquire().map_err(|_| too_many())?);
        let allowed = ask_polkit(action, header, connection).await;
        if action == Action::Inspect {
            *self.last_word() = Some((Instant::now(), allowed));
        }
        if allowed { Ok(()) } else { Err(self.denied(action)) }
    }

    fn last_word(&self) -> MutexGuard<'_, Option<(Instant, bool)>> {
        self.inspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn denied(&self, action: Action) -> BusError {
        let unit = self.unit.as_ref().map(|unit| format!(" in {unit}")).unwrap_or_default();
        BusError::NotAuthorized(format!(
            "user {}{unit} may not do this ({}); run it as root, or allow the action in a rule of polkit; a unit may have what \"units\" of a secret gives to it",
            self.uid,
            action.id()
        ))
    }
}

/// Asks polkit; without polkit the answer is no.
async fn ask_polkit(action: Action, header: &Header<'_>, connection: &Connection) -> bool {
    let Ok(subject) = Subject::new_for_message_header(header) else { return false };
    // reading a property never prompts for a password: until the answer, zbus locks the object, and all other
    // calls would wait
    let is_property = header.interface().is_some_and(|name| name.as_str() == PROPERTIES);
    let interactive = !is_property && header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let flags = match interactive {
        true => CheckAuthorizationFlags::ALLOW_USER_INTERACTION,
        false => CheckAuthorizationFlags::empty(),
    };
    let answer = async {
        let authority = AuthorityProxy::new(connection).await?;
        authority.check_authorization(&subject, action.id(), &HashMap::new(), flags, "").await
    };
    match answer.await {
        Ok(result) => result.is_authorized,
        Err(error) => {
            tracing::debug!("polkit can't be asked, so that only root and units are served: {error}");
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
        let asking = [Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1))];
        Caller { uid, unit, inspects: Mutex::default(), asking }
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
    fn which_processes_are_units() {
        for (unit, expected) in [
            ("app.service", true),
            ("app@1.service", true),
            ("home.mount", true),
            ("user@1000.service", false),
            ("user@0.service", false),
            ("session-3.scope", false),
            ("system.slice", false),
        ] {
            assert_eq!(has_credentials(&UnitName::parse(unit).unwrap()), expected, "{unit}");
        }
        for (uid, user, expected) in [
            (0, None, true),
            (0, Some(998), true),
            (998, Some(998), true),
            (998, Some(997), false),
            (998, Some(0), false),
            (998, None, false),
        ] {
            assert_eq!(acts_as_unit(uid, user), expected, "user {uid} in a unit of {user:?}");
        }
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
