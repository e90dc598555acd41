//! Tests: which files are read, and which are rejected.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::{Paths, check_files, load};
use super::*;

const FINE: &str = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["a"] } ] }"#;

/// The directory of a configuration, with modes that do not depend on the umask.
fn dir(files: &[(&str, &[u8], u32)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("secrets.d")).expect("a directory");
    for dir in [dir.path().to_owned(), dir.path().join("secrets.d")] {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("chmod");
    }
    for (name, bytes, mode) in files {
        fs::write(dir.path().join(name), bytes).expect("written");
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(*mode)).expect("chmod");
    }
    dir
}

/// The problems without the directory's name; empty if there are none.
fn told(dir: &Path) -> String {
    let report = load(&Paths { dir: dir.to_owned() }).map(|loaded| assert_eq!(loaded.warnings, []));
    report
        .err()
        .map(|report| report.to_string().replace(&dir.display().to_string(), "DIR"))
        .unwrap_or_default()
}

#[test]
fn which_files_there_are() {
    let other = FINE.replace("\"a\"", "\"b\"");
    let parts = dir(&[
        ("secrets.d/2.json", b"{}", 0o644),
        ("secrets.d/1.json", other.as_bytes(), 0o600),
        ("secrets.d/.hidden.json", b"wrong", 0o644),
        ("secrets.d/1.json.bak", b"wrong", 0o644),
    ]);
    assert_eq!(told(parts.path()), "", "parts alone are enough");
    fs::write(parts.path().join("secrets.json"), FINE).expect("written");
    let mut problems = Problems::default();
    let found = find(&Paths { dir: parts.path().to_owned() }, &mut problems);
    let names: Vec<_> =
        found.iter().map(|f| f.strip_prefix(parts.path()).expect("within").to_str()).collect();
    assert_eq!(names, [Some("secrets.json"), Some("secrets.d/1.json"), Some("secrets.d/2.json")]);
}

#[test]
fn nothing_there() {
    let empty = dir(&[]);
    assert!(told(empty.path()).starts_with("DIR/secrets.json: error: the configuration does not exist"));
    let missing = told(&empty.path().join("none"));
    assert!(
        missing.starts_with("DIR: error: the configuration's directory does not exist; make it"),
        "{missing}"
    );
    symlink("/nowhere", empty.path().join("secrets.json")).expect("a link");
    assert!(told(empty.path()).starts_with("DIR/secrets.json: error: the file can't be read: No such file"));
    let given = check_files(&[empty.path().join("x.json")]).expect_err("not there");
    assert!(given.to_string().contains("x.json: error: the file can't be read"), "{given}");
}

#[test]
fn what_others_may_write_is_not_taken() {
    for (mode, fine) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
        let dir = dir(&[("secrets.json", FINE.as_bytes(), mode)]);
        let told = told(dir.path());
        assert_eq!(told.is_empty(), fine, "{mode:o}: {told}");
        assert!(fine || told.ends_with("chmod go-w DIR/secrets.json"), "{told}");
        let given =
            check_files(&[dir.path().join("secrets.json")]).expect("only a warning for a file that is given");
        assert_eq!(given.warnings.is_empty(), fine, "{:?}", given.warnings);
    }
    for part in ["", "secrets.d"] {
        let dir = dir(&[("secrets.json", FINE.as_bytes(), 0o644)]);
        fs::set_permissions(dir.path().join(part), Permissions::from_mode(0o1777)).expect("chmod");
        assert!(told(dir.path()).contains("others can write the directory (mode 1777)"), "{part}");
    }
    if nix::unistd::geteuid().is_root() {
        let dir = dir(&[("secrets.json", FINE.as_bytes(), 0o644)]);
        std::os::unix::fs::chown(dir.path().join("secrets.json"), Some(12345), None).expect("chown");
        assert!(told(dir.path()).contains("the file belongs to user 12345"), "{}", told(dir.path()));
    }
}

#[test]
fn what_is_no_text_file() {
    let large = vec![b' '; MAX as usize + 1];
    let deep = "[".repeat(100_000);
    for (bytes, words) in [
        (large.as_slice(), "DIR/secrets.json: error: the file is too large"),
        (b"{}\n\"\xff\"", "DIR/secrets.json: error: line 2 is not UTF-8"),
        (deep.as_bytes(), "DIR/secrets.json:1:65: error: values are nested too deep"),
    ] {
        let told = told(dir(&[("secrets.json", bytes, 0o644)]).path());
        assert!(told.starts_with(words), "{told}");
    }
    let dir = dir(&[]);
    nix::unistd::mkfifo(&dir.path().join("secrets.json"), nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    assert!(told(dir.path()).starts_with("DIR/secrets.json: error: this is not a file"));
    fs::remove_file(dir.path().join("secrets.json")).expect("removed");
    fs::create_dir(dir.path().join("secrets.json")).expect("a directory");
    assert!(told(dir.path()).starts_with("DIR/secrets.json: error: this is not a file"));
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    assert!(told(&file).starts_with("DIR: error: this is not a directory"));
}
