//! Keys in DER: PKCS#8 and the forms that it contains (PKCS#1 for RSA, SEC 1 for ECDSA).

use pkcs1::{RsaPrivateKey, UintRef};
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{Decode, Encode, Error, Header, SliceReader, Tag};
use pkcs8::{AlgorithmIdentifierRef, ObjectIdentifier, PrivateKeyInfo};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use super::{BadKey, Bytes, CURVES, Curve, Key, padded, point, positive};

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// The start of an ed25519 seed in PKCS#8: an octet string of 32 bytes.
const SEED: [u8; 2] = [0x04, 0x20];

pub(super) fn from_pkcs8(der: &[u8]) -> Result<Key, BadKey> {
    let (algorithm, private) = open(der).map_err(|_| BadKey::Form)?;
    if algorithm.oid == ED25519 {
        let seed = private.strip_prefix(&SEED).filter(|seed| seed.len() == 32).ok_or(BadKey::Form)?;
        return Ok(Key::Ed25519 { seed: Zeroizing::new(seed.to_vec()), public: public_half(seed)? });
    }
    if algorithm.oid == pkcs1::ALGORITHM_OID {
        return from_pkcs1(private);
    }
    if algorithm.oid == ECDSA {
        let oid = algorithm.parameters_oid().map_err(|_| BadKey::Algorithm)?;
        return from_sec1(private, Some(oid));
    }
    Err(BadKey::Algorithm)
}

/// The algorithm and the inner key. Ignores what follows them: 1Password appends the public half of an
/// ed25519 key with a tag that differs from the standard's, which strict parsers reject.
fn open(der: &[u8]) -> Result<(AlgorithmIdentifierRef<'_>, &[u8]), Error> {
    let mut reader = SliceReader::new(der)?;
    Header::decode(&mut reader)?.tag.assert_eq(Tag::Sequence)?;
    let _version = u8::decode(&mut reader)?;
    Ok((AlgorithmIdentifierRef::decode(&mut reader)?, OctetStringRef::decode(&mut reader)?.as_bytes()))
}

pub(super) fn from_pkcs1(der: &[u8]) -> Result<Key, BadKey> {
    let key = RsaPrivateKey::try_from(der).map_err(|_| BadKey::Form)?;
    let bytes = |uint: UintRef<'_>| positive(uint.as_bytes());
    Ok(Key::Rsa {
        n: bytes(key.modulus)?,
        e: bytes(key.public_exponent)?,
        d: bytes(key.private_exponent)?,
        p: bytes(key.prime1)?,
        q: bytes(key.prime2)?,
        q_inverse: bytes(key.coefficient)?,
    })
}

/// Parses a SEC 1 key. `outer` is the curve that the surrounding PKCS#8 names.
pub(super) fn from_sec1(der: &[u8], outer: Option<ObjectIdentifier>) -> Result<Key, BadKey> {
    let key = EcPrivateKey::try_from(der).map_err(|_| BadKey::Form)?;
    let oid = outer.or_else(|| key.parameters.and_then(|p| p.named_curve())).ok_or(BadKey::Algorithm)?;
    let curve: &'static Curve = CURVES.iter().find(|c| c.oid == oid).ok_or(BadKey::Algorithm)?;
    let point = point(curve, key.public_key.ok_or(BadKey::PublicHalf)?)?;
    Ok(Key::Ecdsa { curve, d: padded(key.private_key, curve.width).ok_or(BadKey::Form)?, point })
}

pub(super) fn to_pkcs8(key: &Key) -> Result<Bytes, BadKey> {
    encode(key).map_err(|_| BadKey::Form)
}

fn encode(key: &Key) -> Result<Bytes, Error> {
    let (algorithm, private) = match key {
        Key::Ed25519 { seed, .. } => {
            let private = Zeroizing::new([&SEED, seed.as_slice()].concat());
            (AlgorithmIdentifierRef { oid: ED25519, parameters: None }, private)
        }
        Key::Rsa { n, e, d, p, q, q_inverse } => {
            let (exponent1, exponent2) = (less_one_rest(d, p)?, less_one_rest(d, q)?);
            let key = RsaPrivateKey {
                modulus: UintRef::new(n)?,
                public_exponent: UintRef::new(e)?,
                private_exponent: UintRef::new(d)?,
                prime1: UintRef::new(p)?,
                prime2: UintRef::new(q)?,
                exponent1: UintRef::new(&exponent1)?,
                exponent2: UintRef::new(&exponent2)?,
                coefficient: UintRef::new(q_inverse)?,
                other_prime_infos: None,
            };
            (pkcs1::ALGORITHM_ID, Zeroizing::new(key.to_der()?))
        }
        Key::Ecdsa { curve, d, point } => {
            let key = EcPrivateKey { private_key: d, parameters: None, public_key: Some(point) };
            let parameters = Some(AnyRef::from(&curve.oid));
            (AlgorithmIdentifierRef { oid: ECDSA, parameters }, Zeroizing::new(key.to_der()?))
        }
    };
    Ok(Zeroizing::new(PrivateKeyInfo::new(algorithm, &private).to_der()?))
}

/// Computes the public half of an ed25519 seed, which PKCS#8 may omit.
pub(super) fn public_half(seed: &[u8]) -> Result<Vec<u8>, BadKey> {
    // on the heap, where it is wiped when freed; ring cannot wipe it
    let pair = Box::new(Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey::Form)?);
    Ok(pair.public_key().as_ref().to_vec())
}

/// Computes `d` modulo `prime - 1`, which PKCS#1 contains and OpenSSH omits. Uses long division, bit by bit.
fn less_one_rest(d: &[u8], prime: &[u8]) -> Result<Bytes, Error> {
    /// The maximum length in bytes: enough for keys of 16,384 bits and their primes.
    const MOST: usize = 2048;
    let odd = prime.last().is_some_and(|last| last % 2 == 1);
    if !odd || prime == [1] || prime.len() > MOST || d.len() > MOST {
        return Err(pkcs8::der::ErrorKind::Failed.into());
    }
    let mut modulus = Zeroizing::new([&[0], prime].concat());
    if let Some(last) = modulus.last_mut() {
        *last -= 1; // the number is odd, so there is no borrow
    }
    let mut rest = Zeroizing::new(vec![0_u8; modulus.len()]);
    for bit in d.iter().flat_map(|byte| (0..8).rev().map(move |i| (byte >> i) & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = ((*byte << 1) | carry, *byte >> 7);
        }
        if *rest >= *modulus {
            let mut borrow = false;
            for (byte, less) in rest.iter_mut().zip(modulus.iter()).rev() {
                let (once, first) = byte.overflowing_sub(*less);
                let (twice, second) = once.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (twice, first || second);
            }
        }
    }
    Ok(rest)
}
