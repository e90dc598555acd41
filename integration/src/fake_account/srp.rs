//! The server's side of SRP-6a as 1Password uses it: the 4096-bit group of RFC 5054, g = 5, SHA-256.

use std::sync::LazyLock;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use ring::digest::{SHA256, digest};

use super::envelope::{Key, base64url, random};

const BITS: u32 = 4096;
const N: &str = concat!(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
    "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C",
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D7",
    "88719A10BDBA5B2699C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6",
    "287C59474E6BC05D99B2964FA090C3A2233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA9",
    "93B4EA988D8FDDC186FFB7DC90A6C08F4DF435C934063199FFFFFFFFFFFFFFFF",
);

static GROUP: LazyLock<BoxedMontyParams> = LazyLock::new(|| {
    let n = Option::from(BoxedUint::from_be_hex(N, BITS)).expect("N is written in hexadecimal");
    BoxedMontyParams::new(Option::from(Odd::new(n)).expect("N is odd"))
});

/// The client that logs in, and what the service has stored about it.
pub(super) struct Identity<'a> {
    pub(super) email: &'a str,
    /// The ID of the secret key.
    pub(super) key_id: &'a str,
    pub(super) salt: &'a [u8],
    /// The private exponent. A real service does not know it; here the verifier is derived from it.
    pub(super) x: &'a [u8; 32],
}

/// The service's answer to a client's public value, and the values that both must agree on.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    /// B in hexadecimal.
    pub(super) public: String,
    /// The session's key.
    pub(super) key: Key,
    /// What the client must prove.
    pub(super) client_proof: Key,
    /// What proves to the client that the service knows the verifier.
    pub(super) server_proof: Key,
}

/// `None` if the client's value is not a number modulo N, or is zero.
pub(super) fn exchange(who: &Identity<'_>, client_public: &str) -> Option<Exchange> {
    let padded =
        if client_public.len() % 2 == 1 { format!("0{client_public}") } else { client_public.to_owned() };
    let a = BoxedUint::from_be_slice(&unhex(&padded)?, BITS).ok()?;
    let modulus = GROUP.modulus().as_ref();
    if bool::from(a.is_zero()) || a >= *modulus {
        return None;
    }
    let n = modulus.to_be_bytes();
    let g = number(&[5]);
    let k = number(&hash(&[&n, &g.to_be_bytes()]));
    let verifier = form(&g).pow(&exponent(who.x));
    let secret = exponent(&random::<32>());
    let b = (form(&k).mul(&verifier).add(&form(&g).pow(&secret))).retrieve();
    let u = exponent(&hash(&[&a.to_be_bytes(), &b.to_be_bytes()]));
    let shared = form(&a).mul(&verifier.pow(&u)).pow(&secret).retrieve();

    let (key, client_proof, server_proof) = agreed(who, &a, &b, &shared);
    Some(Exchange { public: hex(&trimmed(&b)), key, client_proof, server_proof })
}

/// The session key, the client's proof and the server's proof.
fn agreed(who: &Identity<'_>, a: &BoxedUint, b: &BoxedUint, shared: &BoxedUint) -> (Key, Key, Key) {
    let key = hash(&[hex(&trimmed(shared)).trim_start_matches('0').as_bytes()]);
    let user = hash(&[&hash(&[who.key_id.as_bytes()]), &hash(&[who.email.to_lowercase().as_bytes()])]);
    let user = hash(&[base64url(&user).as_bytes()]);
    let mut group = hash(&[&GROUP.modulus().as_ref().to_be_bytes()]);
    group.iter_mut().zip(hash(&[&[5]])).for_each(|(left, right)| *left ^= right);
    let client_proof = hash(&[&group, &user, who.salt, &trimmed(a), &trimmed(b), &key]);
    let server_proof = hash(&[&trimmed(a), &client_proof, &key]);
    (key, client_proof, server_proof)
}

/// A client's public value.
#[cfg(test)]
pub(super) fn client_public(secret: &Key) -> Vec<u8> {
    trimmed(&form(&number(&[5])).pow(&exponent(secret)).retrieve())
}

/// The client's side: the values that it and the service must agree on.
#[cfg(test)]
pub(super) fn client_exchange(who: &Identity<'_>, secret: &Key, server_public: &[u8]) -> (Key, Key, Key) {
    let (g, n) = (number(&[5]), GROUP.modulus().as_ref().to_be_bytes());
    let (a, b) = (number(&client_public(secret)), number(server_public));
    let (x, k) = (exponent(who.x), number(&hash(&[&n, &g.to_be_bytes()])));
    let u = exponent(&hash(&[&a.to_be_bytes(), &b.to_be_bytes()]));
    let base = form(&b).sub(&form(&k).mul(&form(&g).pow(&x)));
    let shared = base.pow(&exponent(secret)).mul(&base.pow(&x).pow(&u)).retrieve();
    agreed(who, &a, &b, &shared)
}

fn number(bytes: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_truncated(bytes, BITS)
}

fn exponent(bytes: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(bytes)
}

fn form(number: &BoxedUint) -> BoxedMontyForm {
    BoxedMontyForm::new(number.clone(), &GROUP)
}

fn trimmed(number: &BoxedUint) -> Vec<u8> {
    number.to_be_bytes().iter().copied().skip_while(|byte| *byte == 0).collect()
}

pub(super) fn hash(parts: &[&[u8]]) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, &parts.concat()).as_ref());
    key
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
}
