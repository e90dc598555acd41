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
    assert_eq!(own.keep_plain(&own.plain(), None, &token()).unwrap(), [own.plain()]);
    assert_eq!((fs::read_to_string(own.plain()).unwrap().as_str(), mode(own.plain())), (CANARY, 0o600));
    assert!(!own.drop_in().exists(), "the unit loads the file by itself");
    let other = places(&dir, "staging.token");
    assert_eq!(other.keep_plain(&other.plain(), None, &token()).unwrap(), [other.plain(), other.drop_in()]);
    let text = fs::read_to_string(other.drop_in()).unwrap();
    let load = format!("LoadCredential=staging.token:{}\n", other.plain().display());
    assert!(text.contains(&load) && text.contains("SetCredential=staging.token:\\n\n"), "{text}");
    assert_eq!(mode(other.drop_in()), 0o644);
}

#[test]
fn a_token_in_plain_text_goes_where_the_unit_loads_it() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(&dir, "token");
    let default = places.plain();
    let (asked, loaded) = (Path::new("/persist/op/token"), Path::new("/persist/token"));
    for (asked, loaded, expected) in [
        (None, None, default.as_path()),
        (None, Some(default.as_path()), default.as_path()),
        (None, Some(loaded), loaded),
        (None, Some(Path::new("/nix/store/x-token")), default.as_path()),
        (Some(asked), None, asked),
        (Some(asked), Some(loaded), asked),
    ] {
        assert_eq!(places.for_plain(asked, loaded).as_deref(), Ok(expected), "{asked:?} {loaded:?}");
    }
    for wrong in ["token", "/", "/nix/store/x-token"] {
        assert!(places.for_plain(Some(Path::new(wrong)), None).is_err(), "{wrong}");
    }
    // systemd's files cannot be changed, as on NixOS: /proc stands for a read-only file system
    let fixed = Places { drop_ins: "/sys/kernel/onecred".into(), ..self::places(&dir, "staging.token") };
    if nixos::is_read_only(&fixed.drop_ins) {
        let why = fixed.for_plain(Some(asked), Some(loaded)).unwrap_err();
        assert!(
            why.contains("set services.onecred.sources.staging.tokenFile = \"/persist/op/token\""),
            "{why}"
        );
        assert_eq!(fixed.for_plain(None, Some(loaded)).as_deref(), Ok(loaded));
    }
}

#[test]
fn a_token_that_moves_leaves_none_behind() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(&dir, "token");
    let path = dir.path().join("persist/op/token");
    places.keep_plain(&places.plain(), None, &token()).unwrap();
    // the unit's own configuration names the file
    assert_eq!(places.keep_plain(&path, Some(&path), &token()), Ok(vec![path.clone()]));
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(path.clone())), (CANARY, 0o600));
    assert_eq!(places.forget_default(&path).unwrap(), Some(places.plain()));
    assert_eq!(places.forget_default(&path).unwrap(), None);
    // or a drop-in does
    assert_eq!(places.keep_plain(&path, None, &token()).unwrap(), [path.clone(), places.drop_in()]);
    let text = fs::read_to_string(places.drop_in()).unwrap();
    assert!(text.contains(&format!("LoadCredential=token:{}\n", path.display())), "{text}");
    assert_eq!(
        places.forget_default(&places.plain()).unwrap(),
        None,
        "the token at the default path is used"
    );
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
