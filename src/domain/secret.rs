//! A secret: its value, which cannot be printed or copied by accident, and its configuration.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::domain::name::{CredentialId, SecretName, SourceName};
use crate::domain::reference::Reference;
use crate::domain::unit_pattern::UnitPattern;

/// The bytes of a secret. Wiped when dropped; not `Clone`, not `Display`, not `Serialize`; its `Debug` shows the length alone.
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// The most bytes that one value may have, on its way from the resolver and in the store.
    /// More than systemd takes (1 MiB for all credentials of a unit), so that the refusal can name the size.
    pub const MAX: usize = 4 << 20;

    /// Takes bytes over. They are not copied: the buffer itself is wiped later.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Every caller says in a comment why it has to see them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The same without the line ends at its end.
    pub fn trimmed(self) -> Self {
        let length = trimmed(&self.0).len();
        match length == self.0.len() {
            true => self,
            false => Self::new(self.0[..length].to_vec()), // what it was is wiped
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value is the empty string, as an empty field's is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Bytes without the line feeds and carriage returns at their end, however many there are. Spaces stay: they can be meant.
pub(crate) fn trimmed(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    &value[..end]
}

/// How much of the stack is wiped: more than anything here has ever been seen to need.
const STACK: usize = 64 << 10;

/// Wipes what has been computed with values and left on this thread's stack, below where it stands now: a digest's block, a copied buffer. To be
/// called where the stack is shallow, before a thread goes to sleep.
#[inline(never)]
pub(crate) fn wipe_stack() {
    // written, since for all that the compiler knows somebody looks at it and changes it: a reference that does not allow that would be to a
    // constant, which is elsewhere. And at once, which zeroize would do byte by byte
    let mut wiped = [0_u8; STACK];
    std::hint::black_box(&mut wiped);
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[secret, {} bytes]", self.len())
    }
}

/// How old a snapshot may be and still be served without a look at 1Password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxAge {
    /// Up to this age; then one check of versions comes first.
    Age(Duration),
    /// What was fetched this boot is good for this boot: never checked.
    Session,
    /// Checked at every request.
    Always,
}

/// Who may have a secret, and under which credential ID: one entry of its `units`.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The units, by name or glob.
    pub units: UnitPattern,
    /// The ID under which they ask.
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
    /// Whether directories of links are made where they are missing.
    pub make_directories: bool,
}

/// Where a value comes from and how fresh it must be: all that is needed to get it, for any unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What the configuration calls it: a secret's name, or the rule's place in its file.
    pub label: String,
    /// What it is in 1Password.
    pub reference: Reference,
    /// Which source resolves it.
    pub source: SourceName,
    /// How old it may be.
    pub max_age: MaxAge,
    /// How long a unit may be kept waiting for it.
    pub deadline: Duration,
    /// Whether an empty value is allowed. Otherwise it is refused, since it is nearly always a mistake.
    pub allow_empty: bool,
    /// Whether the line ends at its end are left out.
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
    /// Whether anything is done to a unit.
    pub fn names_units(&self) -> bool {
        !(self.restart_units.is_empty() && self.reload_units.is_empty() && self.signal_units.is_empty())
    }

    /// All units to which something is done.
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

/// A signal that a unit can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(&'static str);

impl Signal {
    /// The names of all signals that can be sent: those by which services are asked for something.
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
    /// The IDs by which units ask for it.
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
