//! Files of items: their attributes in the item, and their encrypted contents.

use serde_json::{Value, json};

use super::envelope::{Key, base64url, encrypt};
use super::keys::{id, jwk};
use super::srp::hash;
use crate::fake::state::Data;
use crate::fake::vault::{content, items};

/// How to find, check and decrypt a file.
pub(super) fn attributes(file: &Value) -> Value {
    let content = content(file);
    let (key, nonce) = secret(file);
    let size = content.len();
    let encrypted = encrypt(&key, nonce, content);
    let key = |what: &[u8], key: &Key| {
        jwk(&id(&hash(&[what, file["id"].as_str().unwrap_or_default().as_bytes()])), key)
    };
    let mut signing = key(b"signing key of file ", &[1; 32]);
    signing["alg"] = json!("HS256");
    signing["key_ops"] = json!(["sign", "verify"]);
    json!({ "documentId": file["id"], "fileName": file["name"], "unencryptedSize": size, "encryptedSize": encrypted.len(),
        "integrityHash": base64url(&hash(&[&encrypted])), "nonce": base64url(&nonce),
        "encryptionKey": key(b"key of file ", &secret(file).0), "signingKey": signing })
}

/// The content of a file in a vault that the account may access.
pub(super) fn encrypted(data: &Data, id: &str) -> Option<Vec<u8>> {
    let items = data.within().flat_map(items);
    let file = items
        .flat_map(|item| item["files"].as_array().into_iter().flatten())
        .find(|file| file["id"] == id)?;
    let (key, nonce) = secret(file);
    Some(encrypt(&key, nonce, content(file)))
}

/// Derived from the ID and content of the file, so that each key encrypts only one content.
fn secret(file: &Value) -> (Key, [u8; 12]) {
    let named = file["id"].as_str().unwrap_or_default().as_bytes();
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&hash(&[b"nonce of file ", named, &content(file)])[..12]);
    (hash(&[b"key of file ", named, &content(file)]), nonce)
}
