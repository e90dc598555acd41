//! What the fuzzer tries on sealed blobs: whatever is sealed opens as systemd opens it, by its own key and under its own ID, and nothing that
//! was changed opens at all.

use super::oracle::open;
use super::*;
use crate::fuzzing::{Input, text};

/// A key's file, an ID, a value, and changes to the blob.
pub(crate) fn blob(data: &[u8]) {
    let mut input = Input(data);
    let (at, change) = (usize::from(input.byte()) << 8 | usize::from(input.byte()), input.byte());
    let (file, id) = (input.upto(b'\n'), text(input.upto(b'\n')));
    let value = input.rest();
    let key = HostKey::parse(file);
    assert_eq!(key.is_ok(), (17..=FILE_MAX).contains(&file.len()));
    let (Ok(key), Ok(id)) = (key, CredentialId::parse(&id)) else { return };
    let Ok(sealed) = key.seal(&id, &SecretValue::new(value.to_vec()), 7) else { return };
    let sealed = sealed.expose();
    assert_eq!(open(&key, sealed), Some((7_000_000, NEVER, id.to_string(), value.to_vec())));
    assert_eq!(sealed.len() <= SYSTEMD_READS, value.len() <= largest(&id));

    let mut blob = Base64::decode_vec(&text(sealed)).unwrap_or_default();
    assert_eq!(blob.len(), size(&id, value.len()));
    let whole = blob.clone();
    // what the header says of the kind of key and the sizes is checked by systemd before it decrypts, and by the tag
    let at = at % blob.len();
    match change {
        0 => blob.truncate(at),
        1 => blob.extend_from_slice(&whole),
        2 => blob.swap(at, whole.len() - 1 - at),
        3 => drop(blob.drain(..at)),
        bits => blob[at] ^= bits,
    }
    if blob != whole {
        assert_eq!(open(&key, Base64::encode_string(&blob).as_bytes()), None, "{change} at {at}");
    }
    let text = text(sealed);
    assert_eq!(open(&key, text[..at.min(text.len() - 1)].as_bytes()), None, "cut at {at}");
    let other = HostKey::parse(&[file, b"!"].concat());
    assert!(other.is_err() || other.is_ok_and(|other| open(&other, sealed).is_none()));
    // and a blob that came from elsewhere
    let _ = open(&key, value);
}
