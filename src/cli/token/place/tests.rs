//! Tests of where and how tokens are stored.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

const CANARY: &str = "canary-of-a-token";

fn places(dir: &tempfile::TempDir, credential: &str) -> Places {
    let credential = CredentialId::parse(credential).unwrap();
    Places { credential, tokens: dir.path().join("onecred"), drop_ins: dir.path().join("resolver.d") }
}

fn token() -> SecretValue {
    SecretValue::new(CANARY.into())
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_file_is_of_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let own = places(&dir, "token");
    fs::create_dir_all(&own.drop_ins).unwrap();
    fs::write(own.drop_in(), "of an encrypted one").unwrap();
    assert_eq!(own.keep_plain(&token()).unwrap(), [own.plain()]);
    assert_eq!((fs::read_to_string(own.plain()).unwrap().as_str(), mode(own.plain())), (CANARY, 0o600));
    assert!(!own.drop_in().exists(), "the unit loads the file by itself");
    let other = places(&dir, "staging.token");
    assert_eq!(other.keep_plain(&token()).unwrap(), [other.plain(), other.drop_in()]);
    let text = fs::read_to_string(other.drop_in()).unwrap();
    let load = format!("LoadCredential=staging.token:{}\n", other.plain().display());
    assert!(text.contains(&load) && text.contains("SetCredential=staging.token:\\n\n"), "{text}");
    assert_eq!(mode(other.drop_in()), 0o644);
}

#[test]
fn an_encrypted_token_is_not_in_plain_text() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(&dir, "staging.token");
    if !system::has_creds() {
        assert!(places.keep_encrypted(None, &token()).unwrap_err().contains("not installed"));
        return;
    }
    assert!(!places.is_encrypted());
    assert_eq!(
        places.keep_encrypted(Some("null"), &token()).unwrap(),
        [places.encrypted(), places.drop_in()]
    );
    assert!(places.is_encrypted());
    assert_eq!(mode(places.encrypted()), 0o600);
    let text = fs::read_to_string(places.drop_in()).unwrap();
    let load = format!("LoadCredentialEncrypted=staging.token:{}\n", places.encrypted().display());
    assert!(text.contains(&load), "{text}");
    assert!(!fs::read_to_string(places.encrypted()).unwrap().contains(CANARY));
    assert!(system::is_only_encoded(&fs::read(places.encrypted()).unwrap()));
    let by_the_host = b"WhxqX42QpWZ6v7Xx4qWt0wAAAAEAAAAMAAAAEAAAAA==";
    assert!(
        !system::is_only_encoded(by_the_host)
            && !system::is_only_encoded(b"")
            && !system::is_only_encoded(b"?")
    );
    let mut back = Command::new("systemd-creds");
    let back =
        back.args(["decrypt", "--name=staging.token"]).arg(places.encrypted()).arg("-").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&back.stdout), CANARY, "{}", String::from_utf8_lossy(&back.stderr));
}

#[test]
fn a_failed_encryption_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(&dir, "token");
    let why = places.keep_encrypted(Some("no such key"), &token()).unwrap_err();
    assert!(why.starts_with("systemd-creds can't encrypt it: ") && !why.contains(CANARY), "{why}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn who_gets_at_a_file() {
    for mode in [0o600, 0o400, 0o000] {
        assert_eq!(Openness::of(0, mode), Openness::Closed, "{mode:o}");
    }
    for mode in [0o640, 0o440] {
        assert_eq!(Openness::of(0, mode), Openness::Group, "{mode:o}");
    }
    for mode in [0o644, 0o660, 0o604, 0o602, 0o650] {
        assert_eq!(Openness::of(0, mode), Openness::Open(format!("its mode is {mode:04o}")));
    }
    assert_eq!(Openness::of(1_000, 0o600), Openness::Open("it is owned by user 1000".into()));
}
