//! Reads the properties of a unit that depend on its type.

use zbus::names::InterfaceName;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo};

use crate::cli::creds_socket::is_hardened;
use crate::cli::unit_lines::facts::{Directive, Unit};
use crate::cli::unit_lines::ordering;

/// The properties of one interface of a unit.
pub(super) struct Properties<'c> {
    proxy: fdo::PropertiesProxy<'c>,
    interface: InterfaceName<'static>,
}

impl<'c> Properties<'c> {
    pub(super) async fn new(
        connection: &'c Connection,
        path: &OwnedObjectPath,
        interface: InterfaceName<'static>,
    ) -> zbus::Result<Self> {
        let builder = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1");
        Ok(Self { proxy: builder.path(path.clone()).build().await?, interface })
    }

    /// A property; `None` if this version of systemd does not have it.
    pub(super) async fn get<T: TryFrom<OwnedVariant>>(&self, name: &str) -> Option<T> {
        self.proxy.get(self.interface.clone(), name).await.ok().and_then(|value| value.try_into().ok())
    }

    /// A property; `None` if the unit was unloaded.
    pub(super) async fn try_get<T: TryFrom<OwnedVariant>>(&self, name: &str) -> zbus::Result<Option<T>> {
        match self.proxy.get(self.interface.clone(), name).await {
            Ok(value) => Ok(value.try_into().ok()),
            Err(fdo::Error::UnknownObject(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether units ordered after this one wait until it has its credentials. systemd considers a simple service
/// started before that.
pub(super) async fn holds_back(unit: &Unit, properties: &Properties<'_>) -> bool {
    if !unit.name.as_str().ends_with(".service") {
        return true;
    }
    let service_type: String = properties.get("Type").await.unwrap_or_default();
    if !matches!(service_type.as_str(), "simple" | "idle") {
        return true;
    }
    for key in ["ExecCondition", "ExecStartPre"] {
        let value = properties.proxy.get(properties.interface.clone(), key).await;
        if value.is_ok_and(|value| ordering::is_nonempty_list(&value)) {
            return true;
        }
    }
    false
}

/// Whether systemd decrypts the credentials of a unit through systemd-creds.socket, on a version that has it.
pub(super) async fn decrypts_through_socket(unit: &Unit, properties: &Properties<'_>) -> bool {
    let private = properties.get("PrivateDevices").await.unwrap_or(false);
    let policy: String = properties.get("DevicePolicy").await.unwrap_or_default();
    let allowed: Vec<(String, String)> = properties.get("DeviceAllow").await.unwrap_or_default();
    unit.lines.iter().any(|line| line.directive == Directive::Encrypted)
        && is_hardened(private, &policy, !allowed.is_empty())
}
