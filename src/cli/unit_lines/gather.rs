//! Gathers the facts: units and their lines from systemd over D-Bus, and what their paths lead to from the
//! file system.

mod paths;
mod properties;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, fdo};

use paths::{content, entries, leads_to};
use properties::{Properties, decrypts_through_socket, holds_back};

use super::facts::{
    Content, CredentialLine, Directive, EnvironmentFile, Import, LeadsTo, Literal, LoadState, Machine, Unit,
};
use super::stores::Stores;
use super::{environment, ordering, unit_files};
use crate::cli::common::creds::{self, Decrypted};
use crate::cli::common::sockets::Sockets;
use crate::cli::creds_socket;
use crate::domain::name::UnitName;
use crate::host::systemd::manager::{ManagerProxy, UnitProxy, exec_interface, version_number};
use crate::provider::base::unit_totals;
use crate::provider::fetch::unit_files::UnitFiles;

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";
/// The directories of units of user managers (systemd.unit(5)).
const USER_UNITS: [&str; 4] =
    ["/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"];

/// systemd over D-Bus, and facts that are the same for all units.
pub(super) struct Systemd<'c> {
    connection: &'c Connection,
    /// The manager.
    pub(super) manager: ManagerProxy<'c>,
    /// The machine.
    pub(super) machine: Machine,
    ordering: ordering::Cache,
    stores: Stores,
    sockets: Sockets,
}

impl<'c> Systemd<'c> {
    /// Reads the facts that are the same for all units.
    pub(super) async fn new(connection: &'c Connection) -> zbus::Result<Self> {
        let manager = ManagerProxy::builder(connection).cache_properties(CacheProperties::No).build().await?;
        let systemd = version_number(&manager.version().await?);
        let tmpfs = unit_totals::in_tmpfs();
        Ok(Self {
            connection,
            manager,
            machine: Machine { systemd, tmpfs },
            ordering: ordering::Cache::default(),
            stores: Stores::of_machine(),
            sockets: Sockets::read(connection).await,
        })
    }

    /// The object of a unit.
    pub(super) async fn object(&self, path: &OwnedObjectPath) -> zbus::Result<UnitProxy<'static>> {
        let builder = UnitProxy::builder(self.connection).path(path.clone());
        builder.cache_properties(CacheProperties::No).build().await
    }

    /// A unit by any of its names.
    pub(super) async fn unit(&mut self, name: &UnitName) -> zbus::Result<Unit> {
        if name.as_str().contains("@.") {
            return Ok(Unit::new(name.clone(), LoadState::Template));
        }
        let path = match self.manager.load_unit(name.as_str()).await {
            Ok(path) => path,
            Err(zbus::Error::MethodError(error, ..)) if error.as_str() == NO_SUCH_UNIT => {
                return Ok(not_found(name));
            }
            Err(error) => return Err(error),
        };
        Ok(self.loaded(name, &path).await?.unwrap_or_else(|| not_found(name)))
    }

    /// The names of all units on this machine: loaded units, and those with files.
    pub(super) async fn known_names(&self) -> zbus::Result<UnitFiles> {
        let loaded = self.manager.list_units_by_patterns(&[], &[]).await?.into_iter();
        let mut names = UnitFiles::read();
        names.add(loaded.filter(|unit| unit.2 != "not-found").map(|unit| unit.0));
        Ok(names)
    }

    /// A unit by its object; `None` if it was unloaded.
    pub(super) async fn loaded(
        &mut self,
        name: &UnitName,
        path: &OwnedObjectPath,
    ) -> zbus::Result<Option<Unit>> {
        match self.read(name, path).await {
            Err(zbus::Error::MethodError(error, ..)) if error.as_str() == UNKNOWN_OBJECT => Ok(None),
            Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::UnknownObject(_)) => Ok(None),
            read => read.map(Some),
        }
    }

    async fn read(&mut self, name: &UnitName, path: &OwnedObjectPath) -> zbus::Result<Unit> {
        let object = self.object(path).await?;
        let id = UnitName::parse(&object.id().await?).unwrap_or_else(|_| name.clone());
        let state = match object.load_state().await?.as_str() {
            "loaded" => LoadState::Loaded,
            "not-found" => return Ok(not_found(name)),
            "masked" => LoadState::Masked,
            state => LoadState::Broken(state.to_owned(), object.load_error().await?.1),
        };
        let mut unit = Unit::new(id, state);
        unit.alias = Some(name.clone()).filter(|name| *name != unit.name);
        unit.outdated = object.need_daemon_reload().await?;
        unit.triggers = object.triggers().await.unwrap_or_default();
        if unit.state != LoadState::Loaded {
            return Ok(unit);
        }
        let mut files = object.drop_in_paths().await.unwrap_or_default();
        files.insert(0, object.fragment_path().await.unwrap_or_default());
        unit.ignored = files.iter().flat_map(|file| ignored_in(file, &unit.name)).collect();
        if let Some(interface) = exec_interface(unit.name.suffix()) {
            let properties = Properties::new(self.connection, path, interface).await?;
            self.read_lines(&mut unit, &properties).await?;
            let ours = unit.lines.iter().filter(|line| line.is_ours());
            for socket in ours.map(CredentialLine::socket_unit).collect::<BTreeSet<_>>() {
                if !ordering::is_after(&self.manager, self.connection, &object, socket).await {
                    unit.unordered.push(socket);
                }
            }
            if unit.lines.iter().any(CredentialLine::means_onecred) && holds_back(&unit, &properties).await {
                let known = &mut self.ordering;
                if self.machine.systemd >= creds_socket::SINCE
                    && decrypts_through_socket(&unit, &properties).await
                {
                    unit.before_decryption =
                        ordering::before_decryption(&self.manager, self.connection, known, &object).await;
                }
                // such a unit fails whatever it waits for
                if unit.before_decryption.is_none() {
                    unit.early = ordering::early(&self.manager, self.connection, known, &object).await;
                }
            }
        }
        Ok(unit)
    }

    async fn read_lines(&self, unit: &mut Unit, properties: &Properties<'_>) -> zbus::Result<()> {
        unit.lines = self.lines(properties).await?;
        let imports: Vec<String> = properties.get("ImportCredential").await.unwrap_or_default();
        let renamed: Vec<(String, String)> = properties.get("ImportCredentialEx").await.unwrap_or_default();
        unit.imports = self.imports(imports, renamed);
        let set: Vec<(String, Vec<u8>)> = properties.get("SetCredential").await.unwrap_or_default();
        let plain = set.into_iter().map(|(id, value)| Literal {
            content: Content::Credentials(vec![(id.clone(), value.len())]),
            id,
        });
        let set: Vec<(String, Vec<u8>)> = properties.get("SetCredentialEncrypted").await.unwrap_or_default();
        let encrypted = set
            .into_iter()
            .map(|(id, value)| Literal { content: decrypted(&id, creds::literal(&id, &value)), id });
        unit.literals.extend(plain.chain(encrypted));
        let files: Vec<(String, bool)> = properties.get("EnvironmentFiles").await.unwrap_or_default();
        unit.environment = files
            .into_iter()
            .map(|(path, optional)| EnvironmentFile { found: environment::find(&path), path, optional })
            .collect();
        Ok(())
    }

    /// The `ImportCredential=` settings. Newer versions have all of them in the second property, with the new
    /// names.
    fn imports(&self, patterns: Vec<String>, renamed: Vec<(String, String)>) -> Vec<Import> {
        let mut all = renamed;
        for pattern in patterns {
            if all.iter().all(|(known, _)| *known != pattern) {
                all.push((pattern, String::new()));
            }
        }
        let import = |(pattern, rename): (String, String)| Import {
            found: self.stores.import(&pattern, &rename),
            text: if rename.is_empty() { pattern } else { format!("{pattern}:{rename}") },
        };
        all.into_iter().map(import).collect()
    }

    /// The lines of a unit. Includes the entries of directories, on versions that connect to sockets in
    /// directories.
    async fn lines(&self, properties: &Properties<'_>) -> zbus::Result<Vec<CredentialLine>> {
        let mut lines = Vec::new();
        for directive in Directive::ALL {
            let Some(list) = properties.try_get::<Vec<(String, String)>>(directive.name()).await? else {
                continue;
            };
            for (id, path) in list {
                let (leads_to, reach) = leads_to(&self.stores, &self.sockets, &id, &path);
                let content = content(&self.stores, directive, &id, &path, &leads_to);
                let line =
                    CredentialLine { directive, id, path, leads_to, reach, of_directory: false, content };
                if line.leads_to == LeadsTo::DirectoryOfSockets && self.machine.connects_in_directories() {
                    lines.extend(entries(&self.stores, &self.sockets, &line));
                }
                lines.push(line);
            }
        }
        Ok(lines)
    }

    /// Whether a unit has lines that lead to onecred, with as few D-Bus calls as possible.
    pub(super) async fn has_lines(&self, name: &UnitName, path: &OwnedObjectPath) -> zbus::Result<bool> {
        let Some(interface) = exec_interface(name.suffix()) else { return Ok(false) };
        let properties = Properties::new(self.connection, path, interface).await?;
        Ok(!self.lines(&properties).await?.is_empty())
    }
}

fn not_found(name: &UnitName) -> Unit {
    let of_users = USER_UNITS.iter().any(|folder| {
        let exists = |file: &str| Path::new(folder).join(file).exists();
        exists(name.as_str()) || name.template().is_some_and(|template| exists(&template))
    });
    Unit::new(name.clone(), if of_users { LoadState::OfUsers } else { LoadState::NotFound(None) })
}

fn ignored_in(file: &str, unit: &UnitName) -> Vec<super::facts::Ignored> {
    let text = fs::read_to_string(file).unwrap_or_default();
    unit_files::ignored(file, &text, unit)
}

fn decrypted(id: &str, outcome: Decrypted) -> Content {
    match outcome {
        Decrypted::Size(size) => Content::Credentials(vec![(id.to_owned(), size)]),
        Decrypted::Fails(why) => {
            Content::Fails(format!("systemd cannot decrypt the value of SetCredentialEncrypted={id} ({why})"))
        }
        Decrypted::Unknown => Content::Unknown,
    }
}
