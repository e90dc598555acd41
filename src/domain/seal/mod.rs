//! Sealing: a value in the form of systemd-creds, encrypted with the host key, its credential's ID inside. Pure, without I/O.
//!
//! What is sealed is authenticated: `LoadCredentialEncrypted=` takes all of it, under the ID that it was sealed for, or nothing. So an answer
//! that is empty, cut or another's can't start a unit.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | the kind of key: the host's |
//! | 4 × 4 | sizes of key, block, nonce and tag, little endian |
//! | 12, then 4 zeros | the nonce; the header up to here is authenticated as it is |
//! | 8 + 8 + 4 | encrypted from here on: when it was sealed, until when it is good, both in µs of the epoch, and the length of the ID |
//! | | the ID, with zeros to a multiple of 8 for these four together |
//! | | the value |
//! | 16 | the tag |
//!
//! On the wire it is base64, without line breaks.

use base64ct::{Base64, Encoding};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroize;

use crate::domain::name::CredentialId;
use crate::domain::secret::SecretValue;

/// The kind of key, as systemd numbers them: the key of this host.
const BY_HOST: [u8; 16] =
    [0x5a, 0x1c, 0x6a, 0x86, 0xdf, 0x9d, 0x40, 0x96, 0xb1, 0xd5, 0xa6, 0x5e, 0x08, 0x62, 0xf1, 0x9a];
/// Before the key in its file: an ID of the machine that it was made on.
const MACHINE_ID: usize = 16;
/// The largest file of a host key, as systemd has it: 4 KiB of key.
pub const FILE_MAX: usize = MACHINE_ID + 4096;
const HEADER: usize = 48;
const TAG: usize = 16;
/// No date: systemd's USEC_INFINITY. A blob is made for the request that it answers, so there is nothing for time to end.
const NEVER: u64 = u64::MAX;
/// The most bytes of base64 that systemd 252 reads as an encrypted credential (CREDENTIAL_ENCRYPTED_SIZE_MAX); later ones read more.
const SYSTEMD_READS: usize = (1 << 20) + (128 << 10);

/// What this host encrypts credentials with. Wiped when dropped, by the allocator.
pub struct HostKey(Box<LessSafeKey>);

/// The file has no host key in it.
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

    /// Seals a value for the units that ask for it by this ID, in base64.
    ///
    /// # Errors
    /// Where the kernel gives no random numbers.
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
        // an ID has 255 bytes at the most
        blob.extend_from_slice(&(id.as_str().len() as u32).to_le_bytes());
        blob.extend_from_slice(id.as_str().as_bytes());
        blob.resize(HEADER + about(id), 0);
        // exposed: to be encrypted in place; the buffer was made large enough, so no copy of it stays behind
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

/// The largest value that systemd takes sealed for this ID, in bytes.
pub fn largest(id: &CredentialId) -> usize {
    SYSTEMD_READS / 4 * 3 - size(id, 0)
}

/// How large the blob of a value of this size is.
fn size(id: &CredentialId, value: usize) -> usize {
    HEADER + about(id) + value + TAG
}

/// How much is said of the value before it.
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
