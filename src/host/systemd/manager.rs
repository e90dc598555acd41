//! The service manager over D-Bus (org.freedesktop.systemd1(5)): how units stand, and to start, restart and reload them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zbus::message::Sequence;
use zbus::names::InterfaceName;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, proxy};

use super::unit_type::ExecType;

/// The manager's name on the bus.
const SYSTEMD: &str = "org.freedesktop.systemd1";
/// After how long an answer counts as lost.
const LOST: Duration = Duration::from_secs(30);

/// A unit as `ListUnitsByPatterns` has it: name, description, load state, active state, sub state, the unit that it follows, its object,
/// and its job: the number (0 for none), the type and the object.
pub type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A job as `ListJobs` has it: its number, its unit, its type, its state, its object and the unit's.
pub type Queued = (u32, String, String, String, OwnedObjectPath, OwnedObjectPath);

/// The manager.
#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    /// Has signals sent to this connection.
    fn subscribe(&self) -> zbus::Result<()>;
    /// The units that are in memory and match.
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    /// These units, loaded if need be.
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Listed>>;
    /// The jobs that have not ended.
    fn list_jobs(&self) -> zbus::Result<Vec<Queued>>;
    /// A unit's object, loaded if need be.
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// A unit's object, if the unit is loaded.
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Starts a unit. Gives the job.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Restarts a unit, or starts it if it does not run.
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Restarts a unit, if it runs.
    fn try_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Has a unit reload.
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Sends a signal to processes of a unit: `main`, `control` or `all`.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    /// Has a unit that failed be as if it had not.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    /// The version of systemd, such as `252.39-1~deb12u1`.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;

    /// A job has come to its end: "done", "failed", "dependency", "canceled", "timeout", "skipped"…
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// The number in a version of systemd; 0 if it has none.
pub fn version_number(version: &str) -> u32 {
    let digits = version.find(|c: char| !c.is_ascii_digit()).map_or(version, |end| &version[..end]);
    digits.parse().unwrap_or_default()
}

/// Has signals sent to this connection, whether it has asked for that before or not: the manager refuses a second time.
pub async fn subscribe(manager: &ManagerProxy<'_>) -> zbus::Result<()> {
    match manager.subscribe().await {
        Err(zbus::Error::MethodError(name, ..))
            if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" =>
        {
            Ok(())
        }
        result => result,
    }
}

/// The D-Bus interface with a unit's execution settings, unless its type has none.
pub fn exec_interface(suffix: &str) -> Option<InterfaceName<'static>> {
    let section = ExecType::of(suffix)?.section();
    InterfaceName::try_from(format!("org.freedesktop.systemd1.{section}")).ok()
}

/// A unit.
#[proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
pub trait Unit {
    /// active, reloading, inactive, failed, activating, deactivating, maintenance.
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    /// Its canonical name.
    #[zbus(property(emits_changed_signal = "false"))]
    fn id(&self) -> zbus::Result<String>;
    /// The D-Bus error with which it failed to load, and its message.
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_error(&self) -> zbus::Result<(String, String)>;
    /// Whether its files have changed since it was loaded.
    #[zbus(property(emits_changed_signal = "false"))]
    fn need_daemon_reload(&self) -> zbus::Result<bool>;
    /// Its unit file.
    #[zbus(property(emits_changed_signal = "false"))]
    fn fragment_path(&self) -> zbus::Result<String>;
    /// Its drop-ins.
    #[zbus(property(emits_changed_signal = "false"))]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
    /// The units that wait until it has started.
    #[zbus(property(emits_changed_signal = "false"))]
    fn before(&self) -> zbus::Result<Vec<String>>;
    /// The units that it waits for.
    #[zbus(property(emits_changed_signal = "false"))]
    fn after(&self) -> zbus::Result<Vec<String>>;
    /// The units that it starts, for a timer, path or socket.
    #[zbus(property(emits_changed_signal = "false"))]
    fn triggers(&self) -> zbus::Result<Vec<String>>;
    /// enabled, disabled, masked…; empty where there is no file.
    #[zbus(property(emits_changed_signal = "false"))]
    fn unit_file_state(&self) -> zbus::Result<String>;
    /// loaded, masked, not-found…
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    /// What it can't be without.
    #[zbus(property(emits_changed_signal = "false"))]
    fn requires(&self) -> zbus::Result<Vec<String>>;
    /// The same, where that is not started for it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn requisite(&self) -> zbus::Result<Vec<String>>;
    /// The same, and it ends with it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn binds_to(&self) -> zbus::Result<Vec<String>>;
    /// What can't be without it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn required_by(&self) -> zbus::Result<Vec<String>>;
    /// The same, where it is not started for that.
    #[zbus(property(emits_changed_signal = "false"))]
    fn requisite_of(&self) -> zbus::Result<Vec<String>>;
    /// The same, and that ends with it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn bound_by(&self) -> zbus::Result<Vec<String>>;
}

/// A service.
#[proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
pub trait Service {
    /// How its main process ended; 0 while one runs.
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_status(&self) -> zbus::Result<i32>;
}

/// The way to the manager, made when it is needed and again when it is gone.
#[derive(Debug, Default)]
pub struct Link(Mutex<Option<Connection>>);

impl Link {
    /// The manager, as long as the bus is there.
    pub async fn manager(&self) -> zbus::Result<ManagerProxy<'static>> {
        ManagerProxy::new(&self.connection().await?).await
    }

    /// A unit, loaded if need be.
    pub async fn unit(&self, name: &str) -> zbus::Result<UnitProxy<'static>> {
        let path = self.manager().await?.load_unit(name).await?;
        let unit = UnitProxy::builder(&self.connection().await?).path(path);
        unit.cache_properties(proxy::CacheProperties::No).build().await
    }

    /// The properties of one interface of a unit, such as "Service"; the unit is loaded if need be.
    pub async fn properties(&self, name: &str, interface: &str) -> zbus::Result<Properties> {
        let path = self.manager().await?.load_unit(name).await?;
        let interface = format!("org.freedesktop.systemd1.{interface}");
        let proxy = proxy::Builder::new(&self.connection().await?)
            .destination("org.freedesktop.systemd1")
            .path(path)
            .interface(interface)
            .cache_properties(proxy::CacheProperties::No);
        Ok(Properties(proxy.build().await?))
    }

    /// The connection to the bus.
    pub async fn connection(&self) -> zbus::Result<Connection> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(connection) = known.filter(|connection| !connection.is_closed()) {
            return Ok(connection);
        }
        let connection = zbus::connection::Builder::system().method_timeout(LOST).build().await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        Ok(connection)
    }
}

/// The ends of jobs, as the manager reports them on this connection, in the order in which it sent them.
pub async fn job_ends(connection: &Connection) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(SYSTEMD)
        .path("/org/freedesktop/systemd1")
        .interface("org.freedesktop.systemd1.Manager")
        .member("JobRemoved");
    let ends = MessageStream::for_match_rule(rule.build()?, connection, None).await?;
    subscribe(&ManagerProxy::new(connection).await?).await?;
    Ok(ends)
}

/// Asks the manager for an answer. Whatever it had sent before has a lower position than the result.
pub async fn barrier(connection: &Connection) -> zbus::Result<Sequence> {
    let ping = connection.call_method(
        Some(SYSTEMD),
        "/org/freedesktop/systemd1",
        Some("org.freedesktop.DBus.Peer"),
        "Ping",
        &(),
    );
    Ok(ping.await?.recv_position())
}

/// Properties that are read one at a time.
pub struct Properties(zbus::Proxy<'static>);

impl Properties {
    /// Reads one.
    pub async fn get<T>(&self, name: &str) -> zbus::Result<T>
    where
        T: serde::de::DeserializeOwned + zbus::Type,
    {
        self.0.get_property(name).await
    }
}

/// The jobs that are waited for, by their objects, and the units that they are of.
pub type Jobs = HashMap<OwnedObjectPath, String>;
