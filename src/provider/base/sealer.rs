//! Encrypts values with the host key, for the sealed socket. The key is read once, and again when its file or the
//! machine ID changes.
//!
//! The key is checked as systemd checks it, so that systemd can decrypt each value. If the key is missing or of
//! another machine, `systemd-creds setup` creates one when a unit asks.
//!
//! The disk of the key may hang. So another thread reads the key, and only requests that need the key wait for it.
//!
//! Encrypted values are not cached: encrypting 32 bytes takes 2 µs, whereas decryption by systemd makes the
//! start of a unit 5 ms longer.

mod key_file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use self::key_file::KeyFile;
use crate::domain::name::CredentialId;
use crate::domain::seal::HostKey;
use crate::domain::secret::SecretValue;
use crate::host::clock;
use crate::provider::base::seal_error::Unsealed;

/// How often to check whether the directory of the key has been mounted, or the key has been created.
const LOOK: Duration = Duration::from_millis(100);
/// How long the creation of a key may take after its directory exists.
const BEING_MADE: Duration = Duration::from_secs(5);
/// How long to wait before the creation of a key is requested again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a read may take if no unit waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The machine ID (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Requests the creation of a key, and does not wait for it.
type Make = Box<dyn Fn() + Send + Sync>;

/// The result of reading the key.
type Looked = Result<Arc<HostKey>, Unsealed>;

/// Encrypts values with the host key.
pub struct Sealer {
    looks: Arc<Looks>,
    make: Option<Make>,
    missing: Mutex<Missing>,
}

/// Reads the key's file in another thread, one read at a time.
struct Looks {
    path: PathBuf,
    read: Box<dyn Fn() -> Looked + Send + Sync>,
    inner: Mutex<Inner>,
    /// How many reads have ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    is_running: bool,
    /// Whether another read must follow, because it was requested during the current one.
    is_wanted: bool,
    /// The result of the last read.
    last: Option<Looked>,
}

/// Since when this machine has had no key, and when one was last requested.
#[derive(Debug, Default)]
struct Missing {
    since: Option<Instant>,
    asked: Option<Instant>,
}

impl Sealer {
    /// Uses the key in this file, if it exists when it is needed.
    pub fn new(file: &Path) -> Self {
        Self::with_machine_id(file, Path::new(MACHINE_ID))
    }

    fn with_machine_id(file: &Path, machine_id: &Path) -> Self {
        let key_file = KeyFile::new(file.to_owned(), machine_id.to_owned());
        Self::reading(file.to_owned(), move || key_file.key())
    }

    fn reading(path: PathBuf, read: impl Fn() -> Looked + Send + Sync + 'static) -> Self {
        let looks =
            Looks { path, read: Box::new(read), inner: Mutex::default(), ended: watch::Sender::new(0) };
        Self { looks: Arc::new(looks), make: None, missing: Mutex::default() }
    }

    /// Calls `make` when a unit needs a key and this machine has none of its own.
    pub fn with_maker(self, make: impl Fn() + Send + Sync + 'static) -> Self {
        Self { make: Some(Box::new(make)), ..self }
    }

    /// Looks at the key now, and waits until that has ended, which may take as long as the disk hangs.
    async fn look(&self) {
        let mut ended = self.looks.ended.subscribe();
        let number = Looks::begin(&self.looks);
        let _ = ended.wait_for(|ended| *ended >= number).await;
    }

    /// Looks at the key now, and waits a little for the result: why no value can be encrypted.
    pub async fn problem(&self) -> Option<Unsealed> {
        match timeout(PATIENCE, self.look()).await {
            Ok(()) => self.error(),
            Err(_elapsed) => Some(self.no_answer()),
        }
    }

    /// Whether waiting for the key is pointless, according to the last look: it can be used, or waiting does not
    /// help. Requests a missing key.
    fn is_settled(&self) -> bool {
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
            Some(Unsealed::NoFolder(_) | Unsealed::NoAnswer(_)) => false,
            Some(_) => true,
            None => {
                *missing = Missing::default();
                true
            }
        }
    }

    /// Waits until waiting for the key is pointless: it can be used, or waiting does not help. Requests a missing
    /// key.
    pub async fn settled(&self) {
        let mut again = tokio::time::interval(LOOK);
        loop {
            self.look().await;
            if self.is_settled() {
                return;
            }
            again.tick().await;
        }
    }

    /// What is being waited for, until [`Self::settled`] returns.
    pub fn not_settled(&self) -> Unsealed {
        self.error().unwrap_or_else(|| self.no_answer())
    }

    /// Encrypts a value for the units that request it under this ID, with the key that was seen at the last look.
    pub fn seal(&self, id: &CredentialId, value: &SecretValue) -> Result<SecretValue, Unsealed> {
        let key = self.last()?;
        key.seal(id, value, clock::unix()).map_err(|_| Unsealed::NoRandom)
    }

    /// Why no value can be encrypted, according to the last look.
    pub fn error(&self) -> Option<Unsealed> {
        self.last().err()
    }

    fn last(&self) -> Looked {
        let last = self.looks.inner().last.clone();
        last.unwrap_or_else(|| Err(self.no_answer()))
    }

    fn no_answer(&self) -> Unsealed {
        Unsealed::NoAnswer(self.looks.path.clone())
    }
}

impl Looks {
    /// Begins a look, or has one follow the present one. Returns its number.
    fn begin(looks: &Arc<Self>) -> u64 {
        let mut inner = looks.inner();
        let ended = *looks.ended.borrow();
        if inner.is_running {
            inner.is_wanted = true;
            return ended + 2;
        }
        inner.is_running = true;
        let looks = Arc::clone(looks);
        tokio::task::spawn_blocking(move || while looks.look() {});
        ended + 1
    }

    /// Looks once. Returns whether another look must follow.
    fn look(&self) -> bool {
        let looked = (self.read)();
        let mut inner = self.inner();
        inner.last = Some(looked);
        inner.is_running = inner.is_wanted;
        inner.is_wanted = false;
        self.ended.send_modify(|ended| *ended += 1);
        inner.is_running
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests;
