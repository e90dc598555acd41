//! Tests of keys in all forms, generated and verified with ssh-keygen if it is installed.

use super::*;
use proptest::prelude::*;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    Command::new(program).args(arguments).output().ok()
}

/// The public key of a private key according to ssh-keygen, without the comment.
fn public(folder: &Path, private: &str) -> String {
    let file = folder.join("judged");
    std::fs::write(&file, private).expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    let output = run("ssh-keygen", &["-y", "-P", "", "-f", &file.to_string_lossy()]).expect("ssh-keygen");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_kind_and_form_is_what_ssh_keygen_made() {
    if run("ssh-keygen", &["-?"]).is_none() {
        println!("skipped: no ssh-keygen here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = [
        ("ed25519", "256"),
        ("rsa", "1024"),
        ("rsa", "2049"),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("ecdsa", "521"),
    ];
    for (kind, bits) in kinds {
        for form in ["RFC4716", "PKCS8", "PEM"] {
            let file = folder.path().join(format!("{kind}-{bits}-{form}"));
            let name = file.to_string_lossy().into_owned();
            let made = run("ssh-keygen", &["-q", "-t", kind, "-b", bits, "-m", form, "-N", "", "-f", &name]);
            assert!(made.expect("ssh-keygen").status.success(), "{name}");
            let key = std::fs::read_to_string(&file).expect("a key");
            let expected = public(folder.path(), &key);

            let pkcs8 = to_pkcs8(&key).unwrap_or_else(|e| panic!("{name}: {e}"));
            let openssh = to_openssh(&key).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(pkcs8.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{name}");
            assert!(openssh.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"), "{name}");
            assert_eq!(public(folder.path(), &openssh), expected, "{name}");
            if kind != "ed25519" {
                // ssh-keygen cannot read ed25519 keys in PKCS#8
                assert_eq!(public(folder.path(), &pkcs8), expected, "{name}");
            }
            let there_and_back = to_openssh(&pkcs8).expect("ours");
            assert_eq!(public(folder.path(), &there_and_back), expected, "{name}");
            let twice = to_pkcs8(&there_and_back).expect("ours");
            assert!(to_openssh(&twice).expect("ours") == there_and_back, "{name}");
            if kind == "rsa" && form != "RFC4716" {
                let own = to_pkcs8(&to_openssh(&key).expect("ours")).expect("ours");
                assert!(own == pkcs8 || form == "PEM", "{name}: our exponents are openssl's");
            }
        }
    }
}

#[test]
fn ed25519_without_its_public_half() {
    // the first example of RFC 8410
    let short = "-----BEGIN PRIVATE KEY-----\r\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\r\n-----END PRIVATE KEY-----\r\n";
    let openssh = to_openssh(short).expect("a key");
    let Ok(Key::Ed25519 { public, .. }) = read(&openssh) else { panic!("an ed25519 key") };
    assert_eq!(Base64::encode_string(&public), "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
    assert!(*to_pkcs8(short).expect("a key") == *short, "given as it stands");
    let back = to_pkcs8(&openssh).expect("a key");
    assert!(*back == *short.replace('\r', ""), "the short form again");
}

#[test]
fn ed25519_with_its_public_half_tagged_as_1password_does() {
    let long = "-----BEGIN PRIVATE KEY-----\nMFMCAQEwBQYDK2VwBCIEIEwq7bOKJ1fTzAtkzNUF7GOAljqpmYf+VeITcPrW3cVR\n\
        oSMDIQA43fFsSF6uNIwM8EpVfnYRYxo1OqwCkb/FuxF81D9LNA==\n-----END PRIVATE KEY-----\n";
    let openssh = to_openssh(long).expect("a key");
    let Ok(Key::Ed25519 { public, .. }) = read(&openssh) else { panic!("an ed25519 key") };
    assert_eq!(Base64::encode_string(&public), "ON3xbEherjSMDPBKVX52EWMaNTqsApG/xbsRfNQ/SzQ=");
}

#[test]
fn what_is_no_key() {
    let protected = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA\n-----END RSA PRIVATE KEY-----";
    let cases = [
        ("", BadKey::Form),
        ("hunter2", BadKey::Form),
        ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", BadKey::Form),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PUBLIC KEY-----", BadKey::Form),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", BadKey::Form),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
            BadKey::Passphrase,
        ),
        (protected, BadKey::Passphrase),
    ];
    for (text, expected) in cases {
        assert_eq!(to_openssh(text).err(), Some(expected), "{text}");
    }
}

proptest! {
    #[test]
    fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..400, at in 0_usize..400) {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", openssh::LABEL] {
            let _ = to_openssh(&write_pem(label, &bytes, 64));
            let _ = to_pkcs8(&write_pem(label, &bytes, 64));
        }
        // a real key, damaged
        let key = Key::Ed25519 { seed: Zeroizing::new(vec![7; 32]), public: vec![9; 32] };
        let mut good = openssh::write(&key);
        good.truncate(cut);
        if let Some(byte) = good.get_mut(at) {
            *byte ^= 0x41;
        }
        let _ = to_pkcs8(&write_pem(openssh::LABEL, &good, 70));
    }
}
