//! How units ask for credentials, by the lines that systemd has of them. At the sockets it can't be seen what a unit does with what it gets:
//! one that reads the sealed socket by `LoadCredential=` starts with what is encrypted.

use std::collections::BTreeMap;

use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, fdo};

use crate::config::Settings;
use crate::name::{CredentialId, UnitName};
use crate::provider::units::UnitFiles;
use crate::systemd::manager::{ManagerProxy, UnitProxy, exec_interface};

/// Where values are given as they are.
pub(super) const PLAIN: &str = "/run/onecred/credential.sock";
/// Where they are given encrypted.
pub(super) const SEALED: &str = "/run/onecred/sealed.sock";

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The two kinds of lines, as properties of a unit; each is a list of IDs and paths.
const KEYS: [&str; 2] = ["LoadCredential", "LoadCredentialEncrypted"];

/// A line by which a unit asks for a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    unit: String,
    key: &'static str,
    id: String,
    path: String,
}

impl Line {
    /// The line as it stands in the unit.
    pub(super) fn text(&self) -> String {
        format!("{}={}:{}", self.key, self.id, self.path)
    }

    /// What is wrong with it, and what to write instead, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        let Self { unit, key, id, path } = self;
        let (what, instead) = match (*key == KEYS[1], path.as_str()) {
            (false, SEALED) => {
                ("gets what is encrypted, and starts with it", format!("{}={id}:{SEALED}", KEYS[1]))
            }
            (true, PLAIN) => {
                ("can't start, since what it gets is not encrypted", format!("{key}={id}:{SEALED}"))
            }
            _ => return None,
        };
        let line = self.text();
        Some(format!("{unit} {what}, by its line {line}; write {instead}, then: systemctl daemon-reload"))
    }
}

/// How one unit asks for one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asking {
    /// By this line.
    By(Line),
    /// By none that systemd has.
    Never,
    /// There is no such unit on this host.
    NoUnit,
    /// There is one that systemd has not loaded, but is in this state: masked, or with errors.
    NotLoaded(String),
}

impl Asking {
    /// It in words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::By(line) => line.text(),
            Self::Never => "by no line that systemd knows: onecred add writes one; after a change: systemctl daemon-reload".into(),
            Self::NoUnit => "this host has no such unit".into(),
            Self::NotLoaded(state) => format!("systemd has not loaded the unit ({state}): see systemctl status"),
        }
    }

    /// What is wrong with it, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::By(line) => line.problem(),
            Self::Never | Self::NoUnit | Self::NotLoaded(_) => None,
        }
    }
}

/// How a unit asks for a credential.
pub(super) async fn asking(
    connection: &Connection,
    unit: &UnitName,
    id: &CredentialId,
) -> zbus::Result<Asking> {
    let path = match ManagerProxy::new(connection).await?.load_unit(unit.as_str()).await {
        Ok(path) => path,
        Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => {
            return Ok(Asking::NoUnit);
        }
        Err(error) => return Err(error),
    };
    let loaded =
        UnitProxy::builder(connection).path(&path).cache_properties(CacheProperties::No).build().await?;
    match loaded.load_state().await?.as_str() {
        "loaded" => {}
        "not-found" => return Ok(Asking::NoUnit),
        state => return Ok(Asking::NotLoaded(state.to_owned())),
    }
    let line = lines(connection, unit, path).await?.into_iter().find(|line| line.id == id.as_str());
    Ok(line.map_or(Asking::Never, Asking::By))
}

/// What is wrong with the lines of all units that systemd has loaded, and of those that the configuration names and this host has.
pub(super) async fn problems(connection: &Connection, settings: &Settings) -> zbus::Result<Vec<String>> {
    let manager = ManagerProxy::new(connection).await?;
    let kinds = ["*.service", "*.socket", "*.mount", "*.swap"];
    let loaded = manager.list_units_by_patterns(&[], &kinds).await?;
    // by the object: a unit can have several names
    let mut units: BTreeMap<_, _> =
        loaded.into_iter().map(|unit| (unit.6.to_string(), (unit.0, unit.6))).collect();
    let files = UnitFiles::read();
    let grants = settings.policy.secrets().flat_map(|secret| &secret.grants);
    let named =
        grants.filter(|grant| files.any(&grant.units)).filter_map(|grant| grant.units.glob().literal());
    for name in named {
        // a template itself can't be loaded
        if let Ok(path) = manager.load_unit(name).await {
            units.entry(path.to_string()).or_insert_with(|| (name.to_owned(), path));
        }
    }
    let mut problems = Vec::new();
    for (name, path) in units.into_values() {
        let Ok(unit) = UnitName::parse(&name) else { continue };
        problems.extend(lines(connection, &unit, path).await?.iter().filter_map(Line::problem));
    }
    Ok(problems)
}

/// The lines of a unit; none where its kind has none.
async fn lines(connection: &Connection, unit: &UnitName, path: OwnedObjectPath) -> zbus::Result<Vec<Line>> {
    let Some(interface) = exec_interface(unit) else { return Ok(Vec::new()) };
    let properties = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1");
    let properties = properties.path(path).build().await?;
    let mut all = Vec::new();
    for key in KEYS {
        let list = match properties.get(interface.clone(), key).await {
            Ok(list) => Vec::<(String, String)>::try_from(list).unwrap_or_default(),
            Err(fdo::Error::UnknownObject(_)) => Vec::new(), // it went meanwhile
            Err(error) => return Err(error.into()),
        };
        all.extend(list.into_iter().map(|(id, path)| Line { unit: unit.to_string(), key, id, path }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_at_the_wrong_socket_is_told() {
        let line =
            |key, path: &str| Line { unit: "app.service".into(), key, id: "db".into(), path: path.into() };
        for (key, path) in
            [(KEYS[0], PLAIN), (KEYS[1], SEALED), (KEYS[0], "/run/secrets/db"), (KEYS[1], "/etc/db.cred")]
        {
            let line = line(key, path);
            assert_eq!((line.problem(), Asking::By(line.clone()).text()), (None, format!("{key}=db:{path}")));
        }
        assert_eq!(
            line(KEYS[0], SEALED).problem().unwrap(),
            "app.service gets what is encrypted, and starts with it, by its line LoadCredential=db:/run/onecred/sealed.sock; \
             write LoadCredentialEncrypted=db:/run/onecred/sealed.sock, then: systemctl daemon-reload"
        );
        assert_eq!(
            Asking::By(line(KEYS[1], PLAIN)).problem().unwrap(),
            "app.service can't start, since what it gets is not encrypted, by its line \
             LoadCredentialEncrypted=db:/run/onecred/credential.sock; write LoadCredentialEncrypted=db:/run/onecred/sealed.sock, \
             then: systemctl daemon-reload"
        );
    }
}
