//! The vault file: a JSON file in the data model of Connect, for demos, tests and development machines.
//!
//! It is read again for every question, so an edit takes effect at once. Only a keyed digest of each item
//! stays in memory.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64ct::{Base64, Encoding};
use nix::fcntl::OFlag;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::domain::secret::SecretValue;
use crate::ipc::{Class, Failure, ItemId, version};

use super::backend::{About, Backend};
use crate::resolver::items::model::{self, FieldValue, File, FullItem, ItemOverview, Vault, VaultId};

/// The maximum size of such a file in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A development vault.
pub(super) struct VaultFile {
    path: PathBuf,
    /// The digest of each item by the IDs of its vault and itself, and the version since which it has this
    /// digest.
    seen: Mutex<Seen>,
    digests: RandomState,
    /// The result of the last examination, and the state of the file at that time.
    examined: Mutex<Option<(State, Result<(), Failure>)>>,
}

/// Attributes that change with a file: file system, inode, time of the last change, and size.
type State = (u64, u64, i64, i64, u64);

type Seen = HashMap<(String, String), (u64, u64)>;

#[derive(Deserialize)]
struct Content {
    vaults: Vec<FileVault>,
}

#[derive(Deserialize)]
struct FileVault {
    id: String,
    name: String,
    #[serde(default)]
    items: Vec<FullItem>,
}

impl VaultFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, seen: Mutex::default(), digests: RandomState::new(), examined: Mutex::default() }
    }

    /// Whether the file can be used. Reads it only if it has changed.
    pub(super) fn examine(&self) -> Result<(), Failure> {
        let (_, about) = self.open()?;
        let state = (about.dev(), about.ino(), about.ctime(), about.ctime_nsec(), about.len());
        let mut examined = self.examined.lock().unwrap_or_else(PoisonError::into_inner);
        match &*examined {
            Some((known, result)) if *known == state => result.clone(),
            _ => {
                let result = self.read().map(drop);
                // an error of the disk can end although the file does not change
                let lasts = result.as_ref().err().is_none_or(|failure| failure.class != Class::Misconfigured);
                *examined = lasts.then(|| (state, result.clone()));
                result
            }
        }
    }

    /// Opens the file. Does not block if it is a FIFO.
    fn open(&self) -> Result<(fs::File, fs::Metadata), Failure> {
        let unreadable = |error| self.unreadable(error);
        let mut options = fs::OpenOptions::new();
        let file =
            options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&self.path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(self.failure(Class::Misconfigured, "is not a regular file".into()));
        }
        Ok((file, about))
    }

    fn unreadable(&self, error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::NotFound => self.failure(Class::Misconfigured, "does not exist".into()),
            _ => self.failure(Class::Misconfigured, format!("can't be read: {error}")),
        }
    }

    /// Reads the vaults, and the version of the whole file. Versions in the file are ignored, because people
    /// who edit it forget to increase them. Instead, the time of the file's last change is its version, and
    /// that of the items that changed with it.
    fn read(&self) -> Result<(Vec<FileVault>, u64), Failure> {
        let failed = |error| self.unreadable(error);
        let (mut file, about) = self.open()?;
        if about.len() > MAX_BYTES {
            return Err(self.failure(Class::TooLarge, "has over 64 MiB".into()));
        }
        // one byte more than the file has, so that reading to its end never grows the buffer
        let mut json = Zeroizing::new(Vec::with_capacity(about.len() as usize + 1));
        file.by_ref().take(MAX_BYTES).read_to_end(&mut json).map_err(failed)?;
        let mut content: Content = model::parse(&json).map_err(|error| self.malformed(&json, &error))?;
        let micros = about.ctime().saturating_mul(1_000_000).saturating_add(about.ctime_nsec() / 1_000);
        let version = version::of_micros(u64::try_from(micros).unwrap_or(0));
        self.set_versions(&mut content.vaults, version);
        Ok((content.vaults, version))
    }

    /// Gives each item the version of the file in which its current content first appeared.
    fn set_versions(&self, vaults: &mut [FileVault], version: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = Seen::new();
        for vault in vaults {
            for item in &mut vault.items {
                item.version = None;
                let digest = self.digests.hash_one(&*item);
                let key = (vault.id.clone(), item.id.clone());
                let version =
                    seen.get(&key).filter(|(known, _)| *known == digest).map_or(version, |(_, v)| *v);
                item.version = Some(version);
                now.insert(key, (digest, version));
            }
        }
        *seen = now;
    }

    fn items_of(&self, vault: &str) -> Result<Vec<FullItem>, Failure> {
        let (vaults, _) = self.read()?;
        match vaults.into_iter().find(|v| v.id == vault) {
            Some(found) => Ok(found.items),
            None => Err(self.failure(Class::NotFound, format!("has no vault with the ID {vault:?}"))),
        }
    }

    /// The failure for invalid content. Names the vault or item without an ID or name, if that is the cause.
    fn malformed(&self, json: &[u8], error: &str) -> Failure {
        let Some((thing, key)) = nameless(json) else {
            return self.failure(Class::Malformed, format!("can't be read: {error}"));
        };
        let place =
            error.split_once(" (line ").map(|(_, place)| format!(" (line {place}")).unwrap_or_default();
        let mut failure =
            self.failure(Class::Malformed, format!("can't be read: {thing} has no {key:?}{place}"));
        failure.remedy = format!("add it, for example {key:?}: \"app\"");
        failure
    }

    fn failure(&self, class: Class, what: String) -> Failure {
        let remedy = "correct the file, or the path of its source";
        Failure::new(class, format!("the vault file {} {what}", self.path.display()), remedy)
    }
}

/// Checks a vault file as a whole, so that `onecred check` can report errors before a unit asks.
pub fn examine(path: &Path) -> Result<(), Failure> {
    VaultFile::new(path.to_owned()).read().map(drop)
}

/// The first vault or item that lacks a required key, and the key.
fn nameless(json: &[u8]) -> Option<(String, &'static str)> {
    #[derive(Deserialize)]
    struct Outline {
        vaults: Vec<Thing>,
    }
    #[derive(Deserialize)]
    struct Thing {
        id: Option<IgnoredAny>,
        name: Option<IgnoredAny>,
        items: Option<Vec<Thing>>,
    }
    let outline: Outline = serde_json::from_slice(json).ok()?;
    let mut found = outline.vaults.into_iter().enumerate().flat_map(|(at, vault)| {
        let vault_at = format!("vaults[{at}]");
        let items = vault.items.into_iter().flatten().enumerate();
        let items =
            items.map(|(item, thing)| (format!("{vault_at}.items[{item}]"), "id", thing.id.is_none()));
        let mut all: Vec<_> = items.collect();
        all.push((vault_at.clone(), "id", vault.id.is_none()));
        all.push((vault_at, "name", vault.name.is_none()));
        all
    });
    found.find(|(_, _, is_missing)| *is_missing).map(|(thing, key, _)| (thing, key))
}

impl Backend for VaultFile {
    const CALLS_COST: bool = false;
    const VERSIONS_GROW: bool = false; // people edit the file by hand
    const HOLDERS: Option<&'static str> = None;

    fn about(&self) -> About {
        About { at: self.path.display().to_string(), ..About::default() }
    }

    async fn vaults(&self, _by: Instant) -> Result<Vec<Vault>, Failure> {
        let (vaults, version) = self.read()?;
        let vault = |v: FileVault| Vault {
            items: Some(v.items.len() as u64),
            id: v.id,
            name: v.name,
            content_version: Some(version),
        };
        Ok(vaults.into_iter().map(vault).collect())
    }

    async fn items(&self, vault: &str, _by: Instant) -> Result<Vec<ItemOverview>, Failure> {
        let items = self.items_of(vault)?;
        let overview = |item: FullItem| ItemOverview {
            id: item.id,
            title: item.title.unwrap_or_default(),
            vault: Some(VaultId { id: vault.to_owned() }),
            version: item.version,
            state: item.state,
        };
        Ok(items.into_iter().map(overview).collect())
    }

    async fn item(&self, id: &ItemId, _by: Instant) -> Result<FullItem, Failure> {
        let items = self.items_of(&id.vault)?;
        match items.into_iter().find(|item| item.id == id.item) {
            Some(item) => Ok(item),
            None => Err(self.failure(Class::NotFound, format!("has no item with the ID {:?}", id.item))),
        }
    }

    async fn file(&self, _id: &ItemId, file: &File, _by: Instant) -> Result<SecretValue, Failure> {
        let text = |value: &Option<FieldValue>| {
            value.as_ref().and_then(FieldValue::text).map(str::to_owned).map(Zeroizing::new)
        };
        if let Some(base64) = text(&file.content_base64) {
            return match Base64::decode_vec(&base64) {
                Ok(bytes) => Ok(SecretValue::new(bytes)),
                Err(_) => Err(self.failure(
                    Class::Malformed,
                    format!("holds no base64 as contentBase64 of the file {:?}", file.name),
                )),
            };
        }
        match text(&file.content) {
            Some(text) => Ok(SecretValue::new(text.as_bytes().to_vec())),
            None => {
                let what = format!("has neither content nor contentBase64 for the file {:?}", file.name);
                Err(self.failure(Class::Malformed, what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("vault.json");
        let said = || examine(&path).err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(said().contains(" does not exist; "), "{}", said());
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        assert!(said().contains(" is not a regular file; "), "{}", said());
        fs::remove_file(&path).expect("removed");
        let cases = [
            (r#"{"vaults": [{"id": "v", "name": "V", "items": [{"id": "i", "title": "canary"}]}]}"#, ""),
            (
                "{\"vaults\": [\n {\"name\": \"canary\"}]}",
                r#"vaults[0] has no "id" (line 2, column 19); add it, for example "id": "app""#,
            ),
            (r#"{"vaults": [{"id": "v"}]}"#, r#"vaults[0] has no "name" (line 1, column 23); add it"#),
            (
                "{\"vaults\": [{\"id\": \"v\", \"name\": \"V\", \"items\": [\n{\"id\": \"i\"},\n{\"title\": \"canary\"}]}]}",
                r#"vaults[0].items[1] has no "id" (line 3, column 19); add it"#,
            ),
            (r#"{"vaults": [{"id": null, "name": "canary"}]}"#, r#"vaults[0] has no "id""#),
            (
                "{}",
                r#"its structure is not that of a Connect response: "vaults" is missing (line 1, column 2)"#,
            ),
            (
                r#"{"vaults": [{"id": 5, "name": "canary"}]}"#,
                "its structure is not that of a Connect response (line 1, column",
            ),
            ("[", "it ends early"),
        ];
        for (text, expected) in cases {
            fs::write(&path, text).expect("written");
            let said = said();
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{text}: {said}");
            assert!(!said.contains("canary"), "{said}");
        }
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert!(said().contains("is not a regular file"), "{}", said());
    }

    #[test]
    fn only_items_that_changed_get_another_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = VaultFile::new(folder.path().join("vault.json"));
        let versions = |value: &str, counted: u64| {
            let text = format!(
                r#"{{"vaults": [{{"id": "v", "name": "V", "items": [
                    {{"id": "a", "version": {counted}, "fields": [{{"id": "f", "value": {value:?}}}]}}, {{"id": "b"}}]}}]}}"#
            );
            fs::write(&vault.path, text).expect("written");
            let (vaults, file) = vault.read().expect("read");
            (vaults[0].items.iter().map(|item| item.version).collect::<Vec<_>>(), file)
        };
        let (first, file) = versions("one", 1);
        assert_eq!(first, [Some(file); 2]);
        // until the modification time of the file changes
        let (second, later) =
            std::iter::repeat_with(|| versions("one", 2)).find(|(_, now)| *now != file).expect("endless");
        assert_eq!(second, first, "its own count is ignored");
        let (third, last) =
            std::iter::repeat_with(|| versions("two", 2)).find(|(_, now)| *now != later).expect("endless");
        assert_eq!((third[0] > second[0], third[1]), (true, second[1]), "{last}");
    }
}
