//! A secret: its value, which cannot be printed or copied by accident, and its configuration.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::domain::name::{CredentialId, SecretName, SourceName};
use crate::domain::reference::Reference;
use crate::domain::unit_pattern::UnitPattern;

/// The bytes of a secret. Wiped when dropped; not `Clone`, `Display` or `Serialize`. Its `Debug` shows only
/// the length.
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// The maximum size of a value in bytes, in the protocol and the store. More than systemd accepts (1 MiB
    /// for all credentials of a unit), so that a refusal can report the size.
    pub const MAX: usize = 4 << 20;

    /// Takes over the bytes without copying them. The buffer itself is wiped later.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Every caller explains in a comment why it needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Removes the line breaks at the end.
    pub fn trimmed(self) -> Self {
        let length = trimmed(&self.0).len();
        match length == self.0.len() {
            true => self,
            false => Self::new(self.0[..length].to_vec()), // this wipes the original
        }
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value is empty, like that of an empty field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Removes all line feeds and carriage returns at the end. Spaces are kept, because they may be intended.
pub(crate) fn trimmed(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    &value[..end]
}

/// How much of the stack is wiped, in bytes: more than any computation here was seen to use.
const STACK: usize = 64 << 10;

/// Wipes what computations with values have left on this thread's stack below the current position, such as a
/// digest's block or a copied buffer. Call it from a shallow stack, before a thread sleeps.
#[inline(never)]
pub(crate) fn wipe_stack() {
    // `black_box` of a mutable reference makes the compiler write the array: a shared reference could point
    // to a constant elsewhere. The array is written in one step, which zeroize would do byte by byte
    let mut wiped = [0_u8; STACK];
    std::hint::black_box(&mut wiped);
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[secret, {} bytes]", self.len())
    }
}

/// How old a snapshot may be and still be served without a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxAge {
    /// Up to this age. Older snapshots are served after a check.
    Age(Duration),
    /// Whatever was fetched in this boot is valid for this boot and never checked.
    Session,
    /// Checked at every request.
    Always,
}

/// Which units may have a secret, and under which credential ID: one entry of its `units`.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The units, by name or glob.
    pub units: UnitPattern,
    /// The ID under which they request it.
    pub credential: CredentialId,
}

/// A file that a secret is published to, for programs that read paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// Its owner, a user's name or number.
    pub user: String,
    /// Its group, a name or number; by default the group of the user.
    pub group: Option<String>,
    /// Its permission bits, such as 0o400.
    pub mode: u32,
    /// Symbolic links to it.
    pub links: Vec<PathBuf>,
    /// Whether missing directories of links are created.
    pub make_directories: bool,
}

/// Where a value comes from and how fresh it must be: all that is needed to get it, for any unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in the configuration: of the secret, or the rule's place in its file.
    pub label: String,
    /// Its reference in 1Password.
    pub reference: Reference,
    /// The source that resolves it.
    pub source: SourceName,
    /// How old it may be.
    pub max_age: MaxAge,
    /// How long a unit may be kept waiting for it.
    pub deadline: Duration,
    /// Whether an empty value is allowed. Otherwise it is refused, because it is nearly always a mistake.
    pub allow_empty: bool,
    /// Whether line breaks at the end are removed.
    pub trim: bool,
}

impl Wanted {
    /// What identifies it: the secret's name, or source and reference if it has no name.
    pub fn identity(&self) -> String {
        match self.label.contains(['/', ':']) {
            true => format!("{} {}", self.source, self.reference),
            false => self.label.clone(),
        }
    }
}

/// What happens when a secret or template changes, and how often it is compared with 1Password to find out.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    /// How often it is compared with 1Password.
    pub refresh: Option<Duration>,
    /// Units to restart.
    pub restart_units: Vec<UnitPattern>,
    /// Units to reload.
    pub reload_units: Vec<UnitPattern>,
    /// Units to send a signal to.
    pub signal_units: Vec<(UnitPattern, Signal)>,
    /// The units that come first.
    pub wave: Option<Wave>,
}

impl Rotation {
    /// Whether any action on a unit is configured.
    pub fn names_units(&self) -> bool {
        !(self.restart_units.is_empty() && self.reload_units.is_empty() && self.signal_units.is_empty())
    }

    /// All units with a configured action.
    pub fn units(&self) -> impl Iterator<Item = &UnitPattern> {
        let signalled = self.signal_units.iter().map(|(units, _)| units);
        self.restart_units.iter().chain(&self.reload_units).chain(signalled)
    }
}

/// Units that come first. The others follow only if these are still active after a time.
#[derive(Debug, Clone)]
pub struct Wave {
    /// The units.
    pub units: Vec<UnitPattern>,
    /// How long they must be active.
    pub after: Duration,
}

/// A signal that can be sent to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(&'static str);

impl Signal {
    /// The names of all signals that can be sent: those by which services receive requests.
    pub const NAMES: [&'static str; 8] =
        ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT", "SIGTERM", "SIGCONT", "SIGWINCH"];

    /// A signal by its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|known| *known == name).map(Self)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| de::Error::custom("not a signal that can be sent"))
    }
}

/// A secret as a configuration declares it.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its name.
    pub name: SecretName,
    /// What to get, from where.
    pub wanted: Wanted,
    /// The units that may have it; if empty, no unit may.
    pub grants: Vec<Grant>,
    /// The file to publish it to, if any.
    pub target: Option<Target>,
    /// What happens when it changes.
    pub rotation: Rotation,
    /// Where it was declared, as `FILE:LINE`.
    pub declared_at: String,
}

impl Secret {
    /// The IDs under which units request it.
    pub fn ids(&self) -> Vec<CredentialId> {
        self.grants.iter().map(|grant| grant.credential.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value() {
        let value = SecretValue::new(b"hunter2".to_vec());
        assert_eq!(format!("{value:?}"), "[secret, 7 bytes]");
    }

    #[test]
    fn trimming_leaves_line_ends_at_the_end_out_and_nothing_else() {
        for (value, expected) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n\r", "a"),
            ("\n a\nb \t\n", "\n a\nb \t"),
            ("a\u{85}", "a\u{85}"),
            ("\n", ""),
            ("", ""),
        ] {
            let trimmed = SecretValue::new(value.as_bytes().to_vec()).trimmed();
            assert_eq!(trimmed.expose(), expected.as_bytes(), "{value:?}");
        }
    }

    /// Leaves something on the stack, far below the caller, and returns its address.
    #[inline(never)]
    fn leave() -> u64 {
        let mut left = [0x5a_u8; STACK / 2];
        std::hint::black_box(&mut left).as_ptr().addr() as u64
    }

    #[test]
    fn what_was_left_on_the_stack_is_wiped() {
        use std::os::unix::fs::FileExt;
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let there = |at| {
            let mut bytes = [0; 64];
            memory.read_exact_at(&mut bytes, at).unwrap();
            bytes == [0x5a; 64]
        };
        let at = leave();
        assert!(there(at), "nobody would find anything");
        let at = leave();
        wipe_stack();
        assert!(!there(at));
    }
}
