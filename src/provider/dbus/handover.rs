//! Passes values by file descriptor, never in a message: sealed memfds to callers, and an administrator's
//! file to onecred.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::stat::{SFlag, fstat};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::error::BusError;
use crate::domain::secret::{SecretValue, Wanted};
use crate::ipc::packet;
use crate::provider::base::events::Event;
use crate::provider::base::item_key::ItemKey;

/// The maximum number of bytes of the values that are kept for the next caller.
const KEPT: usize = 16 << 20;
/// The maximum number of values that are kept.
const KEPT_VALUES: usize = 128;

/// Hands values out. All callers of one value share its memory, which the kernel charges to onecred as long as one of them has it open.
#[derive(Debug)]
pub(super) struct Handouts {
    kept: Mutex<Kept>,
    key: hmac::Key,
}

#[derive(Debug, Default)]
struct Kept {
    /// By digest.
    values: HashMap<Vec<u8>, KeptValue>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct KeptValue {
    memfd: OwnedFd,
    size: usize,
    last_use: u64,
    /// What it was made of.
    parts: Vec<Arc<Wanted>>,
}

impl Default for Handouts {
    fn default() -> Self {
        let mut key = [0; 32];
        // without random numbers the digests only lose their secrecy, and no memory ever leaves this process with them
        let _ = SystemRandom::new().fill(&mut key);
        Self { kept: Mutex::default(), key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }
}

impl Handouts {
    /// A value as a sealed memfd, opened for this caller alone: read-only, and at its beginning.
    pub(super) fn out(&self, value: &SecretValue, parts: &[Arc<Wanted>]) -> io::Result<OwnedFd> {
        // exposed: the caller is allowed to read the value
        let bytes = value.expose();
        let digest = hmac::sign(&self.key, bytes).as_ref().to_vec();
        let mut kept = self.kept();
        kept.uses += 1;
        let last_use = kept.uses;
        if let Some(known) = kept.values.get_mut(&digest) {
            known.last_use = last_use;
            return open_again(&known.memfd);
        }
        let memfd = packet::sealed("onecred", std::iter::once(bytes))?;
        let opened = open_again(&memfd)?;
        let size = bytes.len();
        kept.bytes += size;
        kept.values.insert(digest, KeptValue { memfd, size, last_use, parts: parts.to_vec() });
        kept.shrink();
        Ok(opened)
    }

    /// Gives up the values that an event concerns: they may not be the current ones any more.
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
        kept.values.retain(|_, value| !value.parts.iter().any(concerns));
        kept.bytes = kept.values.values().map(|value| value.size).sum();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Gives up what was not used for the longest time, until the rest is within the limits.
    fn shrink(&mut self) {
        while self.bytes > KEPT || self.values.len() > KEPT_VALUES {
            let oldest = self.values.iter().min_by_key(|(_, value)| value.last_use);
            let Some(oldest) = oldest.map(|(digest, _)| digest.clone()) else { return };
            self.bytes -= self.values.remove(&oldest).map_or(0, |value| value.size);
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
        return Err(unfit("is no file: pass a memfd, or a regular file (onecred put reads a pipe for you)"));
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

    #[test]
    fn a_value_goes_out_and_comes_in_by_descriptor() {
        let fd = Handouts::default().out(&SecretValue::new(b"hunter2".to_vec()), &[]).unwrap();
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

    fn handed(handouts: &Handouts, value: &[u8], parts: &[Arc<Wanted>]) -> OwnedFd {
        handouts.out(&SecretValue::new(value.to_vec()), parts).unwrap()
    }

    fn inode(fd: &OwnedFd) -> u64 {
        fstat(fd).unwrap().st_ino
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
            assert_eq!(handouts.kept().bytes, 7);
        }
    }

    #[test]
    fn no_more_is_kept_than_the_limits_allow() {
        let handouts = Handouts::default();
        for byte in 0..20 {
            handed(&handouts, &vec![byte; 1 << 20], &[]);
        }
        let count = |handouts: &Handouts| {
            let kept = handouts.kept();
            (kept.values.len(), kept.bytes)
        };
        assert_eq!(count(&handouts), (16, KEPT));
        for n in 0..200_u8 {
            handed(&handouts, &[n; 3], &[]);
        }
        assert_eq!(count(&handouts).0, KEPT_VALUES);
    }
}
