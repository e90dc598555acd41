//! The identity and keys of the account, all derived from its name: two fakes with the same name accept the
//! same token.

use std::sync::LazyLock;

use rsa::{BoxedUint, PublicKey};
use serde_json::{Value, json};
use sha1::Sha1;

use super::envelope::{Key, base64url, from_base64url, seal};
use super::srp::{Identity, hash, hex};

/// The RSA key as a JWK. Generating one takes seconds, and this one need not be secret.
const RSA: &str = include_str!("../../fixtures/account-key.json");
const ITERATIONS: u32 = 650_000;
const OPERATIONS: [&str; 2] = ["encrypt", "decrypt"];

static PRIVATE: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(RSA).expect("the key is JSON"));
static PUBLIC: LazyLock<PublicKey> = LazyLock::new(|| {
    let number = |name: &str| {
        let bytes = from_base64url(&PRIVATE[name]).expect("the key is in base64url");
        BoxedUint::from_be_slice_vartime(&bytes)
    };
    PublicKey::new(number("n"), number("e")).expect("the key is an RSA key")
});

/// One account.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    name: String,
    pub(super) email: String,
    pub(super) key_id: String,
    salt: [u8; 16],
    x: Key,
    /// The key that decrypts the keyset; it is in the token.
    unlock: Key,
}

impl Keys {
    pub(super) fn of(name: &str) -> Keys {
        let made = |what: &str| hash(&[what.as_bytes(), b" of ", name.as_bytes()]);
        let letters: String = id(&made("email"))[..13].to_owned();
        let mut salt = [0; 16];
        salt.copy_from_slice(&made("salt")[..16]);
        Keys {
            name: name.to_owned(),
            email: format!("{letters}@1passwordserviceaccounts.com"),
            key_id: unmistakable(&id(&made("secret key"))[..6]),
            salt,
            x: made("exponent"),
            unlock: made("unlock key"),
        }
    }

    pub(super) fn identity(&self) -> Identity<'_> {
        Identity { email: &self.email, key_id: &self.key_id, salt: &self.salt, x: &self.x }
    }

    /// How a client must log in.
    pub(super) fn method(&self) -> Value {
        json!({ "method": "SRPg-4096", "alg": "PBES2g-HS256", "iterations": ITERATIONS, "salt": base64url(&self.salt) })
    }

    pub(super) fn id(&self, what: &str) -> String {
        id(&self.made(what))
    }

    fn made(&self, what: &str) -> Key {
        hash(&[what.as_bytes(), b" of ", self.name.as_bytes()])
    }

    /// `ops_…`
    pub(super) fn token(&self, url: &str) -> String {
        let rest = unmistakable(&self.id("rest of the secret key"));
        let groups: Vec<&str> =
            [0, 6, 11, 16, 21, 26].windows(2).map(|ends| &rest[ends[0]..ends[1]]).collect();
        let secret_key = format!("A3-{}-{}", self.key_id, groups.join("-"));
        let mut unlock = jwk("mp", &self.unlock);
        unlock["key_ops"] = json!(OPERATIONS);
        let token = json!({
            "signInAddress": url, "userAuth": self.method(), "email": self.email, "srpX": hex(&self.x), "muk": unlock,
            "secretKey": secret_key, "deviceUuid": self.id("device"),
            "throttleSecret": { "seed": hex(&self.made("throttle seed")), "uuid": self.id("throttle") },
        });
        format!("ops_{}", base64url(token.to_string().as_bytes()))
    }

    /// The keys that the token's key decrypts, nested.
    pub(super) fn keyset(&self) -> Value {
        let (id, symmetric) = (self.id("keyset"), self.made("symmetric key"));
        let named = |mut key: Value, kid: &str| {
            key["kid"] = json!(kid);
            key
        };
        let mut sealed = seal("mp", &self.unlock, &jwk(&id, &symmetric));
        sealed["alg"] = json!("PBES2g-HS256");
        sealed["p2c"] = json!(ITERATIONS);
        sealed["p2s"] = json!(base64url(&self.salt));
        let public = json!({ "kid": id, "kty": "RSA", "alg": "RSA-OAEP", "ext": true, "key_ops": ["encrypt"],
            "n": PRIVATE["n"], "e": PRIVATE["e"] });
        json!({ "uuid": id, "encryptedBy": "mp", "sn": 1, "encSymKey": sealed,
            "encPriKey": seal(&id, &symmetric, &named(PRIVATE.clone(), &id)), "pubKey": public,
            "encSPriKey": null, "spubKey": null })
    }

    /// A vault's key, encrypted for the account.
    pub(super) fn wrapped(&self, vault: &VaultKey) -> Value {
        let key = jwk(&vault.id, &vault.key).to_string();
        let data = PUBLIC.oaep_encrypt::<Sha1>(key.as_bytes()).expect("a JWK is short enough for RSA-OAEP");
        json!({ "kid": self.id("keyset"), "enc": "RSA-OAEP", "cty": "b5+jwk+json", "data": base64url(&data) })
    }
}

/// The key of one vault.
pub(super) struct VaultKey {
    pub(super) id: String,
    pub(super) key: Key,
}

impl VaultKey {
    pub(super) fn of(vault: &Value) -> VaultKey {
        let made = |what: &str| hash(&[what.as_bytes(), vault["id"].as_str().unwrap_or_default().as_bytes()]);
        VaultKey { id: id(&made("id of the key of vault ")), key: made("key of vault ") }
    }

    pub(super) fn seal(&self, content: &Value) -> Value {
        seal(&self.id, &self.key, content)
    }
}

/// A key as JSON.
pub(super) fn jwk(id: &str, key: &Key) -> Value {
    json!({ "kid": id, "kty": "oct", "alg": "A256GCM", "ext": true, "key_ops": OPERATIONS, "k": base64url(key) })
}

/// Converts to the alphabet of secret keys, in which no letter looks like another or like a digit.
fn unmistakable(text: &str) -> String {
    text.to_uppercase().replace('I', "8").replace('O', "9").replace('U', "V")
}

/// 26 letters and digits: base32 of 16 bytes.
pub(super) fn id(bytes: &[u8]) -> String {
    let letters = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut number = bytes.iter().take(16).fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    // 128 bits are 25 letters of five bits, and one letter with the remaining three bits above two zeros.
    let mut text = vec![letters[((number & 7) << 2) as usize]];
    number >>= 3;
    for _ in 0..25 {
        text.push(letters[(number & 31) as usize]);
        number >>= 5;
    }
    text.iter().rev().map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Keys, from_base64url, id};
    use serde_json::Value;

    #[test]
    fn ids_are_base32() {
        assert_eq!(id(&[0; 16]), "aaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(id(&[255; 16]), "77777777777777777777777774");
        assert_eq!(id(b"0123456789abcdef"), "gaytemzugu3doobzmfrggzdfmy");
    }

    #[test]
    fn a_name_makes_one_token() {
        let token = Keys::of("one").token("http://127.0.0.1:1");
        assert_eq!(token, Keys::of("one").token("http://127.0.0.1:1"));
        assert_ne!(token, Keys::of("two").token("http://127.0.0.1:1"));
        let decoded = from_base64url(&Value::from(token.strip_prefix("ops_").unwrap())).unwrap();
        let decoded: Value = serde_json::from_slice(&decoded).unwrap();
        assert_eq!(decoded["signInAddress"], "http://127.0.0.1:1");
    }
}
