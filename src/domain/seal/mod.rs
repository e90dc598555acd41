//! Encrypts a value in the format of systemd-creds, with the host key and bound to a credential ID. Pure, no
//! I/O.
//!
//! The result is authenticated: `LoadCredentialEncrypted=` accepts all of it under the right ID, or nothing.
//! So an answer that is empty, truncated or for another credential cannot start a unit.
//!
//! | bytes | content | |---|---|
//! | 16 | the type of key: the host's |
//! | 4 × 4 | sizes of key, block, nonce and tag, little endian |
//! | 12, then 4 zeros | the nonce; the header up to here is authenticated, but not encrypted |
//! | 8 + 8 + 4 | encrypted from here on: time of encryption and time of expiry, both in µs since the epoch, and the length of the ID |
//! | | the ID, padded with zeros so that these four together are a multiple of 8 bytes |
//! | | the value |
//! | 16 | the tag |
//!
//! The whole is encoded in base64 without line breaks. [`key_file`] checks the file of the key.

pub mod key_file;

use base64ct::{Base64, Encoding};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroize;

use crate::domain::name::CredentialId;
use crate::domain::secret::SecretValue;

/// systemd's ID of the type of key: the key of this host.
const BY_HOST: [u8; 16] =
    [0x5a, 0x1c, 0x6a, 0x86, 0xdf, 0x9d, 0x40, 0x96, 0xb1, 0xd5, 0xa6, 0x5e, 0x08, 0x62, 0xf1, 0x9a];
/// The length of the machine ID before the key in its file.
const MACHINE_ID: usize = 16;
/// The maximum size of a host key file, as in systemd: 4 KiB of key.
pub const FILE_MAX: usize = MACHINE_ID + 4096;
const HEADER: usize = 48;
const TAG: usize = 16;
/// No expiry: systemd's USEC_INFINITY. A blob is made for one request, so it need not expire.
const NEVER: u64 = u64::MAX;
/// The maximum number of bytes of base64 that systemd 252 reads as an encrypted credential
/// (CREDENTIAL_ENCRYPTED_SIZE_MAX). Later versions read more.
const SYSTEMD_READS: usize = (1 << 20) + (128 << 10);

/// The key with which this host encrypts credentials. The allocator wipes it when it is dropped.
pub struct HostKey(Box<LessSafeKey>);

/// The file does not contain a host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has {0} bytes, and a host key has 17 to {FILE_MAX}")]
pub struct NoKey(pub usize);

impl HostKey {
    /// Takes the key from the content of its file (`credential.secret`).
    pub fn parse(file: &[u8]) -> Result<Self, NoKey> {
        if file.len() <= MACHINE_ID || file.len() > FILE_MAX {
            return Err(NoKey(file.len()));
        }
        let key = digest(&SHA256, &file[MACHINE_ID..]);
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| NoKey(file.len()))?;
        Ok(Self(Box::new(LessSafeKey::new(key))))
    }

    /// Encrypts a value for units that request it under this ID, in base64.
    ///
    /// # Errors
    ///
    /// The kernel returns no random numbers.
    pub fn seal(
        &self,
        id: &CredentialId,
        value: &SecretValue,
        sealed_at: u64,
    ) -> Result<SecretValue, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce)?;
        let mut blob = Vec::with_capacity(size(id, value.len()));
        blob.extend_from_slice(&BY_HOST);
        for size in [32_u32, 1, NONCE_LEN as u32, TAG as u32] {
            blob.extend_from_slice(&size.to_le_bytes());
        }
        blob.extend_from_slice(&nonce);
        blob.resize(HEADER, 0);
        for time in [sealed_at.saturating_mul(1_000_000), NEVER] {
            blob.extend_from_slice(&time.to_le_bytes());
        }
        // an ID has at most 255 bytes
        blob.extend_from_slice(&(id.as_str().len() as u32).to_le_bytes());
        blob.extend_from_slice(id.as_str().as_bytes());
        blob.resize(HEADER + about(id), 0);
        // exposed: it is encrypted in place; the buffer is large enough, so no copy remains
        blob.extend_from_slice(value.expose());
        let (header, secret) = blob.split_at_mut(HEADER);
        let tag = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&header),
            secret,
        );
        match tag {
            Ok(tag) => blob.extend_from_slice(tag.as_ref()),
            Err(error) => {
                blob.zeroize();
                return Err(error);
            }
        }
        Ok(SecretValue::new(Base64::encode_string(&blob).into_bytes()))
    }
}

/// The largest value in bytes that systemd accepts encrypted under this ID.
pub fn largest(id: &CredentialId) -> usize {
    SYSTEMD_READS / 4 * 3 - size(id, 0)
}

/// The size of the blob for a value of this size.
fn size(id: &CredentialId, value: usize) -> usize {
    HEADER + about(id) + value + TAG
}

/// The size of the data before the value.
fn about(id: &CredentialId) -> usize {
    (8 + 8 + 4 + id.as_str().len()).next_multiple_of(8)
}

#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/rules/seal.rs"]
pub(crate) mod fuzz;
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/rules/seal_oracle.rs"]
mod oracle;
#[cfg(test)]
mod tests;
