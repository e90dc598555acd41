//! Encrypts values with the host key, for the sealed socket. The key is read once, and again when its file or the
//! machine ID changes.
//!
//! The key is checked as systemd checks it, so that systemd can decrypt each value. If the key is missing or of
//! another machine, `systemd-creds setup` creates one when a unit asks.
//!
//! Encrypted values are not cached: encrypting 32 bytes takes 2 µs, whereas decryption by systemd makes the
//! start of a unit 5 ms longer.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::domain::name::CredentialId;
use crate::domain::seal::key_file::{self, Facts, FileType};
use crate::domain::seal::{FILE_MAX, HostKey};
use crate::domain::secret::SecretValue;
use crate::host::clock;
use crate::provider::base::seal_error::Unsealed;

/// How often to check whether the directory of the key has been mounted, or the key has been created.
const LOOK: Duration = Duration::from_millis(100);
/// How long the creation of a key may take after its directory exists.
const BEING_MADE: Duration = Duration::from_secs(5);
/// How long to wait before the creation of a key is requested again.
const AGAIN: Duration = Duration::from_secs(10);
/// The machine ID (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Requests the creation of a key, and does not wait for it.
type Make = Box<dyn Fn() + Send + Sync>;

/// Encrypts values with the host key.
pub struct Sealer {
    file: PathBuf,
    machine_id: PathBuf,
    make: Option<Make>,
    missing: Mutex<Missing>,
    key: Mutex<Option<(Stamp, Arc<HostKey>)>>,
}

/// Since when this machine has no key of its own, and when one was last requested.
#[derive(Debug, Default)]
struct Missing {
    since: Option<Instant>,
    asked: Option<Instant>,
}

/// Attributes that identify a version of a file.
type FileStamp = (u64, u64, u64, i64, i64);

/// The versions of the key's file and of the machine ID.
type Stamp = [FileStamp; 2];

impl Sealer {
    /// Uses the key in this file, if it exists when it is needed.
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            machine_id: PathBuf::from(MACHINE_ID),
            make: None,
            missing: Mutex::default(),
            key: Mutex::default(),
        }
    }

    /// Calls `make` when a unit needs a key and this machine has none of its own.
    pub fn with_maker(self, make: impl Fn() + Send + Sync + 'static) -> Self {
        Self { make: Some(Box::new(make)), ..self }
    }

    /// Whether waiting for the key is pointless: it can be used, or waiting does not help. Requests a missing key.
    pub fn is_settled(&self) -> bool {
        let error = self.error();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) if error.ends_with_setup() => {
                let now = Instant::now();
                let since = *missing.since.get_or_insert(now);
                if let Some(make) = &self.make
                    && missing.asked.is_none_or(|asked| now.duration_since(asked) >= AGAIN)
                {
                    missing.asked = Some(now);
                    make();
                }
                now.duration_since(since) > BEING_MADE // at the first boot the key may be in creation
            }
            // if /var is mounted late, the directory of the key does not exist before, even if the mount point does
            Some(Unsealed::NoFolder(_)) => false,
            Some(_) => true,
            None => {
                *missing = Missing::default();
                true
            }
        }
    }

    /// Waits until [`Self::is_settled`] is true.
    pub async fn settled(&self) {
        let mut look = tokio::time::interval(LOOK);
        while !self.is_settled() {
            look.tick().await;
        }
    }

    /// What is being waited for, until [`Self::is_settled`] is true.
    pub fn not_settled(&self) -> Unsealed {
        self.error().unwrap_or_else(|| self.missing_file())
    }

    /// Encrypts a value for the units that request it under this ID.
    pub fn seal(&self, id: &CredentialId, value: &SecretValue) -> Result<SecretValue, Unsealed> {
        let key = self.key()?;
        key.seal(id, value, clock::unix()).map_err(|_| Unsealed::NoRandom)
    }

    /// Why no value can be encrypted now.
    pub fn error(&self) -> Option<Unsealed> {
        self.key().err()
    }

    fn key(&self) -> Result<Arc<HostKey>, Unsealed> {
        let metadata = self.file.symlink_metadata().map_err(|error| self.unreadable(&error))?;
        let of_machine = self.machine_id.metadata().map_err(|error| no_machine_id(&error))?;
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = [stamp(&metadata), stamp(&of_machine)];
        if let Some((_, key)) = known.as_ref().filter(|(of, _)| *of == stamp) {
            return Ok(Arc::clone(key));
        }
        *known = None;
        self.judge(&metadata)?;
        let (of_key, key) = self.read()?;
        let stamp = [of_key, stamp[1]];
        Ok(Arc::clone(&known.insert((stamp, Arc::new(key))).1))
    }

    fn judge(&self, metadata: &Metadata) -> Result<(), Unsealed> {
        let judged = key_file::judge(&facts(metadata), nix::unistd::geteuid().as_raw());
        judged.map_err(|fault| Unsealed::Unusable { file: self.file.clone(), fault })
    }

    fn read(&self) -> Result<(FileStamp, HostKey), Unsealed> {
        let text = std::fs::read_to_string(&self.machine_id).map_err(|error| no_machine_id(&error))?;
        let machine_id = key_file::machine_id(&text)
            .ok_or_else(|| Unsealed::NoMachineId(format!("{} has none", self.machine_id.display())))?;
        // a FIFO that took the file's place must not block
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.file);
        let mut file = file.map_err(|error| self.unreadable(&error))?;
        let metadata = file.metadata().map_err(|error| self.unreadable(&error))?;
        self.judge(&metadata)?;
        let content = content(&mut file).map_err(|error| self.unreadable(&error))?;
        if !key_file::is_of_machine(&content, machine_id) {
            return Err(Unsealed::Foreign(self.file.clone()));
        }
        let key = HostKey::parse(&content)
            .map_err(|error| Unsealed::Unreadable { file: self.file.clone(), why: error.to_string() })?;
        Ok((stamp(&metadata), key))
    }

    fn missing_file(&self) -> Unsealed {
        match self.file.parent() {
            Some(folder) if !folder.exists() => Unsealed::NoFolder(folder.to_owned()),
            _ => Unsealed::NoKey(self.file.clone()),
        }
    }

    fn unreadable(&self, error: &io::Error) -> Unsealed {
        match error.kind() {
            io::ErrorKind::NotFound => self.missing_file(),
            _ => Unsealed::Unreadable { file: self.file.clone(), why: error.to_string() },
        }
    }
}

/// Reads the file, up to one byte more than a host key has.
fn content(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    // allocated at full size: a buffer that grows would leave parts of the key in memory
    let mut content = Zeroizing::new(vec![0; FILE_MAX + 1]);
    let mut len = 0;
    while len < content.len() {
        match file.read(&mut content[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(len);
    Ok(content)
}

fn no_machine_id(error: &io::Error) -> Unsealed {
    Unsealed::NoMachineId(format!("{MACHINE_ID} can't be read: {error}"))
}

fn facts(metadata: &Metadata) -> Facts {
    let file_type = match metadata.file_type() {
        it if it.is_symlink() => FileType::Link,
        it if it.is_file() => FileType::Regular,
        _ => FileType::Other,
    };
    Facts {
        file_type,
        links: metadata.nlink(),
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
        size: metadata.len(),
    }
}

fn stamp(metadata: &Metadata) -> FileStamp {
    (metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(test)]
pub(crate) mod tests;
