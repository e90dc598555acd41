//! Encrypted JSON as exchanged between the service and its clients: AES-256-GCM, with everything in
//! base64url.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

/// A key for AES-256-GCM.
pub(super) type Key = [u8; 32];

pub(super) fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn from_base64url(text: &Value) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text.as_str()?).ok()
}

/// Encrypts JSON with the key that `kid` names.
pub(super) fn seal(kid: &str, key: &Key, content: &Value) -> Value {
    let nonce = random();
    let data = encrypt(key, nonce, content.to_string().into_bytes());
    json!({ "kid": kid, "enc": "A256GCM", "cty": "b5+jwk+json", "iv": base64url(&nonce), "data": base64url(&data) })
}

/// Decrypts an envelope.
pub(super) fn open(key: &Key, envelope: &[u8]) -> Option<Value> {
    let envelope: Value = serde_json::from_slice(envelope).ok()?;
    let nonce = from_base64url(&envelope["iv"])?.try_into().ok()?;
    let mut data = from_base64url(&envelope["data"])?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    serde_json::from_slice(cipher(key).open_in_place(nonce, Aad::empty(), &mut data).ok()?).ok()
}

pub(super) fn encrypt(key: &Key, nonce: [u8; 12], mut data: Vec<u8>) -> Vec<u8> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher(key).seal_in_place_append_tag(nonce, Aad::empty(), &mut data).expect("AES-GCM encrypts");
    data
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::{open, seal};
    use serde_json::json;

    #[test]
    fn an_envelope_opens_with_its_key_only() {
        let content = json!({ "a": [1, "é"] });
        let sealed = seal("kid", &[7; 32], &content).to_string();
        assert_eq!(open(&[7; 32], sealed.as_bytes()), Some(content));
        assert_eq!(open(&[8; 32], sealed.as_bytes()), None);
    }
}
