//! Identifies the sender of a message on the bus: its user, and its unit if the process acts for a unit.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::{Connection, fdo};

use super::authorization::Caller;
use super::error::BusError;
use crate::domain::name::UnitName;
use crate::host::systemd::manager::{Link, ManagerProxy, exec_interface};
use crate::host::systemd::unit_type::ExecType;
use crate::provider::request::attestation::unit_of;

/// The maximum number of senders that are remembered.
const REMEMBERED: usize = 256;
/// How long the bus may take to identify a sender. No other call is read in this time.
const IDENTIFYING: Duration = Duration::from_secs(5);
/// The maximum number of calls that wait for polkit at once: of one user, and of all.
const ASKING_EACH: usize = 16;
const ASKING_AT_ONCE: usize = 256;

/// The senders of calls. The bus never reuses a unique name, so each is identified once.
#[derive(Debug)]
pub(super) struct Callers {
    known: Mutex<HashMap<OwnedUniqueName, Arc<OnceCell<Sender>>>>,
    /// Permits to ask polkit, by user.
    asking_each: Mutex<HashMap<u32, Weak<Semaphore>>>,
    asking: Arc<Semaphore>,
}

/// What the bus says about a sender.
#[derive(Debug)]
struct Sender {
    uid: u32,
    /// The unit whose cgroup its process is in.
    cgroup: Option<UnitName>,
    caller: OnceCell<Arc<Caller>>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            asking_each: Mutex::default(),
            asking: Arc::new(Semaphore::new(ASKING_AT_ONCE)),
        }
    }
}

impl Callers {
    /// The user who sent a message. Asks only the bus, which answers at once.
    pub(super) async fn uid(&self, header: &Header<'_>, link: &Link) -> Result<u32, BusError> {
        let (sender, name) = self.entry(header)?;
        let identified = sender.get_or_try_init(|| identify(&name, link));
        let identified = timeout(IDENTIFYING, identified).await;
        Ok(identified.map_err(|_| BusError::Failed("the bus does not say who calls".to_owned()))??.uid)
    }

    /// The user and unit that sent a message. Also asks systemd, unless the user is root.
    pub(super) async fn of(&self, header: &Header<'_>, link: &Link) -> Result<Arc<Caller>, BusError> {
        let (sender, name) = self.entry(header)?;
        let sender = sender.get_or_try_init(|| identify(&name, link)).await?;
        let caller = sender.caller.get_or_try_init(|| async {
            let connection = link.connection().await?;
            let user = match &sender.cgroup {
                Some(unit) if sender.uid != 0 => user_of(unit, &connection).await,
                _ => None,
            };
            let unit = sender.cgroup.clone().filter(|_| acts_as_unit(sender.uid, user));
            let asking = [self.asking_of(sender.uid), Arc::clone(&self.asking)];
            Ok::<_, BusError>(Arc::new(Caller::new(sender.uid, unit, asking)))
        });
        caller.await.map(Arc::clone)
    }

    fn entry(&self, header: &Header<'_>) -> Result<(Arc<OnceCell<Sender>>, OwnedUniqueName), BusError> {
        let sender =
            header.sender().ok_or_else(|| BusError::NotAuthorized("the message names no sender".into()))?;
        let name = OwnedUniqueName::from(sender.to_owned());
        Ok((self.entry_of(&name), name))
    }

    fn entry_of(&self, name: &OwnedUniqueName) -> Arc<OnceCell<Sender>> {
        let mut known = lock(&self.known);
        if known.len() >= REMEMBERED && !known.contains_key(name) {
            known.clear(); // each is identified again when it calls
        }
        Arc::clone(known.entry(name.clone()).or_default())
    }

    /// The permits of a user, however many connections it has.
    fn asking_of(&self, uid: u32) -> Arc<Semaphore> {
        let mut all = lock(&self.asking_each);
        if let Some(permits) = all.get(&uid).and_then(Weak::upgrade) {
            return permits;
        }
        all.retain(|_, permits| permits.strong_count() > 0);
        let permits = Arc::new(Semaphore::new(ASKING_EACH));
        all.insert(uid, Arc::downgrade(&permits));
        permits
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn identify(name: &OwnedUniqueName, link: &Link) -> Result<Sender, BusError> {
    let connection = link.connection().await?;
    let bus = fdo::DBusProxy::new(&connection).await?;
    let credentials = bus.get_connection_credentials(BusName::from(name.as_ref())).await;
    let credentials = credentials.map_err(zbus::Error::from)?;
    let unknown = || BusError::NotAuthorized("the bus does not say whose process this is".into());
    let uid = credentials.unix_user_id().ok_or_else(unknown)?;
    let pidfd = credentials.process_fd().and_then(|fd| fd.as_fd().try_clone_to_owned().ok());
    let cgroup = credentials.process_id().and_then(|pid| read_unit(pid, pidfd));
    Ok(Sender { uid, cgroup, caller: OnceCell::new() })
}

/// The unit of a process, if units of its type can load credentials.
fn read_unit(pid: u32, pidfd: Option<OwnedFd>) -> Option<UnitName> {
    unit_of(i32::try_from(pid).ok()?, pidfd).ok().filter(has_credentials)
}

/// Whether a unit is of a type that loads credentials. A user's own processes run in `user@.service` or in a session scope, so these do not identify a unit.
fn has_credentials(unit: &UnitName) -> bool {
    ExecType::of(unit.suffix()).is_some() && !unit.as_str().starts_with("user@")
}

/// Whether a process of this user in a unit's cgroup acts for the unit: root does, and the unit's own user does.
fn acts_as_unit(uid: u32, user: Option<u32>) -> bool {
    uid == 0 || user == Some(uid)
}

/// The user that a unit runs as; `None` without `User=`, in which case it runs as root.
///
/// Only the unit's user can read its credentials, and the same applies on the bus: in the cgroup of cron.service, for example, programs of any user run. The check also limits the effect of a reused PID if the bus provides no pidfd.
async fn user_of(unit: &UnitName, connection: &Connection) -> Option<u32> {
    let interface = exec_interface(unit.suffix())?;
    let manager = ManagerProxy::new(connection).await.ok()?;
    let path = manager.load_unit(unit.as_str()).await.ok()?;
    let properties = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1");
    let properties = properties.path(path).build().await.ok()?;
    let uid = properties.get(interface, "UID").await.ok()?;
    user(u32::try_from(uid).ok()?)
}

/// The user in the property `UID`; `None` if systemd has not looked it up or the unit has no `User=`.
fn user(uid: u32) -> Option<u32> {
    (uid != u32::MAX).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_processes_are_units() {
        for (unit, expected) in [
            ("app.service", true),
            ("app@1.service", true),
            ("home.mount", true),
            ("swapfile.swap", true),
            ("app.socket", true),
            ("user@1000.service", false),
            ("user@0.service", false),
            ("user@1000@x.service", false),
            ("users.service", true),
            ("session-3.scope", false),
            ("app.scope", false),
            ("system.slice", false),
            ("app.timer", false),
        ] {
            assert_eq!(has_credentials(&UnitName::parse(unit).unwrap()), expected, "{unit}");
        }
    }

    #[test]
    fn a_process_acts_as_its_unit_if_it_is_root_or_the_units_user() {
        const NONE: u32 = u32::MAX;
        for (uid, of_unit, expected) in [
            (0, NONE, true),
            (0, 998, true),
            (998, 998, true),
            (998, 997, false),
            (998, 0, false),
            (998, NONE, false),
            (NONE, NONE, false),
        ] {
            assert_eq!(acts_as_unit(uid, user(of_unit)), expected, "user {uid} in a unit of {of_unit}");
        }
    }

    #[test]
    fn a_sender_is_identified_once_while_it_is_remembered() {
        let callers = Callers::default();
        let name = |n: usize| OwnedUniqueName::try_from(format!(":1.{n}")).unwrap();
        let first = callers.entry_of(&name(0));
        for n in 1..REMEMBERED {
            assert!(!Arc::ptr_eq(&first, &callers.entry_of(&name(n))), "each has its own");
        }
        let is_known = |callers: &Callers| Arc::ptr_eq(&first, &callers.entry_of(&name(0)));
        assert!(is_known(&callers), "a sender that is known displaces none");
        assert_eq!(lock(&callers.known).len(), REMEMBERED);
        callers.entry_of(&name(REMEMBERED));
        assert!(lock(&callers.known).len() <= REMEMBERED && !is_known(&callers));
    }

    #[test]
    fn all_connections_of_a_user_share_its_permits_for_polkit() {
        let callers = Callers::default();
        let (first, second, other) = (callers.asking_of(998), callers.asking_of(998), callers.asking_of(999));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
        assert_eq!(first.available_permits(), ASKING_EACH);
        assert_eq!(callers.asking.available_permits(), ASKING_AT_ONCE);
        drop((first, second));
        callers.asking_of(997);
        assert_eq!(lock(&callers.asking_each).len(), 2, "a user who is gone is forgotten");
    }
}
