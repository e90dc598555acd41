//! Seals values with the host key, for the sealed socket. The key is read once, and again when its file changes.
//!
//! What was sealed is not kept: to seal 32 bytes takes 2 µs, and a unit's start, in which systemd opens them, 5 ms more than without.

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

/// How often it is looked whether the key's folder has been mounted.
const LOOK: Duration = Duration::from_millis(100);
/// How long a key may be on its way, once its folder is there.
const BEING_MADE: Duration = Duration::from_secs(5);

/// Seals values with the host key.
pub struct Sealer {
    file: PathBuf,
    /// When its folder was first seen without it.
    without: OnceLock<Instant>,
    key: Mutex<Option<(Stamp, Arc<HostKey>)>>,
}

/// What tells a file from the one that was there before.
type Stamp = (u64, u64, u64, i64, i64);

impl Sealer {
    /// With the key in this file, if there is one when it is needed.
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), without: OnceLock::new(), key: Mutex::default() }
    }

    /// Whether it makes no sense to wait for the key: it is there, or it is known not to be.
    pub fn is_settled(&self) -> bool {
        // a /var that is mounted late has no folder for the key before, even where it has a mount point
        if self.file.exists() {
            return true;
        }
        // at a first boot it is being made just now
        self.file.parent().is_none_or(Path::exists)
            && self.without.get_or_init(Instant::now).elapsed() > BEING_MADE
    }

    /// Waits until that is so.
    pub async fn settled(&self) {
        let mut look = tokio::time::interval(LOOK);
        while !self.is_settled() {
            look.tick().await;
        }
    }

    /// What is waited for, until it is settled.
    pub fn not_settled(&self) -> Unsealed {
        match self.file.parent() {
            Some(folder) if !folder.exists() => Unsealed::NoFolder(folder.to_owned()),
            _ => Unsealed::NoKey(self.file.clone()),
        }
    }

    /// Seals a value for those who ask for it by this ID.
    pub fn seal(&self, id: &CredentialId, value: &SecretValue) -> Result<SecretValue, Unsealed> {
        let key = self.key()?;
        key.seal(id, value, clock::unix()).map_err(|_| Unsealed::NoRandom)
    }

    /// Why nothing can be sealed now.
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
        // of one size from the start: a buffer that grew would leave parts of the key behind
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
