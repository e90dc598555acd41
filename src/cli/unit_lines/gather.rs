//! Gathers the facts: units and their lines from systemd over D-Bus, and what their paths lead to from the
//! file system.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo};

use super::facts::{
    Content, CredentialLine, Directive, EnvironmentFile, Import, LeadsTo, Literal, LoadState, Machine, PLAIN,
    SEALED, Unit,
};
use super::stores::{self, Search, Stores};
use super::{environment, ordering, unit_files};
use crate::cli::common::creds::{self, Decrypted};
use crate::domain::name::UnitName;
use crate::host::systemd::manager::{ManagerProxy, UnitProxy, exec_interface, version_number};
use crate::provider::base::unit_totals;
use crate::provider::fetch::unit_files::UnitFiles;

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";
const RESOLVER: &str = "/run/onecred/resolver.sock";
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
}

impl<'c> Systemd<'c> {
    /// Reads the facts that are the same for all units.
    pub(super) async fn new(connection: &'c Connection) -> zbus::Result<Self> {
        let manager = ManagerProxy::builder(connection).cache_properties(CacheProperties::No).build().await?;
        let systemd = version_number(&manager.version().await?);
        let tmpfs = unit_totals::in_tmpfs();
        let machine = Machine { systemd, plain_listens: false, sealed_listens: false, tmpfs };
        let mut it = Self {
            connection,
            manager,
            machine,
            ordering: ordering::Cache::default(),
            stores: Stores::of_machine(),
        };
        it.machine.plain_listens = it.is_active("onecred.socket").await?;
        it.machine.sealed_listens = it.is_active("onecred-sealed.socket").await?;
        Ok(it)
    }

    async fn is_active(&self, unit: &str) -> zbus::Result<bool> {
        let path = self.manager.load_unit(unit).await?;
        Ok(self.object(&path).await?.active_state().await? == "active")
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
            if unit.lines.iter().any(CredentialLine::means_onecred) && holds_back(&unit, &properties).await {
                unit.early =
                    ordering::early(&self.manager, self.connection, &mut self.ordering, &object).await;
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
                let leads_to = leads_to(&self.stores, &id, &path);
                let content = content(&self.stores, directive, &id, &path, &leads_to);
                let line = CredentialLine { directive, id, path, leads_to, of_directory: false, content };
                if line.leads_to == LeadsTo::DirectoryOfSockets
                    && self.machine.systemd >= CONNECTS_IN_DIRECTORIES
                {
                    lines.extend(entries(&self.stores, &line));
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

/// The first version that connects to sockets in a directory of credentials.
pub(super) const CONNECTS_IN_DIRECTORIES: u32 = 262;

/// The properties of one interface of a unit.
struct Properties<'c> {
    proxy: fdo::PropertiesProxy<'c>,
    interface: InterfaceName<'static>,
}

impl<'c> Properties<'c> {
    async fn new(
        connection: &'c Connection,
        path: &OwnedObjectPath,
        interface: InterfaceName<'static>,
    ) -> zbus::Result<Self> {
        let builder = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1");
        Ok(Self { proxy: builder.path(path.clone()).build().await?, interface })
    }

    /// A property; `None` if this version of systemd does not have it.
    async fn get<T: TryFrom<OwnedVariant>>(&self, name: &str) -> Option<T> {
        self.proxy.get(self.interface.clone(), name).await.ok().and_then(|value| value.try_into().ok())
    }

    /// A property; `None` if the unit was unloaded.
    async fn try_get<T: TryFrom<OwnedVariant>>(&self, name: &str) -> zbus::Result<Option<T>> {
        match self.proxy.get(self.interface.clone(), name).await {
            Ok(value) => Ok(value.try_into().ok()),
            Err(fdo::Error::UnknownObject(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether units ordered after this one wait until it has its credentials. systemd considers a simple service
/// started before that.
async fn holds_back(unit: &Unit, properties: &Properties<'_>) -> bool {
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

/// What a line that leads to files provides.
fn content(stores: &Stores, directive: Directive, id: &str, path: &str, leads_to: &LeadsTo) -> Content {
    let encrypted = directive == Directive::Encrypted;
    match leads_to {
        LeadsTo::File => stores::content(id, Path::new(path), encrypted),
        LeadsTo::Directory | LeadsTo::DirectoryOfSockets => of_directory(id, path, encrypted),
        LeadsTo::Store(true) => match stores.find(if path.is_empty() { id } else { path }) {
            Search::Found(path) => stores::content(id, &path, encrypted),
            Search::Nothing | Search::Hidden => Content::Unknown,
        },
        _ => Content::Unknown,
    }
}

/// What the files of a directory provide.
fn of_directory(id: &str, path: &str, encrypted: bool) -> Content {
    let mut files = Vec::new();
    if !files_in(Path::new(path), id, DEPTH, &mut files) {
        return Content::Unknown;
    }
    let mut all = Vec::new();
    for (id, path) in files {
        match stores::content(&id, &path, encrypted) {
            Content::Credentials(credentials) => all.extend(credentials),
            other => return other,
        }
    }
    Content::Credentials(all)
}

/// The maximum depth of directories of credentials.
const DEPTH: usize = 8;
/// The most files of a directory that are counted.
const MOST_FILES: usize = 4096;

/// The credentials that systemd derives from the files in a directory. False if this user cannot examine all
/// of it.
fn files_in(directory: &Path, id: &str, depth: usize, found: &mut Vec<(String, PathBuf)>) -> bool {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return error.kind() != ErrorKind::PermissionDenied,
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return false,
            Err(_) => continue,
        };
        if name.starts_with('.') || found.len() >= MOST_FILES {
            continue;
        }
        let id = format!("{id}_{name}");
        if metadata.is_dir() && depth > 0 {
            if !files_in(&entry.path(), &id, depth - 1, found) {
                return false;
            }
        } else if metadata.is_file() {
            found.push((id, entry.path()));
        }
    }
    true
}

/// What a path leads to.
fn leads_to(stores: &Stores, id: &str, path: &str) -> LeadsTo {
    if !path.starts_with('/') {
        return match stores.find(if path.is_empty() { id } else { path }) {
            Search::Found(_) => LeadsTo::Store(true),
            Search::Nothing => LeadsTo::Store(false),
            Search::Hidden => LeadsTo::Unknown,
        };
    }
    let Ok(metadata) = fs::metadata(path) else {
        return match fs::metadata(path).map_err(|error| error.kind()) {
            Err(ErrorKind::PermissionDenied) => LeadsTo::Unknown,
            _ => LeadsTo::Missing,
        };
    };
    if metadata.file_type().is_socket() {
        let is = |known: &str| {
            fs::metadata(known).is_ok_and(|it| (it.dev(), it.ino()) == (metadata.dev(), metadata.ino()))
        };
        return match (is(PLAIN), is(SEALED), is(RESOLVER)) {
            (true, ..) => LeadsTo::PlainSocket,
            (_, true, _) => LeadsTo::SealedSocket,
            (.., true) => LeadsTo::ResolverSocket,
            _ if is_dead(&metadata, &fs::read_to_string("/proc/net/unix").unwrap_or_default()) => {
                LeadsTo::DeadSocket
            }
            _ => LeadsTo::OtherSocket,
        };
    }
    if !metadata.is_dir() {
        return LeadsTo::File;
    }
    if fs::read_dir(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
        return LeadsTo::Unknown;
    }
    match sockets_in(path).is_empty() {
        true => LeadsTo::Directory,
        false => LeadsTo::DirectoryOfSockets,
    }
}

/// Whether the kernel's list of sockets (/proc/net/unix) contains this socket, but only with types to which
/// systemd cannot connect. The list does not contain sockets of other network namespaces.
fn is_dead(socket: &fs::Metadata, sockets: &str) -> bool {
    let is_it =
        |path: &str| fs::metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (socket.dev(), socket.ino()));
    let mut kinds =
        bound_sockets(sockets).filter(|(path, _)| is_it(path)).map(|(_, listens)| listens).peekable();
    kinds.peek().is_some() && !kinds.any(|listens| listens)
}

/// The paths of bound sockets, each with whether it is a listening stream socket.
fn bound_sockets(sockets: &str) -> impl Iterator<Item = (&str, bool)> {
    /// The flag of a socket that accepts connections (SO_ACCEPTCON).
    const LISTENS: u32 = 1 << 16;
    const STREAM: &str = "0001";
    sockets.lines().filter_map(|line| {
        let (fields, path) = line.split_at(line.find(" /")?);
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        Some((path.trim_start(), *fields.get(4)? == STREAM && flags & LISTENS != 0))
    })
}

fn sockets_in(directory: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.metadata().is_ok_and(|it| it.file_type().is_socket()));
    let named = sockets.filter_map(|entry| {
        Some((entry.file_name().into_string().ok()?, entry.path().into_os_string().into_string().ok()?))
    });
    named.collect()
}

/// The lines that systemd derives from a line whose path is a directory: one credential for each socket in
/// it.
fn entries(stores: &Stores, line: &CredentialLine) -> Vec<CredentialLine> {
    let entry = |(name, path): (String, String)| CredentialLine {
        directive: line.directive,
        id: format!("{}_{name}", line.id),
        leads_to: leads_to(stores, "", &path),
        path,
        of_directory: true,
        content: Content::Unknown,
    };
    sockets_in(&line.path).into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn what_paths_are() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
        fs::create_dir(path("empty")).unwrap();
        fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink(path("socket"), path("link")).unwrap();
        for (path, expected) in [
            (path("socket"), LeadsTo::OtherSocket),
            (path("link"), LeadsTo::OtherSocket),
            (path("datagrams"), LeadsTo::DeadSocket),
            (path("socket/"), LeadsTo::Missing),
            (path("none"), LeadsTo::Missing),
            (path("empty"), LeadsTo::Directory),
            (path("file"), LeadsTo::File),
            (place.path().to_str().unwrap().to_owned(), LeadsTo::DirectoryOfSockets),
            ("there-is-none-of-this-name".to_owned(), LeadsTo::Store(false)),
        ] {
            assert_eq!(leads_to(&Stores::of_machine(), "db", &path), expected, "{path}");
        }
        let line = CredentialLine {
            directive: Directive::Plain,
            id: "c".into(),
            path: place.path().to_str().unwrap().into(),
            leads_to: LeadsTo::DirectoryOfSockets,
            of_directory: false,
            content: Content::Unknown,
        };
        let ids: Vec<_> = entries(&Stores::of_machine(), &line).into_iter().map(|line| line.id).collect();
        assert_eq!(ids, ["c_datagrams", "c_socket"]);
    }

    #[test]
    fn sockets_that_the_kernel_lists() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/a b.sock
0000000000000000: 00000002 00000000 00000000 0001 01 2 /run/not-listening
0000000000000000: 00000002 00000000 00000000 0002 01 3 /run/systemd/notify
0000000000000000: 00000002 00000000 00010000 0005 01 4 /run/udev/control
0000000000000000: 00000003 00000000 00000000 0001 03 5
0000000000000000: 00000002 00000000 00010000 0001 01 6 @abstract/x
";
        let found: Vec<_> = bound_sockets(text).collect();
        let expected = [
            ("/run/a b.sock", true),
            ("/run/not-listening", false),
            ("/run/systemd/notify", false),
            ("/run/udev/control", false),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_lines_bring() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir_all(path("d/e")).unwrap();
        for (name, size) in [("file", 3), ("d/a", 1), ("d/e/b", 2), ("d/.hidden", 9)] {
            fs::write(path(name), vec![b'x'; size]).unwrap();
        }
        let of = |directive, name: &str| {
            let path = path(name);
            {
                let stores = Stores::of_machine();
                content(&stores, directive, "c", &path, &leads_to(&stores, "c", &path))
            }
        };
        let credentials = |all: &[(&str, usize)]| {
            Content::Credentials(all.iter().map(|(id, size)| ((*id).to_owned(), *size)).collect())
        };
        assert_eq!(of(Directive::Plain, "file"), credentials(&[("c", 3)]));
        let Content::Credentials(mut found) = of(Directive::Plain, "d") else { panic!("a directory") };
        found.sort();
        assert_eq!(Content::Credentials(found), credentials(&[("c_a", 1), ("c_e_b", 2)]));
        assert_eq!(of(Directive::Plain, "none"), Content::Unknown);
        assert!(!matches!(of(Directive::Encrypted, "file"), Content::Credentials(_)));
    }
}
