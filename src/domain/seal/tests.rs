//! Tests of encryption: the result can be decrypted as systemd does it, and so can a blob from `systemd-creds
//! encrypt`.

use super::oracle::open;
use super::*;

/// A host key file: a machine ID, then the key.
const FILE: &[u8] = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0a host key of a test, and of nothing else";
/// `printf hunter2 | systemd-creds encrypt --with-key=host --name=db-password - -`, with that key, by systemd 252.
const BY_SYSTEMD: &str = "Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAAAAC6jr+/fUD6NGL4a2gAAAAAgJOlezkIJl/9e1+UhxR6tKU0kkCFIAElb81fO6YHIctlR9Z0yfzwPu3ARUE+ItggCDFUDrjGTg==";

fn key() -> HostKey {
    HostKey::parse(FILE).unwrap()
}

fn id(text: &str) -> CredentialId {
    CredentialId::parse(text).unwrap()
}

#[test]
fn a_blob_of_systemd_is_understood_as_ours_are() {
    let (made, until, name, value) = open(&key(), BY_SYSTEMD.as_bytes()).unwrap();
    assert_eq!((made, until), (1_767_225_600_000_000, NEVER));
    assert_eq!((name.as_str(), value.as_slice()), ("db-password", b"hunter2".as_slice()));
    let ours = key().seal(&id("db-password"), &SecretValue::new(b"hunter2".to_vec()), 1_767_225_600).unwrap();
    assert_eq!(ours.len(), BY_SYSTEMD.len());
    let head = |text: &[u8]| Base64::decode_vec(std::str::from_utf8(text).unwrap()).unwrap()[..32].to_vec();
    assert_eq!(head(ours.expose()), head(BY_SYSTEMD.as_bytes()));
}

#[test]
fn values_and_ids_of_all_sizes_come_back_whole() {
    for size in [0, 1, 7, 8, 15, 16, 17, 255, 4096, 70_000] {
        let id = id(&"i".repeat(1 + size % 83));
        let value: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let sealed = key().seal(&id, &SecretValue::new(value.clone()), 7).unwrap();
        let opened = open(&key(), sealed.expose()).unwrap();
        assert_eq!(opened, (7_000_000, NEVER, id.to_string(), value));
    }
}

#[test]
fn what_is_cut_or_changed_or_of_another_key_is_not_authentic() {
    let sealed = key().seal(&id("db"), &SecretValue::new(b"hunter2".to_vec()), 7).unwrap();
    let whole = sealed.expose();
    assert!(open(&key(), whole).is_some());
    assert!((0..whole.len()).all(|len| open(&key(), &whole[..len]).is_none()));
    let blob = Base64::decode_vec(std::str::from_utf8(whole).unwrap()).unwrap();
    for at in 32..blob.len() {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        assert!(
            open(&key(), Base64::encode_string(&changed).as_bytes()).is_none(),
            "byte {at} may be anything"
        );
    }
    let other = HostKey::parse(&[FILE, b"!"].concat()).unwrap();
    assert!(open(&other, whole).is_none());
}

#[test]
fn no_two_seals_are_alike() {
    let seal = || key().seal(&id("db"), &SecretValue::new(b"hunter2".to_vec()), 7).unwrap();
    assert_ne!(seal().expose(), seal().expose());
}

#[test]
fn the_largest_value_just_fits() {
    let id = id("db");
    let seal = |size| key().seal(&id, &SecretValue::new(vec![1; size]), 7).unwrap().len();
    assert_eq!(SYSTEMD_READS, 1_179_648, "CREDENTIAL_ENCRYPTED_SIZE_MAX of systemd 252");
    assert_eq!(seal(largest(&id)), SYSTEMD_READS);
    assert!(seal(largest(&id) + 1) > SYSTEMD_READS);
}

#[test]
fn a_file_without_a_key() {
    assert_eq!(FILE_MAX, 4112, "a machine ID and 4 KiB of key");
    for size in [0, 16, FILE_MAX + 1] {
        assert_eq!(HostKey::parse(&vec![1; size]).err(), Some(NoKey(size)));
    }
    assert!(HostKey::parse(&[1; 17]).is_ok() && HostKey::parse(&[1; FILE_MAX]).is_ok());
}
