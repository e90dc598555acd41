//! The other side of sealing, for tests: opens a blob as systemd does.

use super::*;

/// What is in a blob: when it was sealed in µs, until when it is good, its ID, the value. None, where it is not authentic.
pub(super) fn open(key: &HostKey, text: &[u8]) -> Option<(u64, u64, String, Vec<u8>)> {
    let blob = Base64::decode_vec(std::str::from_utf8(text).ok()?).ok()?;
    let (header, rest) = blob.split_at_checked(HEADER)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let sizes: Vec<u64> = header[16..32].chunks(4).map(number).collect();
    if header[..16] != BY_HOST || sizes != [32, 1, 12, 16] {
        return None;
    }
    let mut rest = rest.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(&header[32..44]).ok()?;
    let plain = key.0.open_in_place(nonce, Aad::from(header), &mut rest).ok()?;
    let name = usize::try_from(number(&plain[16..20])).ok()?;
    let about = (20 + name).next_multiple_of(8);
    assert!(plain[20 + name..about].iter().all(|byte| *byte == 0));
    let text = String::from_utf8(plain[20..20 + name].to_vec()).ok()?;
    Some((number(&plain[..8]), number(&plain[8..16]), text, plain[about..].to_vec()))
}
