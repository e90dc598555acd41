//! systemd's credential stores: finds the credentials of names without a path, and of `ImportCredential=`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::facts::{Content, Imported};
use crate::cli::common::creds::{self, Decrypted};

/// The stores, in the order in which systemd searches them (systemd.exec(5)).
#[derive(Debug)]
pub(super) struct Stores {
    plain: Vec<PathBuf>,
    encrypted: Vec<PathBuf>,
}

/// The result of a search.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// This file.
    Found(PathBuf),
    /// Nothing.
    Nothing,
    /// Unknown: this user cannot examine a store that is searched first.
    Hidden,
}

impl Stores {
    /// The stores of this machine.
    pub(super) fn of_machine() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let all = |received: &str, store: &str| {
            let configured =
                ["etc", "run", "usr/local/lib", "usr/lib"].map(|folder| root.join(folder).join(store));
            std::iter::once(root.join("run/credentials").join(received)).chain(configured).collect()
        };
        Self { plain: all("@system", "credstore"), encrypted: all("@encrypted", "credstore.encrypted") }
    }

    /// Finds a credential that a line names without a path.
    pub(super) fn find(&self, name: &str) -> Search {
        for store in self.plain.iter().chain(&self.encrypted) {
            let path = store.join(name);
            match fs::metadata(&path) {
                Ok(_) => return Search::Found(path),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Search::Hidden,
                Err(_) => {}
            }
        }
        Search::Nothing
    }

    /// Finds the credentials of an `ImportCredential=` pattern, renamed if it demands so; the first of each
    /// ID. `None` if this user cannot list a store.
    pub(super) fn import(&self, pattern: &str, rename: &str) -> Option<Vec<Imported>> {
        let mut found: Vec<Imported> = Vec::new();
        let stores = self.plain.iter().map(|store| (store, false));
        for (store, encrypted) in stores.chain(self.encrypted.iter().map(|store| (store, true))) {
            for name in names(store, pattern)? {
                let id = match rename {
                    "" => name.clone(),
                    prefix => {
                        format!(
                            "{prefix}{}",
                            name.get(pattern.trim_end_matches('*').len()..).unwrap_or_default()
                        )
                    }
                };
                if found.iter().any(|imported| imported.id == id) {
                    continue;
                }
                let path = store.join(name);
                let content = content(&id, &path, encrypted);
                // systemd 262 skips an encrypted credential that was renamed, because its name does not match
                if encrypted && !rename.is_empty() && matches!(content, Content::Fails(_)) {
                    continue;
                }
                found.push(Imported { id, path: path.display().to_string(), content });
            }
        }
        Some(found)
    }
}

/// What a file of a store provides.
pub(super) fn content(id: &str, path: &Path, encrypted: bool) -> Content {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() || metadata.file_type().is_socket() => {
            Content::Fails(format!("systemd cannot read {}, which is not a file", path.display()))
        }
        Ok(metadata) if !encrypted => {
            let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
            Content::Credentials(vec![(id.to_owned(), size)])
        }
        Ok(_) => decrypted(id, path),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Content::Unknown,
        Err(error) => Content::Fails(format!("systemd cannot read {} ({error})", path.display())),
    }
}

/// What an encrypted file provides.
pub(super) fn decrypted(id: &str, path: &Path) -> Content {
    match creds::file(id, path) {
        Decrypted::Size(size) => Content::Credentials(vec![(id.to_owned(), size)]),
        Decrypted::Fails(why) => Content::Fails(format!("systemd cannot decrypt {} ({why})", path.display())),
        Decrypted::Unknown => Content::Unknown,
    }
}

/// The names in a store that a pattern matches, sorted. A pattern may have a * at its end, but no other
/// wildcards.
fn names(store: &Path, pattern: &str) -> Option<Vec<String>> {
    let entries = match fs::read_dir(store) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        Err(_) => return Some(Vec::new()),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| matches(pattern, name)).collect();
    names.sort();
    Some(names)
}

/// Whether an `ImportCredential=` pattern matches a name.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start) && (!name.starts_with('.') || start.starts_with('.')),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(found: Option<Vec<Imported>>) -> Vec<(String, Content)> {
        found.expect("readable").into_iter().map(|imported| (imported.id, imported.content)).collect()
    }

    #[test]
    fn what_patterns_import() {
        let place = tempfile::tempdir().unwrap();
        let write = |path: &str, size: usize| {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![b'x'; size]).unwrap();
        };
        write("etc/credstore/db", 1);
        write("etc/credstore/.hidden", 1);
        write("usr/lib/credstore/db", 2);
        write("usr/lib/credstore/dbx", 3);
        write("etc/credstore.encrypted/db", 4);
        fs::create_dir(place.path().join("etc/credstore/directory")).unwrap();
        std::os::unix::fs::symlink("/nonexistent", place.path().join("etc/credstore/link")).unwrap();
        let stores = Stores::below(place.path());
        let of = |id: &str, size| (id.to_owned(), Content::Credentials(vec![(id.to_owned(), size)]));
        for (pattern, rename, expected) in [
            ("db", "", vec![of("db", 1)]),
            ("db*", "", vec![of("db", 1), of("dbx", 3)]),
            ("db*", "new-", vec![of("new-", 1), of("new-x", 3)]),
            ("db", "new", vec![of("new", 1)]),
            ("none*", "", vec![]),
            (".h*", "", vec![of(".hidden", 1)]),
        ] {
            assert_eq!(ids(stores.import(pattern, rename)), expected, "{pattern}:{rename}");
        }
        for pattern in ["dir*", "link"] {
            let found = ids(stores.import(pattern, ""));
            assert!(matches!(found.as_slice(), [(_, Content::Fails(_))]), "{found:?}");
        }
        assert_eq!(stores.find("dbx"), Search::Found(place.path().join("usr/lib/credstore/dbx")));
        assert_eq!(stores.find("none"), Search::Nothing);
        assert!(!matches("*", ".hidden") && matches("*", "db") && !matches("d?", "db"));
    }
}
