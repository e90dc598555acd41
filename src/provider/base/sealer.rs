//! Encrypts values with the host key, for the sealed socket. The key is read once, and again when its file
//! changes.
//!
//! Encrypted values are not cached: encrypting 32 bytes takes 2 µs, whereas decryption by systemd makes the
//! start of a unit 5 ms longer.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::domain::name::CredentialId;
use crate::domain::seal::{FILE_MAX, HostKey};
use crate::domain::secret::SecretValue;
use crate::host::clock;
use crate::provider::base::seal_error::Unsealed;

/// How often to check whether the directory of the key has been mounted.
const LOOK: Duration = Duration::from_millis(100);
/// How long the creation of a key may take after its directory exists.
const BEING_MADE: Duration = Duration::from_secs(5);

/// Encrypts values with the host key.
pub struct Sealer {
    file: PathBuf,
    /// When the directory was first seen without the key.
    without: OnceLock<Instant>,
    key: Mutex<Option<(Stamp, Arc<HostKey>)>>,
}

/// Attributes that identify a version of a file.
type Stamp = (u64, u64, u64, i64, i64);

impl Sealer {
    /// Uses the key in this file, if it exists when it is needed.
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), without: OnceLock::new(), key: Mutex::default() }
    }

    /// Whether waiting for the key is pointless: it exists, or it will not be created.
    pub fn is_settled(&self) -> bool {
        // if /var is mounted late, the directory of the key does not exist before, even if the mount point
        // does
        if self.file.exists() {
            return true;
        }
        // at the first boot the key may be in creation
        self.file.parent().is_none_or(Path::exists)
            && self.without.get_or_init(Instant::now).elapsed() > BEING_MADE
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
        match self.file.parent() {
            Some(folder) if !folder.exists() => Unsealed::NoFolder(folder.to_owned()),
            _ => Unsealed::NoKey(self.file.clone()),
        }
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
        let metadata = self.file.metadata().map_err(|error| self.unreadable(&error))?;
        let stamp = stamp(&metadata);
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = known.as_ref().filter(|(of, _)| *of == stamp) {
            return Ok(Arc::clone(key));
        }
        *known = None;
        let (stamp, key) = self.read()?;
        Ok(Arc::clone(&known.insert((stamp, Arc::new(key))).1))
    }

    fn read(&self) -> Result<(Stamp, HostKey), Unsealed> {
        let mut file = File::open(&self.file).map_err(|error| self.unreadable(&error))?;
        let metadata = file.metadata().map_err(|error| self.unreadable(&error))?;
        // allocated at full size: a buffer that grows would leave parts of the key in memory
        let mut content = Zeroizing::new(vec![0; FILE_MAX + 1]);
        let mut len = 0;
        while len < content.len() {
            match file.read(&mut content[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(&error)),
            }
        }
        let key = HostKey::parse(&content[..len]);
        let key =
            key.map_err(|error| Unsealed::Unusable { file: self.file.clone(), why: error.to_string() })?;
        Ok((stamp(&metadata), key))
    }

    fn unreadable(&self, error: &io::Error) -> Unsealed {
        match error.kind() {
            io::ErrorKind::NotFound => self.not_settled(),
            _ => Unsealed::Unusable { file: self.file.clone(), why: error.to_string() },
        }
    }
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(sealer: &Sealer) -> Result<usize, String> {
        let value = SecretValue::new(b"hunter2".to_vec());
        let sealed = sealer.seal(&CredentialId::parse("db").unwrap(), &value);
        sealed.map(|blob| blob.len()).map_err(|error| format!("{error}; {}", error.remedy()))
    }

    #[test]
    fn a_key_that_comes_and_changes() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("systemd/credential.secret");
        let sealer = Sealer::new(&file);
        assert!(!sealer.is_settled());
        assert!(seal(&sealer).unwrap_err().contains("RequiresMountsFor="));
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        assert!(!sealer.is_settled(), "it may be made just now");
        assert!(seal(&sealer).unwrap_err().contains("systemd-creds setup"));
        std::fs::write(&file, [1; 10]).unwrap();
        assert!(sealer.is_settled());
        assert!(seal(&sealer).unwrap_err().contains("it has 10 bytes"));
        std::fs::write(&file, [1; 48]).unwrap();
        assert!(seal(&sealer).is_ok());
        let first = sealer.key().unwrap();
        assert!(Arc::ptr_eq(&first, &sealer.key().unwrap()), "read again");
        let next = place.path().join("next");
        std::fs::write(&next, [2; 48]).unwrap();
        std::fs::rename(&next, &file).unwrap();
        assert!(!Arc::ptr_eq(&first, &sealer.key().unwrap()), "not read again");
        std::fs::remove_file(&file).unwrap();
        assert!(seal(&sealer).unwrap_err().contains("has no key"));
    }
}
