//! Reads the state of the socket, and of the units that depend on it, from the service manager and the unit
//! files on this host.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use zbus::names::InterfaceName;

use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo};

use super::{Finding, SOCKET, State, judge};
use crate::domain::name::UnitName;
use crate::host::systemd::manager::{ManagerProxy, exec_interface};

const MANAGER: &str = "/org/freedesktop/systemd1";
const RESOLVER: &str = "onecred-resolver.service";
/// The socket at which onecred delivers encrypted credentials.
const SEALED: &str = "/run/onecred/sealed.sock";

type Properties = HashMap<String, OwnedVariant>;

/// What is wrong with the socket, if any unit on this host depends on it.
pub async fn finding(connection: &Connection) -> zbus::Result<Option<Finding>> {
    let Some(finding) = judge(&look(connection).await?) else { return Ok(None) };
    Ok(is_needed(connection).await?.then_some(finding))
}

/// What is wrong with the socket, if this unit depends on it.
pub async fn finding_for(connection: &Connection, unit: &UnitName) -> zbus::Result<Option<Finding>> {
    let Some(finding) = judge(&look(connection).await?) else { return Ok(None) };
    Ok(needs_it(connection, unit).await?.then_some(finding))
}

/// Reads the state of the socket.
async fn look(connection: &Connection) -> zbus::Result<State> {
    let manager = properties(connection, MANAGER, "Manager").await?;
    let version = number_of(&value::<String>(&manager, "Version").unwrap_or_default());
    if version < super::SINCE {
        return Ok(State { version, ..State::default() });
    }
    let path = ManagerProxy::new(connection).await?.load_unit(SOCKET).await?;
    let unit = properties(connection, path.as_str(), "Unit").await?;
    let socket = properties(connection, path.as_str(), "Socket").await?;
    let trigger_limit = value::<u32>(&socket, "TriggerLimitBurst").filter(|burst| {
        *burst > 0 && value::<u64>(&socket, "TriggerLimitIntervalUSec").is_some_and(|time| time > 0)
    });
    Ok(State {
        version,
        load: value(&unit, "LoadState").unwrap_or_default(),
        active: value(&unit, "ActiveState").unwrap_or_default(),
        per_user: value(&socket, "MaxConnectionsPerSource").unwrap_or_default(),
        total: value(&socket, "MaxConnections").unwrap_or_default(),
        trigger_limit,
        drop_ins: value(&unit, "DropInPaths").unwrap_or_default(),
        outdated: value(&unit, "NeedDaemonReload").unwrap_or_default(),
    })
}

/// The number at the start of a version such as `262.1-1` or `v258~rc1`; 0 if it has none.
fn number_of(version: &str) -> u32 {
    let digits = version.trim_start_matches('v');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

/// Whether any unit on this host decrypts credentials from onecred, or onecred's own token, through the
/// socket.
async fn is_needed(connection: &Connection) -> zbus::Result<bool> {
    let manager = properties(connection, MANAGER, "Manager").await?;
    let folders: Vec<String> = value(&manager, "UnitPath").unwrap_or_default();
    let mut owners: BTreeSet<String> =
        folders.iter().flat_map(|folder| owners_in(Path::new(folder))).collect();
    owners.insert(RESOLVER.to_owned());
    for owner in owners {
        // a template, or a drop-in for several units: which units it applies to is unknown until they are
        // loaded
        let Some(unit) = UnitName::parse(&owner).ok().filter(|_| !is_of_several(&owner)) else {
            return Ok(true);
        };
        if needs_it(connection, &unit).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a unit decrypts anything through the socket.
async fn needs_it(connection: &Connection, unit: &UnitName) -> zbus::Result<bool> {
    let Some(interface) = exec_interface(unit.suffix()) else { return Ok(false) };
    let path: OwnedObjectPath = match ManagerProxy::new(connection).await?.load_unit(unit.as_str()).await {
        Ok(path) => path,
        Err(zbus::Error::MethodError(..)) => return Ok(false), // the unit does not exist
        Err(error) => return Err(error),
    };
    let all = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1");
    let all = all.path(path).build().await?.get_all(interface).await?;
    let encrypted: Vec<(String, String)> = value(&all, "LoadCredentialEncrypted").unwrap_or_default();
    // for any path: links may lead to the sealed socket too, and systemd decrypts files in the same way
    Ok(!encrypted.is_empty() && is_hardened(&all))
}

/// Whether a unit may not use all devices. It then cannot use the TPM, so systemd makes it decrypt through
/// the socket.
fn is_hardened(unit: &Properties) -> bool {
    let policy: Option<String> = value(unit, "DevicePolicy");
    let allowed: Vec<(String, String)> = value(unit, "DeviceAllow").unwrap_or_default();
    value(unit, "PrivateDevices").unwrap_or(false)
        || policy.is_some_and(|policy| policy != "auto")
        || !allowed.is_empty()
}

/// The units in a directory of unit files whose files or drop-ins name the sealed socket.
fn owners_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let owners = entries.filter_map(|entry| {
        let (name, path) = (entry.file_name().into_string().ok()?, entry.path());
        match name.strip_suffix(".d") {
            Some(owner) if path.is_dir() => {
                let mut drop_ins = fs::read_dir(&path).ok()?.flatten();
                drop_ins.any(|file| names_sealed(&file.path())).then(|| owner.to_owned())
            }
            _ => names_sealed(&path).then_some(name),
        }
    });
    owners.collect()
}

fn names_sealed(file: &Path) -> bool {
    let text = if file.is_file() { fs::read_to_string(file).unwrap_or_default() } else { String::new() };
    let is_comment = |line: &str| line.starts_with(['#', ';']);
    text.lines().map(str::trim).any(|line| !is_comment(line) && line.contains(SEALED))
}

/// Whether a unit file or directory of drop-ins belongs to several units: `app@.service`, `app-.service`,
/// `service`.
fn is_of_several(owner: &str) -> bool {
    owner.contains("@.") || owner.contains("-.") || !owner.contains('.')
}

async fn properties(connection: &Connection, path: &str, interface: &str) -> zbus::Result<Properties> {
    let interface = InterfaceName::try_from(format!("org.freedesktop.systemd1.{interface}"))?;
    let all = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1");
    Ok(all.path(path.to_owned()).build().await?.get_all(interface).await?)
}

fn value<T: TryFrom<OwnedVariant>>(properties: &Properties, name: &str) -> Option<T> {
    T::try_from(properties.get(name)?.try_clone().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    #[test]
    fn versions() {
        for (text, number) in
            [("262.1-1", 262), ("252.39-1~deb12u1", 252), ("v258~rc1", 258), ("257", 257), ("", 0), ("x", 0)]
        {
            assert_eq!(number_of(text), number, "{text:?}");
        }
    }

    #[test]
    fn a_unit_is_hardened_by_any_of_three_settings() {
        let unit = |private: bool, policy: &str, allowed: Vec<(&str, &str)>| {
            let all = [
                ("PrivateDevices", Variant::from(private)),
                ("DevicePolicy", Variant::from(policy)),
                ("DeviceAllow", Variant::from(allowed)),
            ];
            let owned = all.into_iter().map(|(name, value)| (name.to_owned(), value.try_into().unwrap()));
            is_hardened(&owned.collect())
        };
        assert!(!unit(false, "auto", vec![]));
        assert!(unit(true, "auto", vec![]));
        assert!(unit(false, "closed", vec![]) && unit(false, "strict", vec![]));
        assert!(unit(false, "auto", vec![("/dev/null", "rw")]));
    }

    #[test]
    fn unit_files_that_name_the_sealed_socket() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let line = "[Service]\nLoadCredentialEncrypted=db:/run/onecred/sealed.sock\n";
        write("app.service", line);
        write("plain.service", "[Service]\nLoadCredential=db:/run/onecred/credential.sock\n");
        write("remark.service", "[Service]\n# LoadCredentialEncrypted=db:/run/onecred/sealed.sock\n");
        write("web@.service.d/50-db.conf", line);
        write("multi-user.target.wants/linked.service", line);
        let mut owners = owners_in(folder.path());
        owners.sort();
        assert_eq!(owners, ["app.service", "web@.service"]);
        assert_eq!(owners_in(&folder.path().join("missing")), Vec::<String>::new());
        let several = ["web@.service", "app-.service", "service"];
        assert!(several.into_iter().all(is_of_several) && !is_of_several("app.service"));
    }
}
