//! Keyed digests of values. They show whether two values are equal, even after a restart of the provider and
//! without keeping the values.

use std::fmt;
use std::sync::Arc;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::secret::SecretValue;

/// The length of a digest in bytes.
const LENGTH: usize = 16;
/// The length of the key in bytes.
const KEY: usize = 32;

/// A digest of a value. Within one store, equal digests mean equal values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; LENGTH]);

impl Digest {
    /// The digest of all one-time passwords, whose changes are not reported.
    pub(super) const OF_A_CODE: Self = Self([0; LENGTH]);

    #[cfg(test)]
    pub(crate) fn testing(byte: u8) -> Self {
        Self([byte; LENGTH])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = unhex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("not a digest"))
    }
}

/// The key of a store's digests.
#[derive(Clone)]
pub(super) struct DigestKey {
    bytes: [u8; KEY],
    key: Arc<hmac::Key>,
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey")
    }
}

impl Default for DigestKey {
    fn default() -> Self {
        Self::random()
    }
}

impl DigestKey {
    fn of(bytes: [u8; KEY]) -> Self {
        Self { bytes, key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes)) }
    }

    /// Generates a key.
    pub(super) fn random() -> Self {
        let mut bytes = [0; KEY];
        // getrandom(2) does not fail for 32 bytes; with an equal key, digests of several machines could be
        // compared, nothing worse
        let _ = SystemRandom::new().fill(&mut bytes);
        Self::of(bytes)
    }

    /// Parses a key.
    pub(super) fn parse(text: &str) -> Option<Self> {
        unhex(text)?.try_into().ok().map(Self::of)
    }

    /// The key as text for the store.
    pub(super) fn text(&self) -> String {
        hex(&self.bytes)
    }

    /// An opaque number for a name, which is stable as long as the key is.
    pub(super) fn number(&self, name: &str) -> u64 {
        let tag = hmac::sign(&self.key, format!("asker {name}").as_bytes());
        tag.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The digest of a value.
    pub(super) fn digest(&self, value: &SecretValue) -> Digest {
        // exposed: only to compute the digest
        let tag = hmac::sign(&self.key, value.expose());
        let mut digest = [0; LENGTH];
        digest.copy_from_slice(&tag.as_ref()[..LENGTH]);
        Digest(digest)
    }
}

/// Formats bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.into())
    }

    #[test]
    fn digests_of_one_key_show_which_values_are_equal() {
        let key = DigestKey::random();
        let same = DigestKey::parse(&key.text()).unwrap();
        assert_eq!(key.digest(&value("a")), same.digest(&value("a")));
        assert_ne!(key.digest(&value("a")), key.digest(&value("b")));
        assert_ne!(key.digest(&value("a")), DigestKey::random().digest(&value("a")), "the key counts");
        let digest = key.digest(&value("a"));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        for wrong in ["\"\"", "\"zz\"", "\"0\"", "\"00\"", "7"] {
            assert!(serde_json::from_str::<Digest>(wrong).is_err(), "{wrong}");
        }
        assert!(DigestKey::parse("").is_none() && DigestKey::parse("00").is_none());
        assert!(!format!("{key:?}").contains(&key.text()[..4]));
    }
}
