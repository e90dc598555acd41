//! SSH private keys: reads any common form, and writes PKCS#8 or OpenSSH's own form.
//!
//! Supports ed25519, RSA and ECDSA keys without a passphrase. Every intermediate buffer is wiped.

mod der;
mod openssh;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// Why a text cannot be converted as a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKey {
    /// It is damaged, or has an unknown form.
    #[error("it is not a private key in PKCS#8, PKCS#1, SEC 1 or OpenSSH's form")]
    Form,
    /// It has a passphrase.
    #[error("the key has a passphrase")]
    Passphrase,
    /// Its algorithm or curve is not supported.
    #[error("the key's algorithm is not ed25519, RSA or ECDSA")]
    Algorithm,
    /// It is an ECDSA key without its public key.
    #[error("the key does not include its public half")]
    PublicHalf,
}

/// Bytes that are wiped when dropped.
type Bytes = Zeroizing<Vec<u8>>;

/// A private key. Numbers are unsigned and big-endian, without leading zeros unless a width is given.
enum Key {
    Ed25519 { seed: Bytes, public: Vec<u8> },
    Rsa { n: Bytes, e: Bytes, d: Bytes, p: Bytes, q: Bytes, q_inverse: Bytes },
    Ecdsa { curve: &'static Curve, d: Bytes, point: Vec<u8> },
}

/// A curve of ECDSA.
struct Curve {
    name: &'static str,
    oid: pkcs8::ObjectIdentifier,
    /// The width of private numbers in bytes.
    width: usize,
}

static CURVES: [Curve; 3] = [
    Curve { name: "nistp256", oid: pkcs8::ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), width: 32 },
    Curve { name: "nistp384", oid: pkcs8::ObjectIdentifier::new_unwrap("1.3.132.0.34"), width: 48 },
    Curve { name: "nistp521", oid: pkcs8::ObjectIdentifier::new_unwrap("1.3.132.0.35"), width: 66 },
];

/// The key as PKCS#8 in PEM. Returned unchanged if it already has this form.
pub(crate) fn to_pkcs8(text: &str) -> Result<Zeroizing<String>, BadKey> {
    let (label, _) = read_pem(text)?;
    if label == "PRIVATE KEY" {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    Ok(write_pem("PRIVATE KEY", &der::to_pkcs8(&read(text)?)?, 64))
}

/// The key in OpenSSH's own form.
pub(crate) fn to_openssh(text: &str) -> Result<Zeroizing<String>, BadKey> {
    let (label, _) = read_pem(text)?;
    if label == openssh::LABEL {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    Ok(write_pem(openssh::LABEL, &openssh::write(&read(text)?), 70))
}

fn read(text: &str) -> Result<Key, BadKey> {
    let (label, bytes) = read_pem(text)?;
    match label {
        "PRIVATE KEY" => der::from_pkcs8(&bytes),
        "RSA PRIVATE KEY" => der::from_pkcs1(&bytes),
        "EC PRIVATE KEY" => der::from_sec1(&bytes, None),
        openssh::LABEL => openssh::read(&bytes),
        "ENCRYPTED PRIVATE KEY" => Err(BadKey::Passphrase),
        _ => Err(BadKey::Form),
    }
}

/// The label and the bytes of a PEM text with lines of any length.
fn read_pem(text: &str) -> Result<(&str, Bytes), BadKey> {
    let inner = text.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"));
    let (label, rest) = inner.ok_or(BadKey::Form)?;
    let (body, end) = rest.split_once("-----END ").ok_or(BadKey::Form)?;
    if end.strip_suffix("-----") != Some(label) {
        return Err(BadKey::Form);
    }
    if body.contains("ENCRYPTED") {
        return Err(BadKey::Passphrase); // a header of traditional PEM, which only keys with a passphrase have
    }
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let bytes = Base64::decode_vec(&base64).map_err(|_| BadKey::Form)?;
    Ok((label, Zeroizing::new(bytes)))
}

fn write_pem(label: &str, bytes: &[u8], width: usize) -> Zeroizing<String> {
    let base64 = Zeroizing::new(Base64::encode_string(bytes));
    // never grows, because growing would leave a copy
    let room = base64.len() + base64.len() / width + 2 * label.len() + 64;
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(width.min(rest.len()));
        text.extend([line, "\n"]);
        rest = after;
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

/// A number without its leading zeros.
fn number(bytes: &[u8]) -> Bytes {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    Zeroizing::new(bytes[zeros..].to_vec())
}

/// A number of an RSA key, which must not be zero: neither form could represent it.
fn positive(bytes: &[u8]) -> Result<Bytes, BadKey> {
    Some(number(bytes)).filter(|number| !number.is_empty()).ok_or(BadKey::Form)
}

/// The public half of an ECDSA key, if it is uncompressed, the form that OpenSSH uses.
fn point(curve: &Curve, bytes: &[u8]) -> Result<Vec<u8>, BadKey> {
    let whole = bytes.len() == 1 + 2 * curve.width && bytes.first() == Some(&4);
    if whole { Ok(bytes.to_vec()) } else { Err(BadKey::PublicHalf) }
}

/// Adds leading zeros up to a width, if the number fits.
fn padded(bytes: &[u8], width: usize) -> Option<Bytes> {
    let bytes = number(bytes);
    let mut wide = Zeroizing::new(vec![0; width.checked_sub(bytes.len())?]);
    wide.reserve_exact(bytes.len());
    wide.extend_from_slice(&bytes);
    Some(wide)
}

#[cfg(test)]
mod tests;
