//! The provider on the system bus, for the verbs, and its errors as messages for people.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;

use serde::Serialize;
use zbus::names::BusName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedFd, OwnedVariant, fdo};

use super::common::sockets::{self, Socket};
use crate::cli::common::show;
use crate::cli::creds_socket::{self, Finding};
use crate::domain::name::UnitName;
use crate::provider::dbus::{NAME, PATH};

/// The result of refreshing one secret, as on D-Bus.
pub(super) type RefreshResult = (String, String, u64, String, String);

#[zbus::proxy(
    interface = "org.onecred.Credentials1.Manager",
    default_service = "org.onecred.Credentials1",
    default_path = "/org/onecred/Credentials1"
)]
pub(super) trait Manager {
    #[zbus(allow_interactive_auth)]
    fn list_secrets(&self) -> zbus::Result<Vec<HashMap<String, OwnedVariant>>>;
    #[zbus(name = "ListSecrets")]
    fn list_secrets_silently(&self) -> zbus::Result<Vec<HashMap<String, OwnedVariant>>>;
    #[zbus(allow_interactive_auth)]
    fn list_templates(&self) -> zbus::Result<Vec<HashMap<String, OwnedVariant>>>;
    #[zbus(allow_interactive_auth)]
    fn list_rules(&self) -> zbus::Result<Vec<HashMap<String, OwnedVariant>>>;
    #[zbus(allow_interactive_auth)]
    fn refresh(&self, names: &[&str], flags: u64) -> zbus::Result<Vec<RefreshResult>>;
    #[zbus(allow_interactive_auth)]
    fn refresh_all(&self, flags: u64) -> zbus::Result<Vec<RefreshResult>>;
    #[zbus(allow_interactive_auth)]
    fn predict(
        &self,
        unit: &str,
        credentials: &[(&str, bool)],
        flags: u64,
    ) -> zbus::Result<Vec<HashMap<String, OwnedVariant>>>;
    #[zbus(allow_interactive_auth)]
    fn reload(&self) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn open(&self, name: &str) -> zbus::Result<OwnedFd>;
    #[zbus(allow_interactive_auth)]
    fn put(&self, name: &str, value: zbus::Fd<'_>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn rollback(&self, name: &str) -> zbus::Result<u64>;
    #[zbus(allow_interactive_auth)]
    fn affected(&self, names: &[&str]) -> zbus::Result<Vec<(String, String, String, String)>>;
    #[zbus(allow_interactive_auth)]
    fn release(&self, name: &str) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn metrics(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn configuration_error(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn sealing_error(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn keeper_error(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn units_to_recover(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn units_recovered(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn configuration_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn configuration_file_error(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn configuration_loaded(&self) -> zbus::Result<u64>;
}

#[zbus::proxy(interface = "org.onecred.Credentials1.Source", default_service = "org.onecred.Credentials1")]
pub(super) trait Source {
    #[zbus(property)]
    fn name(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn last_error(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn kind(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn calls_today(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn budget(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn left(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn spenders(&self) -> zbus::Result<Vec<(String, u32)>>;
    #[zbus(property)]
    fn limited_until(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn last_success(&self) -> zbus::Result<u64>;
}

/// A connection to the system bus, for the duration of one verb.
pub(super) struct Bus(Connection);

/// Connects to the system bus and runs a future.
pub(super) fn talk<T, F: Future<Output = Result<T, Fault>>>(talk: impl FnOnce(Bus) -> F) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fault::failed(format!("can't reach D-Bus: {error}")))?;
    runtime.block_on(async {
        let connection = Connection::system().await.map_err(no_bus)?;
        talk(Bus(connection)).await
    })
}

impl Bus {
    /// The manager interface of the provider.
    pub(super) async fn manager(&self) -> Result<ManagerProxy<'_>, Fault> {
        self.can_be_started().await?;
        Ok(ManagerProxy::builder(&self.0).cache_properties(CacheProperties::No).build().await?)
    }

    /// Checks that a call can start onecred, which needs an active socket. Otherwise dbus-daemon would wait
    /// until its timeout.
    async fn can_be_started(&self) -> Result<(), Fault> {
        let name = BusName::try_from(NAME)?;
        let runs = fdo::DBusProxy::new(&self.0).await?.name_has_owner(name).await;
        if runs.unwrap_or(true) {
            return Ok(());
        }
        match sockets::keep_it_down(&self.sockets().await) {
            Some(why) => Err(Fault::failed(why)),
            None => Ok(()),
        }
    }

    /// The state of onecred's sockets.
    pub(super) async fn sockets(&self) -> Vec<Socket> {
        sockets::all(&self.0).await
    }

    /// The connection to the bus.
    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }

    /// What is wrong with the socket through which hardened units decrypt credentials, if any unit depends on
    /// it. `None` if systemd cannot be asked.
    pub(super) async fn creds_socket(&self) -> Option<Finding> {
        creds_socket::finding(&self.0).await.ok().flatten()
    }

    /// Like [`Self::creds_socket`], but for one unit.
    pub(super) async fn creds_socket_for(&self, unit: &UnitName) -> Option<Finding> {
        creds_socket::finding_for(&self.0, unit).await.ok().flatten()
    }

    /// The source with this object name, as in its path.
    pub(super) async fn source(&self, object: &str) -> Result<SourceProxy<'_>, Fault> {
        let path = format!("{PATH}/source/{object}");
        Ok(SourceProxy::builder(&self.0).path(path).cache_properties(CacheProperties::No).build().await?)
    }

    /// The names of the objects of sources.
    pub(super) async fn sources(&self) -> Result<Vec<String>, Fault> {
        let builder = fdo::IntrospectableProxy::builder(&self.0).destination(NAME);
        let folder = builder.path(format!("{PATH}/source")).build().await?;
        match folder.introspect().await {
            Ok(xml) => Ok(children(&xml)),
            // there are no sources without a configuration
            Err(fdo::Error::UnknownObject(_)) => Ok(Vec::new()),
            Err(error) => Err(zbus::Error::from(error).into()),
        }
    }
}

/// The names of the child nodes in an introspection document.
fn children(xml: &str) -> Vec<String> {
    let after = xml.split("<node name=\"").skip(1);
    after.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}

/// Why a verb failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// The D-Bus error name, if it is one of onecred's.
    pub(super) name: String,
    /// Cause and remedy.
    pub(super) message: String,
}

impl Fault {
    fn failed(message: String) -> Self {
        Self { name: format!("{OWN}Failed"), message }
    }

    /// Whether nothing is served because the configuration or the store cannot be used.
    pub(super) fn is_misconfigured(&self) -> bool {
        self.name == MISCONFIGURED
    }

    /// Whether the user of the verb is not authorized.
    pub(super) fn is_not_authorized(&self) -> bool {
        self.name == NOT_AUTHORIZED
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show::clean(&self.message))
    }
}

impl std::error::Error for Fault {}

const OWN: &str = "org.onecred.Error.";
const NOT_AUTHORIZED: &str = "org.onecred.Error.NotAuthorized";
const MISCONFIGURED: &str = "org.onecred.Error.Misconfigured";
const SEE: &str = "see: systemctl status onecred";

fn no_bus(error: zbus::Error) -> Fault {
    Fault::failed(format!(
        "the system bus can't be reached: {}; start it: systemctl start dbus.socket (units get their credentials without it; {SEE})",
        plain(&error)
    ))
}

/// The message of a transport error, without names of types and variants.
fn plain(error: &zbus::Error) -> String {
    match error {
        zbus::Error::InputOutput(error) => error.to_string(),
        other => other.to_string(),
    }
}

impl From<zbus::Error> for Fault {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                Self::named(name.as_str(), &message.unwrap_or_default())
            }
            zbus::Error::FDO(error) => match *error {
                fdo::Error::ZBus(error) => error.into(),
                error => {
                    let message = zbus::DBusError::description(&error).unwrap_or_default().to_owned();
                    Self::named(zbus::DBusError::name(&error).as_str(), &message)
                }
            },
            zbus::Error::InputOutput(error) => {
                Self::failed(format!("the connection to onecred broke off: {error}; try again, and {SEE}"))
            }
            error => Self::failed(format!("onecred can't be reached: {error}; {SEE}")),
        }
    }
}

impl Fault {
    /// The message for a D-Bus error with this name.
    fn named(name: &str, message: &str) -> Self {
        if name.starts_with(OWN) {
            return Self { name: name.to_owned(), message: message.to_owned() };
        }
        let message = message.trim().trim_end_matches('.');
        let of_bus = name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default();
        match of_bus {
            "ServiceUnknown" | "NameHasNoOwner" => {
                Self::failed(format!("onecred is not on the system bus: is it installed and running? {SEE}"))
            }
            "NoReply" | "Timeout" | "TimedOut" | "Disconnected" => {
                Self::failed(format!("onecred did not answer; it may have been stopped; {SEE}"))
            }
            "AccessDenied" => Self {
                name: NOT_AUTHORIZED.to_owned(),
                message: format!("D-Bus allows only root to do this: {message}; run it as root"),
            },
            "UnknownMethod" | "UnknownInterface" | "UnknownObject" | "UnknownProperty" => {
                Self::failed(format!(
                    "the running onecred does not support this, because its version differs from this program's; run: systemctl restart onecred ({message})"
                ))
            }
            _ => Self::failed(format!("the call to onecred failed: {message}; {SEE}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_words() {
        let own = Fault::named("org.onecred.Error.NotFound", "db: not found: no item \"db\"; look");
        assert_eq!(own.to_string(), "db: not found: no item \"db\"; look");
        assert!(Fault::named("org.onecred.Error.NotAuthorized", "no").is_not_authorized());
        assert!(Fault::named("org.freedesktop.DBus.Error.AccessDenied", "no").is_not_authorized());
        let raw = [
            "org.freedesktop.DBus.Error.ServiceUnknown",
            "org.freedesktop.DBus.Error.NoReply",
            "org.freedesktop.DBus.Error.UnknownMethod",
            "org.freedesktop.DBus.Error.Spawn.ChildExited",
            "org.freedesktop.systemd1.UnitMasked",
        ];
        for name in raw {
            let said = Fault::named(name, "Unit onecred.service is masked.").to_string();
            assert!(!said.contains("org.freedesktop") && said.contains("systemctl"), "{said}");
        }
    }

    #[test]
    fn the_objects_below_a_folder_are_read_from_its_introspection() {
        let xml = "<node>\n <interface name=\"a.b\"/>\n <node name=\"default\"/>\n <node name=\"_62ackup\"></node></node>";
        assert_eq!(children(xml), ["default", "_62ackup"]);
        assert!(children("<node></node>").is_empty());
    }
}
