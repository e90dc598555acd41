//! A D-Bus client for the service manager (org.freedesktop.systemd1(5)): reads the state of units, and
//! starts, restarts and reloads them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zbus::message::Sequence;
use zbus::names::InterfaceName;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, proxy};

use super::unit_type::ExecType;

const SYSTEMD: &str = "org.freedesktop.systemd1";
/// An answer that takes longer than this counts as lost.
const LOST: Duration = Duration::from_secs(30);

/// A unit as `ListUnitsByPatterns` returns it: name, description, load state, active state, sub state, the
/// unit that it follows, its object path, and its job (number or 0, type, object path).
pub type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A job as `ListJobs` returns it: number, unit, type, state, its object path and that of the unit.
pub type Queued = (u32, String, String, String, OwnedObjectPath, OwnedObjectPath);

/// The service manager's main interface.
#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    /// Asks the manager to send signals to this connection.
    fn subscribe(&self) -> zbus::Result<()>;
    /// The loaded units that match.
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    /// These units; loads them if necessary.
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Listed>>;
    /// The queued and running jobs.
    fn list_jobs(&self) -> zbus::Result<Vec<Queued>>;
    /// The object path of a unit; loads it if necessary.
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// The object path of a unit, if it is loaded.
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Starts a unit and returns the job.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Restarts a unit, or starts it if it is not running.
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Restarts a unit if it is running.
    fn try_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Reloads a unit.
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Sends a signal to processes of a unit: `main`, `control` or `all`.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    /// Resets the failed state of a unit.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    /// The version of systemd, such as `252.39-1~deb12u1`.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;

    /// A job has ended: "done", "failed", "dependency", "canceled", "timeout", "skipped"…
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// The number at the start of a systemd version, or 0 if it has none.
pub fn version_number(version: &str) -> u32 {
    let digits = version.find(|c: char| !c.is_ascii_digit()).map_or(version, |end| &version[..end]);
    digits.parse().unwrap_or_default()
}

/// Subscribes this connection to signals. Also succeeds if it is already subscribed, which the manager
/// reports as an error.
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

/// The D-Bus interface that has a unit's execution settings, if its type has such an interface.
pub fn exec_interface(suffix: &str) -> Option<InterfaceName<'static>> {
    let section = ExecType::of(suffix)?.section();
    InterfaceName::try_from(format!("org.freedesktop.systemd1.{section}")).ok()
}

/// The interface of every unit.
#[proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
pub trait Unit {
    /// active, reloading, inactive, failed, activating, deactivating or maintenance.
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    /// The canonical name.
    #[zbus(property(emits_changed_signal = "false"))]
    fn id(&self) -> zbus::Result<String>;
    /// The D-Bus error and message of a failure to load the unit.
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_error(&self) -> zbus::Result<(String, String)>;
    /// Whether the unit files have changed since the unit was loaded.
    #[zbus(property(emits_changed_signal = "false"))]
    fn need_daemon_reload(&self) -> zbus::Result<bool>;
    /// The path of the unit file.
    #[zbus(property(emits_changed_signal = "false"))]
    fn fragment_path(&self) -> zbus::Result<String>;
    /// The paths of the drop-ins.
    #[zbus(property(emits_changed_signal = "false"))]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
    /// The units that start after this one.
    #[zbus(property(emits_changed_signal = "false"))]
    fn before(&self) -> zbus::Result<Vec<String>>;
    /// The units that this one starts after.
    #[zbus(property(emits_changed_signal = "false"))]
    fn after(&self) -> zbus::Result<Vec<String>>;
    /// The units that this timer, path or socket starts.
    #[zbus(property(emits_changed_signal = "false"))]
    fn triggers(&self) -> zbus::Result<Vec<String>>;
    /// enabled, disabled, masked…; empty if the unit has no file.
    #[zbus(property(emits_changed_signal = "false"))]
    fn unit_file_state(&self) -> zbus::Result<String>;
    /// loaded, masked, not-found…
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    /// The units that this one requires (Requires=).
    #[zbus(property(emits_changed_signal = "false"))]
    fn requires(&self) -> zbus::Result<Vec<String>>;
    /// The units that must already run when this one starts (Requisite=).
    #[zbus(property(emits_changed_signal = "false"))]
    fn requisite(&self) -> zbus::Result<Vec<String>>;
    /// The units that this one requires, and with which it stops (BindsTo=).
    #[zbus(property(emits_changed_signal = "false"))]
    fn binds_to(&self) -> zbus::Result<Vec<String>>;
    /// The units that require this one (Requires=).
    #[zbus(property(emits_changed_signal = "false"))]
    fn required_by(&self) -> zbus::Result<Vec<String>>;
    /// The units that start only if this one already runs (Requisite=).
    #[zbus(property(emits_changed_signal = "false"))]
    fn requisite_of(&self) -> zbus::Result<Vec<String>>;
    /// The units that require this one and stop with it (BindsTo=).
    #[zbus(property(emits_changed_signal = "false"))]
    fn bound_by(&self) -> zbus::Result<Vec<String>>;
}

/// The interface of service units.
#[proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
pub trait Service {
    /// The exit status of the main process; 0 while it runs.
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_status(&self) -> zbus::Result<i32>;
}

/// A connection to the manager, made on first use and again after it is lost.
#[derive(Debug)]
pub struct Link {
    connection: Mutex<Option<Connection>>,
    patience: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self::with_patience(LOST)
    }
}

impl Link {
    /// A connection on which a call fails if it is not answered within this time.
    pub fn with_patience(patience: Duration) -> Self {
        Self { connection: Mutex::default(), patience }
    }

    /// The manager, if the bus can be reached.
    pub async fn manager(&self) -> zbus::Result<ManagerProxy<'static>> {
        ManagerProxy::new(&self.connection().await?).await
    }

    /// A unit; loads it if necessary.
    pub async fn unit(&self, name: &str) -> zbus::Result<UnitProxy<'static>> {
        let path = self.manager().await?.load_unit(name).await?;
        let unit = UnitProxy::builder(&self.connection().await?).path(path);
        unit.cache_properties(proxy::CacheProperties::No).build().await
    }

    /// The properties of one interface of a unit, such as "Service". Loads the unit if necessary.
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

    /// The connection to D-Bus, which is made if necessary.
    pub async fn connection(&self) -> zbus::Result<Connection> {
        let known = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(connection) = known.filter(|connection| !connection.is_closed()) {
            return Ok(connection);
        }
        let connection = zbus::connection::Builder::system().method_timeout(self.patience).build().await?;
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        Ok(connection)
    }
}

/// The job ends that the manager reports on this connection, in the order in which it sent them.
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

/// Makes a round trip to the manager. Everything that it sent before has a lower sequence number than the one
/// returned.
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
    /// Reads a property.
    pub async fn get<T>(&self, name: &str) -> zbus::Result<T>
    where
        T: serde::de::DeserializeOwned + zbus::Type,
    {
        self.0.get_property(name).await
    }
}

/// The jobs to wait for: object paths, and the units of the jobs.
pub type Jobs = HashMap<OwnedObjectPath, String>;
