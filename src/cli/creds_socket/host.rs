//! Reads the state of the socket, and of the units that depend on it, from the service manager and the unit
//! files on this host.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::time::Duration;

use zbus::names::InterfaceName;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo};

use super::{ADDRESS, Finding, SOCKET, Service, State, judge};
use crate::cli::common::reach::{Listening, reach};
use crate::cli::common::sockets::addresses;
use crate::domain::name::UnitName;
use crate::host::systemd::manager::{ManagerProxy, exec_interface};

const MANAGER: &str = "/org/freedesktop/systemd1";
const RESOLVER: &str = "onecred-resolver.service";
/// The end of the path of the socket at which onecred delivers encrypted credentials. Unit files may contain
/// `%t` or `/var/run` before it.
const SEALED: &str = "onecred/sealed.sock";
/// An instance of the service that decrypts. systemd starts instances with other names.
const INSTANCE: &str = "systemd-creds@onecred.service";
/// The end of an interval that never ends.
const FOREVER: u64 = u64::MAX;

/// A command as `ExecStart` contains it: the program, its arguments, and the outcome of its last run.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);
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
    let poll_limit = value::<u32>(&socket, "PollLimitBurst").filter(|burst| *burst > 0).zip(
        value::<u64>(&socket, "PollLimitIntervalUSec")
            .filter(|time| *time > 0 && *time < FOREVER)
            .map(|time| Duration::from_micros(time).as_secs_f64()),
    );
    let active = value::<String>(&unit, "ActiveState").unwrap_or_default();
    let at = Listening::read(0).at(ADDRESS);
    let trigger_limit = value::<u32>(&socket, "TriggerLimitBurst").filter(|burst| {
        *burst > 0 && value::<u64>(&socket, "TriggerLimitIntervalUSec").is_some_and(|time| time > 0)
    });
    Ok(State {
        version,
        load: value(&unit, "LoadState").unwrap_or_default(),
        reach: Some(reach(active == "active", at)),
        active,
        addresses: addresses(socket.get("Listen").and_then(|listen| listen.try_clone().ok())),
        service: service(connection).await?,
        per_user: value(&socket, "MaxConnectionsPerSource").unwrap_or_default(),
        total: value(&socket, "MaxConnections").unwrap_or_default(),
        trigger_limit,
        poll_limit,
        fragment: value(&unit, "FragmentPath").unwrap_or_default(),
        drop_ins: value(&unit, "DropInPaths").unwrap_or_default(),
        outdated: value(&unit, "NeedDaemonReload").unwrap_or_default(),
    })
}

/// Reads the state of the service that decrypts.
async fn service(connection: &Connection) -> zbus::Result<Service> {
    let path = ManagerProxy::new(connection).await?.load_unit(INSTANCE).await?;
    let unit = properties(connection, path.as_str(), "Unit").await?;
    let service = properties(connection, path.as_str(), "Service").await?;
    let commands: Vec<Command> = value(&service, "ExecStart").unwrap_or_default();
    Ok(Service {
        load: value(&unit, "LoadState").unwrap_or_default(),
        programs: commands.into_iter().map(|command| command.0).collect(),
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
    Ok(decrypts(&all))
}

/// Whether a unit decrypts anything through the socket.
fn decrypts(unit: &Properties) -> bool {
    let policy: String = value(unit, "DevicePolicy").unwrap_or_default();
    let allowed: Vec<(String, String)> = value(unit, "DeviceAllow").unwrap_or_default();
    if !is_hardened(value(unit, "PrivateDevices").unwrap_or(false), &policy, !allowed.is_empty()) {
        return false;
    }
    let lines = |name: &str| value::<Vec<(String, String)>>(unit, name).unwrap_or_default();
    // for any path: links may lead to the sealed socket too, and systemd decrypts files in the same way
    let encrypted = lines("LoadCredentialEncrypted");
    let set: Vec<(String, Vec<u8>)> = value(unit, "SetCredentialEncrypted").unwrap_or_default();
    // a line with the same ID precedes a setting
    let plain = lines("LoadCredential");
    !encrypted.is_empty() || set.iter().any(|(id, _)| plain.iter().all(|(line, _)| line != id))
}

/// Whether a unit may not use all devices. It then cannot use the TPM, so systemd makes it decrypt through
/// the socket.
pub(in crate::cli) fn is_hardened(private: bool, policy: &str, allows: bool) -> bool {
    private || allows || !matches!(policy, "" | "auto")
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
        let with = |private: bool,
                    policy: &str,
                    allowed: Vec<(&str, &str)>,
                    credential: (&str, Variant<'static>)| {
            let plain = vec![("db", "/run/onecred/credential.sock")];
            let all = [
                ("PrivateDevices", Variant::from(private)),
                ("DevicePolicy", Variant::from(policy)),
                ("DeviceAllow", Variant::from(allowed)),
                ("LoadCredential", Variant::from(plain)),
                credential,
            ];
            let owned = all.into_iter().map(|(name, value)| (name.to_owned(), value.try_into().unwrap()));
            decrypts(&owned.collect())
        };
        let encrypted = || ("LoadCredentialEncrypted", Variant::from(vec![("x", "/x")]));
        let set = |id: &'static str| ("SetCredentialEncrypted", Variant::from(vec![(id, vec![1_u8])]));
        assert!(with(true, "auto", vec![], encrypted()) && with(true, "auto", vec![], set("x")));
        assert!(!with(false, "auto", vec![], set("x")) && !with(true, "auto", vec![], set("db")));
        assert!(!with(true, "auto", vec![], ("SetCredential", Variant::from(vec![("x", vec![1_u8])]))));
        let unit = |private, policy, allowed| with(private, policy, allowed, encrypted());
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
        write("specifier.service", "LoadCredentialEncrypted=db:%t/onecred/sealed.sock\n");
        write("multi-user.target.wants/linked.service", line);
        let mut owners = owners_in(folder.path());
        owners.sort();
        assert_eq!(owners, ["app.service", "specifier.service", "web@.service"]);
        assert_eq!(owners_in(&folder.path().join("missing")), Vec::<String>::new());
        let several = ["web@.service", "app-.service", "service"];
        assert!(several.into_iter().all(is_of_several) && !is_of_several("app.service"));
    }
}
