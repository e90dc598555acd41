//! The values that units request: of many sizes, each different, and generated again for each comparison.

use onecred_integration::setup::field;
use serde_json::{Value, json};

/// The vault with all items. Each unit has an item of its name, with one field per credential.
pub const VAULT: &str = "Storm";
/// The credentials of each unit, and their sizes in bytes.
pub const CREDENTIALS: [(&str, usize); 8] = [
    ("one", 1),
    ("few", 16),
    ("line", 333),
    ("page", 4096),
    ("buffer", 65_537),
    ("more", 20_000),
    ("long", 900 << 10),
    (SEALED, 840 << 10),
];
/// The largest value for the sealed socket.
pub const SEALED: &str = "sealed";
/// A credential that is not declared.
pub const NOBODYS: &str = "nobodys";
/// The number of digits of the version at the beginning of a value.
const MARK: usize = 8;
/// The length of the random block that a value repeats.
const BLOCK: usize = 2048;
const SIGNS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The value of a unit's credential. The shortest one has a single version.
pub fn value(unit: &str, id: &str, version: u64) -> Vec<u8> {
    let size = CREDENTIALS.iter().find(|(name, _)| *name == id).map_or(0, |(_, size)| *size);
    if size == 1 {
        return vec![SIGNS[number(unit) % SIGNS.len()]];
    }
    let mut state = seed(&format!("{unit}/{id}/{version}"));
    let sign = || SIGNS[(next(&mut state) % 62) as usize];
    let block: Vec<u8> = std::iter::repeat_with(sign).take(BLOCK.min(size)).collect();
    let mut value = format!("{version:0MARK$}").into_bytes();
    // blocks are numbered, so that all parts differ
    for n in 0.. {
        value.extend_from_slice(&block);
        if value.len() >= size {
            break;
        }
        value.extend_from_slice(format!("{n:06}").as_bytes());
    }
    value.truncate(size);
    value
}

/// The version in a value.
pub fn version_of(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value.get(..MARK)?).ok()?.parse().ok()
}

/// One item per unit, with one field per credential.
pub fn vault<'a>(units: impl IntoIterator<Item = (String, Vec<&'a str>)>) -> Value {
    let items: Vec<Value> =
        units.into_iter().enumerate().map(|(n, (unit, ids))| item(n, &unit, &ids)).collect();
    json!({ "vaults": [{ "id": id("storm"), "name": VAULT, "items": items }] })
}

fn item(n: usize, unit: &str, ids: &[&str]) -> Value {
    let text = |id| String::from_utf8(value(unit, id, 1)).unwrap_or_default();
    let fields: Vec<Value> = ids.iter().map(|id| field(id, &text(id))).collect();
    json!({ "id": id(&letters(n)), "title": unit, "category": "LOGIN", "version": 1, "fields": fields })
}

/// The names of all credentials.
pub fn all_ids() -> Vec<&'static str> {
    CREDENTIALS.iter().map(|(id, _)| *id).collect()
}

/// An ID in the form of 1Password's.
pub fn id(start: &str) -> String {
    format!("{start:a<26}")
}

/// A number in letters that IDs may contain; no result is a prefix of another.
pub fn letters(n: usize) -> String {
    format!("item{n:04}")
        .bytes()
        .map(|b| char::from(if b.is_ascii_digit() { b - b'0' + b'f' } else { b }))
        .collect()
}

/// The digits at the end of a unit's name. The numbers of each kind of unit begin at another value.
fn number(unit: &str) -> usize {
    let digits = unit.rsplit('-').next().and_then(|digits| digits.parse::<usize>().ok()).unwrap_or_default();
    if unit.starts_with("storm") { 50 + digits } else { digits }
}

fn seed(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        | 1
}

/// The next pseudo-random number.
pub fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}

/// A seed that differs in each process and thread.
pub fn lot() -> u64 {
    seed(&format!(
        "{}{:?}{:?}",
        std::process::id(),
        std::thread::current().id(),
        std::time::SystemTime::now()
    ))
}
