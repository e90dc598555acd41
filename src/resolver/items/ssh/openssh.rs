//! OpenSSH's own form of private keys (PROTOCOL.key in its sources), without a passphrase.

use ring::digest;
use zeroize::Zeroizing;

use super::{BadKey, Bytes, CURVES, Key, der, number, padded, point, positive};

/// The label in the first and last line of the PEM text.
pub(super) const LABEL: &str = "OPENSSH PRIVATE KEY";

const MAGIC: &[u8] = b"openssh-key-v1\0";
const ED25519: &[u8] = b"ssh-ed25519";
const RSA: &[u8] = b"ssh-rsa";
const ECDSA: &[u8] = b"ecdsa-sha2-";

pub(super) fn read(bytes: &[u8]) -> Result<Key, BadKey> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(BadKey::Form)?;
    let (cipher, _kdf, _options) = (string(&mut rest)?, string(&mut rest)?, string(&mut rest)?);
    if cipher != b"none" {
        return Err(BadKey::Passphrase);
    }
    if word(&mut rest)? != 1 {
        return Err(BadKey::Form); // several keys in one file are not supported
    }
    let (_public, mut private) = (string(&mut rest)?, string(&mut rest)?);
    if word(&mut private)? != word(&mut private)? {
        return Err(BadKey::Form);
    }
    match string(&mut private)? {
        ED25519 => {
            let public = string(&mut private)?.to_vec();
            let pair = string(&mut private)?;
            let (seed, half) = pair.split_at_checked(32).ok_or(BadKey::Form)?;
            // signing with the wrong public half would reveal the seed
            if half != public || half != der::public_half(seed)? {
                return Err(BadKey::Form);
            }
            Ok(Key::Ed25519 { seed: Zeroizing::new(seed.to_vec()), public })
        }
        RSA => {
            let mut next = || positive(string(&mut private)?);
            let (n, e, d, q_inverse, p, q) = (next()?, next()?, next()?, next()?, next()?, next()?);
            Ok(Key::Rsa { n, e, d, p, q, q_inverse })
        }
        kind if kind.starts_with(ECDSA) => {
            let name = string(&mut private)?;
            let curve = CURVES.iter().find(|c| c.name.as_bytes() == name).ok_or(BadKey::Algorithm)?;
            let point = point(curve, string(&mut private)?)?;
            let d = padded(string(&mut private)?, curve.width).ok_or(BadKey::Form)?;
            Ok(Key::Ecdsa { curve, d, point })
        }
        _ => Err(BadKey::Algorithm),
    }
}

pub(super) fn write(key: &Key) -> Bytes {
    let mut public = Out::new();
    let mut private = Out::new();
    match key {
        Key::Ed25519 { seed, public: half } => {
            public.string(ED25519).string(half);
            private.string(ED25519).string(half).string(&Zeroizing::new([seed, half.as_slice()].concat()));
        }
        Key::Rsa { n, e, d, p, q, q_inverse } => {
            public.string(RSA).number(e).number(n);
            private.string(RSA).number(n).number(e).number(d).number(q_inverse).number(p).number(q);
        }
        Key::Ecdsa { curve, d, point } => {
            let (kind, name) = ([ECDSA, curve.name.as_bytes()].concat(), curve.name.as_bytes());
            public.string(&kind).string(name).string(point);
            private.string(&kind).string(name).string(point).number(d);
        }
    }
    private.string(b""); // no comment

    // OpenSSH chooses it at random; deriving it from the public key makes the text the same for each fetch
    let check = digest::digest(&digest::SHA256, &public.0);
    let check = check.as_ref().get(..4).unwrap_or_default();
    let mut block = Out::new();
    block.raw(check).raw(check).raw(&private.0);
    for filler in (1..=7).take((8 - block.0.len() % 8) % 8) {
        block.raw(&[filler]);
    }
    let mut out = Out::new();
    out.raw(MAGIC).string(b"none").string(b"none").string(b"").raw(&[0, 0, 0, 1]);
    out.string(&public.0).string(&block.0);
    out.0
}

/// An output buffer that leaves no copy of its content when it grows.
struct Out(Bytes);

impl Out {
    fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(4096)))
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        if self.0.capacity() - self.0.len() < bytes.len() {
            let mut wider = Zeroizing::new(Vec::with_capacity(2 * (self.0.len() + bytes.len())));
            wider.extend_from_slice(&self.0);
            self.0 = wider; // this wipes the old buffer
        }
        self.0.extend_from_slice(bytes);
        self
    }

    fn string(&mut self, bytes: &[u8]) -> &mut Self {
        self.raw(&(bytes.len() as u32).to_be_bytes()).raw(bytes)
    }

    /// Writes a number. Numbers are signed here, so a leading zero byte is added if the highest bit is set.
    fn number(&mut self, bytes: &[u8]) -> &mut Self {
        let bytes = number(bytes);
        match bytes.first() {
            Some(first) if *first >= 0x80 => {
                self.raw(&(bytes.len() as u32 + 1).to_be_bytes()).raw(&[0]).raw(&bytes)
            }
            _ => self.string(&bytes),
        }
    }
}

fn word(rest: &mut &[u8]) -> Result<u32, BadKey> {
    let (word, after) = rest.split_first_chunk::<4>().ok_or(BadKey::Form)?;
    *rest = after;
    Ok(u32::from_be_bytes(*word))
}

fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadKey> {
    let length = word(rest)? as usize;
    let (text, after) = rest.split_at_checked(length).ok_or(BadKey::Form)?;
    *rest = after;
    Ok(text)
}
