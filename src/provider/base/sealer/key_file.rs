//! The host key's file. Each function may block as long as the file systems of the key and of the machine ID do.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::MACHINE_ID;
use crate::domain::seal::key_file::{self, Facts, FileType};
use crate::domain::seal::{FILE_MAX, HostKey};
use crate::provider::base::seal_error::Unsealed;

/// Attributes that identify a version of a file.
type FileStamp = (u64, u64, u64, i64, i64);

/// The versions of the key's file and of the machine ID.
type Stamp = [FileStamp; 2];

/// The key's file, and the key that was last read from it.
pub(super) struct KeyFile {
    file: PathBuf,
    machine_id: PathBuf,
    known: Mutex<Option<(Stamp, Arc<HostKey>)>>,
}

impl KeyFile {
    pub(super) fn new(file: PathBuf, machine_id: PathBuf) -> Self {
        Self { file, machine_id, known: Mutex::default() }
    }

    /// The key that systemd uses now.
    pub(super) fn key(&self) -> Result<Arc<HostKey>, Unsealed> {
        let metadata = self.file.symlink_metadata().map_err(|error| self.unreadable(&error))?;
        let of_machine = self.machine_id.metadata().map_err(|error| no_machine_id(&error))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
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
