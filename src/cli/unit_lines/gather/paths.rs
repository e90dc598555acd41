//! Examines the file system: what the path of a line leads to, and what it provides.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::cli::common::reach::Reach;
use crate::cli::common::sockets::{Sockets, Which};
use crate::cli::unit_lines::facts::{Content, CredentialLine, Directive, LeadsTo};
use crate::cli::unit_lines::stores::{self, Search, Stores};

/// What a line that leads to files provides.
pub(super) fn content(
    stores: &Stores,
    directive: Directive,
    id: &str,
    path: &str,
    leads_to: &LeadsTo,
) -> Content {
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
/// The maximum number of files of a directory that are counted.
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

/// What a path leads to, and who accepts the connections if it is a socket of onecred.
pub(super) fn leads_to(stores: &Stores, sockets: &Sockets, id: &str, path: &str) -> (LeadsTo, Reach) {
    let of_onecred = fs::metadata(path).ok().filter(|it| it.file_type().is_socket() && path.starts_with('/'));
    match of_onecred.and_then(|file| sockets.of_file(&file)) {
        Some((_, Reach::Foreign)) => (LeadsTo::OtherSocket, Reach::Foreign),
        Some((Which::Plain, reach)) => (LeadsTo::PlainSocket, reach),
        Some((Which::Sealed, reach)) => (LeadsTo::SealedSocket, reach),
        Some((Which::Resolver, reach)) => (LeadsTo::ResolverSocket, reach),
        None => (elsewhere(stores, id, path), Reach::Listens),
    }
}

/// What a path leads to, if it is not a socket of onecred.
fn elsewhere(stores: &Stores, id: &str, path: &str) -> LeadsTo {
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
        let listed = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        return if is_dead(&metadata, &listed) { LeadsTo::DeadSocket } else { LeadsTo::OtherSocket };
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
pub(super) fn entries(stores: &Stores, sockets: &Sockets, line: &CredentialLine) -> Vec<CredentialLine> {
    let entry = |(name, path): (String, String)| {
        let (leads_to, reach) = leads_to(stores, sockets, "", &path);
        CredentialLine {
            directive: line.directive,
            id: format!("{}_{name}", line.id),
            leads_to,
            reach,
            path,
            of_directory: true,
            content: Content::Unknown,
        }
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
            let found = leads_to(&Stores::of_machine(), &Sockets::default(), "db", &path);
            assert_eq!(found, (expected, Reach::Listens), "{path}");
        }
        let line = CredentialLine {
            directive: Directive::Plain,
            id: "c".into(),
            path: place.path().to_str().unwrap().into(),
            leads_to: LeadsTo::DirectoryOfSockets,
            reach: Reach::Listens,
            of_directory: false,
            content: Content::Unknown,
        };
        let entries = entries(&Stores::of_machine(), &Sockets::default(), &line);
        let ids: Vec<_> = entries.into_iter().map(|line| line.id).collect();
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
                content(&stores, directive, "c", &path, &elsewhere(&stores, "c", &path))
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
