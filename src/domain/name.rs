//! Types for names: of units, credential IDs, secrets and sources. Also parses the two places that name the unit of a peer.
//!
//! Parsers accept any text, and return a name or a [`BadName`]. They never panic.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {why}")]
pub struct BadName {
    /// The expected type of name ("unit name", "credential ID").
    pub kind: &'static str,
    /// The text, shortened to a length suitable for a message.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

fn bad<T>(kind: &'static str, text: &str, why: &'static str) -> Result<T, BadName> {
    let text = text.chars().take(80).collect();
    Err(BadName { kind, text, why })
}

/// The unit types of systemd, which unit names end with.
const UNIT_TYPES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "device",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "slice",
    "scope",
];

/// Whether systemd allows a character in unit names (VALID_CHARS in its unit-name.c, and `@`).
fn unit_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || ":-_.\\@".contains(c)
}

/// The name of a systemd unit as the manager writes it: escaped and with its type (`app@a\x2fb.service`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitName(Box<str>);

impl UnitName {
    /// The maximum length of a unit name in bytes (UNIT_NAME_MAX).
    pub const MAX: usize = 255;

    /// Parses a complete unit name with its type.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        const KIND: &str = "unit name";
        if text.len() > Self::MAX {
            return bad(KIND, text, "it is longer than 255 bytes");
        }
        if !text.chars().all(unit_char) {
            return bad(KIND, text, "it may contain only letters, digits and any of :-_.\\@");
        }
        match text.rsplit_once('.') {
            Some((stem, kind)) if UNIT_TYPES.contains(&kind) => {
                if stem.is_empty() || stem.starts_with('@') {
                    return bad(KIND, text, "a name must precede its type or its @");
                }
                Ok(Self(text.into()))
            }
            _ => bad(KIND, text, "it does not end in a unit type such as .service"),
        }
    }

    /// Parses a unit name as people write it: adds `.service` if it has no type.
    pub fn parse_lenient(text: &str) -> Result<Self, BadName> {
        if has_unit_type(text) { Self::parse(text) } else { Self::parse(&format!("{text}.service")) }
    }

    /// The complete name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(stem, _)| stem)
    }

    /// The unit type, such as `service`.
    pub fn suffix(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, suffix)| suffix)
    }

    /// The part before the `@`, or the name without its type (`%p`).
    pub fn prefix(&self) -> &str {
        self.stem().split_once('@').map_or(self.stem(), |(prefix, _)| prefix)
    }

    /// The escaped part after the `@` (`%i`); `None` if the unit is not an instance.
    pub fn instance(&self) -> Option<&str> {
        self.stem().split_once('@').map(|(_, instance)| instance).filter(|i| !i.is_empty())
    }

    /// The name of the template that this unit is an instance of (`app@.service`).
    pub fn template(&self) -> Option<String> {
        let kind = self.0.rsplit_once('.')?.1;
        self.instance().map(|_| format!("{}@.{kind}", self.prefix()))
    }
}

/// Whether a text ends with a unit type (`.service`, `.mount`, …).
pub(crate) fn has_unit_type(text: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(_, kind)| UNIT_TYPES.contains(&kind))
}

/// Reverses systemd's escaping of a name (`\x2f` → `/`, `-` → `/`), as `%I` does. `None` if the escaping is invalid or the result is not
/// UTF-8.
pub fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'-' => out.push(b'/'),
            b'\\' => {
                let (code, tail) = rest.split_at_checked(3)?;
                let digits = std::str::from_utf8(code.strip_prefix(b"x")?).ok()?;
                if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                out.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// The ID under which a unit requests a credential: the part before the `:` in `LoadCredential=ID:PATH`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct CredentialId(Box<str>);

impl CredentialId {
    /// Parses an ID by systemd's rule (credential_name_valid): a file name without `:`, control or non-ASCII characters, of at most 255
    /// bytes.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        const KIND: &str = "credential ID";
        match text {
            "" => bad(KIND, text, "it is empty"),
            "." | ".." => bad(KIND, text, "it is not a valid file name"),
            _ if text.len() > 255 => bad(KIND, text, "it is longer than 255 bytes"),
            _ if !text.chars().all(|c| (' '..='~').contains(&c) && c != '/' && c != ':') => {
                bad(KIND, text, "it may contain only printable ASCII characters except / and :")
            }
            _ => Ok(Self(text.into())),
        }
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a secret. It is also the credential ID under which its units request it, unless they specify another.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName(Box<str>);

impl SecretName {
    /// Parses the name of a secret: at most 128 letters, digits and any of `._@-`. The first character is a letter, a digit or `_`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        plain(text, "secret name").map(Self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The credential ID under which a unit requests it, unless its entry specifies another.
    pub fn to_credential(&self) -> CredentialId {
        CredentialId(self.0.clone())
    }
}

/// The name of a source (an account, a Connect server or a file).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SourceName(Box<str>);

impl SourceName {
    /// Parses the name of a source: the same characters as in the name of a secret.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        plain(text, "source name").map(Self)
    }

    /// The name of the single source that a `source` key describes.
    pub fn default_source() -> Self {
        Self("default".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CredentialId {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

impl TryFrom<String> for SourceName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

fn plain(text: &str, kind: &'static str) -> Result<Box<str>, BadName> {
    let Some(first) = text.chars().next() else { return bad(kind, text, "it is empty") };
    if text.len() > 128 {
        return bad(kind, text, "it is longer than 128 bytes");
    }
    if !(first.is_ascii_alphanumeric() || first == '_') {
        return bad(kind, text, "it does not begin with a letter, a digit or _");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "._@-".contains(c)) {
        return bad(kind, text, "it may contain only letters, digits and any of ._@-");
    }
    Ok(text.into())
}

macro_rules! shown {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:?}", &*self.0) }
        }
    )*};
}
shown!(UnitName CredentialId SecretName SourceName);

/// The claim in a client's socket address: `<random hex>/unit/<unit>/<id>`, the name that systemd binds before it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The unit that claims to ask.
    pub unit: UnitName,
    /// The credential that it requests.
    pub credential: CredentialId,
}

impl Claim {
    /// The maximum length of unit and ID together in bytes: what fits an abstract address (systemd #36709; measured).
    pub const MAX: usize = 83;

    /// Parses an abstract address without its leading NUL. `None` if it is not a request for a credential.
    pub fn parse(address: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(address).ok()?;
        let (random, rest) = text.split_once('/')?;
        if random.is_empty() || random.len() > 16 || !random.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let (unit, credential) = rest.strip_prefix("unit/")?.split_once('/')?;
        Some(Self { unit: UnitName::parse(unit).ok()?, credential: CredentialId::parse(credential).ok()? })
    }
}

/// The unit of a process by its `/proc/PID/cgroup` file: the first component of the path that is not a slice.
///
/// A component may have one leading `_`, which systemd adds to avoid conflicts with the files of a cgroup. `None` on cgroup v1 and for
/// processes outside any unit. `manager` is the path of the manager's own cgroup: empty for PID 1.
pub fn unit_of_cgroup(file: &str, manager: &str) -> Option<UnitName> {
    let path = file.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = path.trim_start_matches("/..").strip_prefix(manager)?;
    if !path.starts_with('/') {
        return None; // `/..name`, or a sibling whose name begins like the manager's
    }
    let component = path.split('/').filter(|c| !c.is_empty()).find(|c| !c.ends_with(".slice"))?;
    UnitName::parse(component.strip_prefix('_').unwrap_or(component)).ok()
}

#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/rules/name.rs"]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests;
