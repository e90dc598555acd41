//! Passes values by file descriptor, never in a message: sealed memfds to callers, and an administrator's
//! file to onecred.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::stat::{SFlag, fstat};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::error::BusError;
use crate::config::memory;
use crate::domain::secret::{SecretValue, Wanted};
use crate::host::sys;
use crate::ipc::packet;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;

/// The maximum memory for the open values of one user, in bytes.
const USER: usize = 16 << 20;
/// The same for all users except root.
const USERS: usize = 32 << 20;
/// The same for all users.
const ALL: usize = memory::HANDED_OUT as usize;
/// The maximum number of values. Each has a descriptor.
const VALUES: Counts = Counts { user: 128, users: 384, all: 512 };
const PAGE: usize = 4096;

#[derive(Debug)]
struct Counts {
    user: usize,
    users: usize,
    all: usize,
}

/// Why a value is not handed out.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotHandedOut {
    #[error("values with {0} bytes are open already; close some of them")]
    Crowded(usize),
    #[error("it can't be put into memory: {0}")]
    Io(#[from] io::Error),
}

/// Hands out values. All callers of one value share its memory. The kernel charges it to onecred as long as any caller has it open, so it counts that long, for the user who requested it first.
#[derive(Debug)]
pub(super) struct Handouts {
    kept: Mutex<Kept>,
    key: hmac::Key,
}

#[derive(Debug, Default)]
struct Kept {
    values: Vec<KeptValue>,
    uses: u64,
}

#[derive(Debug)]
struct KeptValue {
    digest: Vec<u8>,
    /// Open for reading only, which the check whether a caller has it open requires.
    memfd: OwnedFd,
    /// The size of its memory in bytes.
    size: usize,
    last_use: u64,
    uid: u32,
    /// The secrets that it was made from.
    parts: Vec<Arc<Wanted>>,
    /// Whether the next caller can get it. If not, it counts only as long as a caller has it open.
    is_current: bool,
}

impl Default for Handouts {
    fn default() -> Self {
        let mut key = [0; 32];
        // without random numbers the digests are not keyed; they never leave this process
        let _ = SystemRandom::new().fill(&mut key);
        Self { kept: Mutex::default(), key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }
}

impl Handouts {
    /// Returns a value as a sealed memfd with a new open file description: read-only, at offset 0.
    pub(super) fn out(
        &self,
        uid: u32,
        value: &SecretValue,
        parts: &[Arc<Wanted>],
    ) -> Result<OwnedFd, NotHandedOut> {
        // exposed: the caller is allowed to read the value
        let bytes = value.expose();
        let digest = hmac::sign(&self.key, bytes).as_ref().to_vec();
        let mut kept = self.kept();
        kept.uses += 1;
        let last_use = kept.uses;
        if let Some(known) = kept.values.iter_mut().find(|known| known.is_current && known.digest == digest) {
            known.last_use = last_use;
            return Ok(open_again(&known.memfd)?);
        }
        let size = bytes.len().next_multiple_of(PAGE);
        kept.make_space(uid, size)?;
        let memfd = open_again(&packet::sealed("onecred", std::iter::once(bytes))?)?;
        let opened = open_again(&memfd)?;
        let parts = parts.to_vec();
        kept.values.push(KeptValue { digest, memfd, size, last_use, uid, parts, is_current: true });
        Ok(opened)
    }

    /// Marks the values that an event concerns as outdated.
    pub(super) fn forget(&self, event: &Event) {
        let is_of = |wanted: &Wanted, key: &ItemKey| {
            wanted.source == key.source && ItemKey::new(&wanted.source, &wanted.reference.item) == *key
        };
        let concerns = |wanted: &Arc<Wanted>| match event {
            Event::Configured => true,
            Event::Changed { key, .. } | Event::Failed { key, .. } => is_of(wanted, key),
            Event::Held { name } => wanted.label == *name,
        };
        let mut kept = self.kept();
        for value in kept.values.iter_mut().filter(|value| value.parts.iter().any(concerns)) {
            value.is_current = false;
        }
        kept.drop_closed();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Drops values that are neither current nor open.
    fn drop_closed(&mut self) {
        self.values.retain(|value| value.is_current || sys::is_open_elsewhere(&value.memfd));
    }

    /// Drops values that no caller has open, the least recently used first, until another value of this user fits.
    fn make_space(&mut self, uid: u32, size: usize) -> Result<(), NotHandedOut> {
        self.drop_closed();
        let all = |_: u32| true;
        let users = |user: u32| user != 0;
        let own = move |user: u32| user == uid;
        if uid != 0 {
            self.shrink(own, USER.saturating_sub(size), VALUES.user - 1)?;
            self.shrink(users, USERS.saturating_sub(size), VALUES.users - 1)?;
        }
        self.shrink(all, ALL.saturating_sub(size), VALUES.all - 1)
    }

    /// Limits the values of these users.
    fn shrink(&mut self, of: impl Fn(u32) -> bool, bytes: usize, count: usize) -> Result<(), NotHandedOut> {
        loop {
            let those = || self.values.iter().enumerate().filter(|(_, value)| of(value.uid));
            let total = those().map(|(_, value)| value.size).sum::<usize>();
            if total <= bytes && those().count() <= count {
                return Ok(());
            }
            let closed = those().filter(|(_, value)| !sys::is_open_elsewhere(&value.memfd));
            let Some((oldest, _)) = closed.min_by_key(|(_, value)| value.last_use) else {
                return Err(NotHandedOut::Crowded(total));
            };
            self.values.swap_remove(oldest);
        }
    }
}

/// A new open file description of a memfd. A duplicate would share the offset, so that a second reader would get nothing.
fn open_again(memfd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/self/fd/{}", memfd.as_raw_fd()))?.into())
}

/// Reads all of an administrator's file. Pipes and sockets are rejected, because reading them could block.
pub(super) fn take(fd: impl AsFd, allow_empty: bool) -> Result<SecretValue, BusError> {
    let unfit = |why: &str| BusError::InvalidArgument(format!("the value's descriptor {why}"));
    let failed = |error: io::Error| unfit(&format!("can't be read: {error}"));
    let file = File::from(fd.as_fd().try_clone_to_owned().map_err(failed)?);
    let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(unfit(
            "is not a file: pass a memfd, or a regular file (onecred put reads a pipe for you)",
        ));
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > SecretValue::MAX {
        let most = SecretValue::MAX;
        return Err(BusError::TooLarge(format!("the value has {size} bytes; the limit is {most}")));
    }
    let mut bytes = vec![0; size];
    let read = file.read_exact_at(&mut bytes, 0);
    let value = SecretValue::new(bytes);
    read.map_err(failed)?;
    if value.is_empty() && !allow_empty {
        return Err(BusError::Empty(
            "the value is empty; give it by standard input: onecred put NAME <FILE; or set \"allowEmpty\": true for the secret".into(),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// A user.
    const UID: u32 = 998;

    fn handed(handouts: &Handouts, value: &[u8], parts: &[Arc<Wanted>]) -> OwnedFd {
        handouts.out(UID, &SecretValue::new(value.to_vec()), parts).unwrap()
    }

    fn inode(fd: &OwnedFd) -> u64 {
        fstat(fd).unwrap().st_ino
    }

    #[test]
    fn a_value_goes_out_and_comes_in_by_descriptor() {
        let fd = handed(&Handouts::default(), b"hunter2", &[]);
        let mut text = String::new();
        File::from(fd.try_clone().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hunter2");
        assert!(File::from(fd.try_clone().unwrap()).write_all(b"x").is_err(), "it is sealed");
        assert_eq!(take(&fd, false).unwrap().expose(), b"hunter2");
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert!(matches!(take(&reader, true), Err(BusError::InvalidArgument(_))));
        assert!(matches!(take(tempfile::tempfile().unwrap(), false), Err(BusError::Empty(_))));
        assert!(take(tempfile::tempfile().unwrap(), true).is_ok_and(|value| value.is_empty()));
    }

    #[test]
    fn a_value_has_one_memory_and_each_caller_its_own_offset() {
        let handouts = Handouts::default();
        let (one, other) = (handed(&handouts, b"hunter2", &[]), handed(&handouts, b"hunter2", &[]));
        assert_eq!(inode(&one), inode(&other), "the memory is shared");
        for fd in [&one, &other] {
            let mut text = String::new();
            File::from(fd.try_clone().unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, "hunter2", "each reads from the beginning");
        }
        assert_ne!(inode(&one), inode(&handed(&handouts, b"hunter3", &[])));
    }

    #[test]
    fn a_value_is_given_up_when_what_it_is_made_of_changes() {
        let text = r#"{ "secrets": [ { "name": "db", "reference": "op://v/i/f", "units": ["app"] },
            { "name": "other", "reference": "op://v/j/f", "units": ["app"] } ] }"#;
        let loaded = crate::config::from_text(std::path::Path::new("test.json"), text).unwrap();
        let wanted: Vec<Arc<Wanted>> =
            loaded.settings.policy.secrets().map(|secret| Arc::new(secret.wanted.clone())).collect();
        let key = |wanted: &Wanted| ItemKey::new(&wanted.source, &wanted.reference.item);
        let changed = |wanted: &Wanted| Event::Changed {
            key: key(wanted),
            fields: [wanted.reference.field.clone()].into(),
            version: 2,
            first: false,
        };
        for (event, kept) in [
            (changed(&wanted[0]), false),
            (changed(&wanted[1]), true),
            (Event::Held { name: "db".into() }, false),
            (Event::Held { name: "other".into() }, true),
            (Event::Configured, false),
        ] {
            let handouts = Handouts::default();
            let before = handed(&handouts, b"hunter2", &wanted[..1]);
            handouts.forget(&event);
            let after = handed(&handouts, b"hunter2", &wanted[..1]);
            assert_eq!(inode(&before) == inode(&after), kept, "{event:?}");
            assert_eq!(handouts.kept().values.len(), if kept { 1 } else { 2 }, "an open one counts");
        }
    }

    #[test]
    fn values_that_are_open_count_and_others_make_space() {
        let mib = 1 << 20;
        let handouts = Handouts::default();
        let out = |uid: u32, n: u8| {
            let mut value = vec![n; mib];
            value[..4].copy_from_slice(&uid.to_le_bytes());
            handouts.out(uid, &SecretValue::new(value), &[])
        };
        for n in 0..100 {
            out(UID, n).unwrap();
        }
        assert_eq!(handouts.kept().values.len(), USER / mib, "the closed ones are replaced");
        let mut open = Vec::new();
        // a user; how many values it can have open
        for (uid, most) in [(UID, 16), (UID + 1, 16), (UID + 2, 0), (0, 16)] {
            let first = open.len();
            let more = (0..20).map_while(|n| out(uid, n).ok());
            open.extend(more);
            assert_eq!(open.len() - first, most, "user {uid}");
        }
        assert!(matches!(out(UID, 200), Err(NotHandedOut::Crowded(bytes)) if bytes == USER));
        handouts.forget(&Event::Configured);
        assert!(out(UID, 200).is_err(), "they are open all the same");
        open.remove(0);
        assert!(out(UID, 200).is_ok());
    }

    #[test]
    fn small_values_have_a_limit_too() {
        let handouts = Handouts::default();
        let open: Vec<OwnedFd> =
            (0..=255).map_while(|n: u8| handouts.out(UID, &SecretValue::new(vec![n; 3]), &[]).ok()).collect();
        assert_eq!(open.len(), VALUES.user);
    }
}
