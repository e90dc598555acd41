//! Tests of which files are accepted as the SDK core, and that others are not installed.

use std::fs::{self, File};
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// Writes a wheel with these files.
fn wheel(path: &Path, files: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

/// The beginning of a library for this machine, and some more bytes.
fn elf() -> Vec<u8> {
    let machine = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".as_slice(), &[machine, 0], &[7; 5_000]].concat()
}

fn install(file: &Path, to: &Path, vouched: Option<String>) -> Result<String, String> {
    install_of(&[file], to, vouched)
}

fn install_of(files: &[&Path], to: &Path, vouched: Option<String>) -> Result<String, String> {
    let files = files.iter().map(|file| file.to_path_buf()).collect();
    let args = InstallArgs { files, to: to.into(), allow_unknown_sha256: vouched };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    run(&CoreVerb::Install(args), &mut out, &mut err).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

fn inside(arch: &str) -> String {
    format!("onepassword/lib/{arch}/{LIBRARY}")
}

#[test]
fn a_wheel_gives_its_library() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.whl");
    let (own, other) = (inside(std::env::consts::ARCH), inside("riscv64"));
    wheel(&file, &[(&other, b"x"), ("onepassword/core.py", b"y"), (&own, &elf())]);
    assert_eq!(wheel::library(&file), Ok(elf()));
    let library = dir.path().join("core.so");
    fs::write(&library, elf()).unwrap();
    assert_eq!(wheel::library(&library), Ok(elf()), "the library itself");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(wheel::library(&file).unwrap_err().contains("not a complete wheel"));
    for (files, words) in [
        (vec![(other.as_str(), b"x".as_slice())], "is not for this machine"),
        (vec![("a.py", b"x".as_slice())], "does not contain libop_uniffi_core.so"),
    ] {
        wheel(&file, &files);
        let why = wheel::library(&file).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}

/// Writes a source archive with these files.
fn sdist(path: &Path, files: &[(&str, &[u8])]) {
    let gzip = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("onepassword_sdk-0.4.2/src/{name}"), *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

#[test]
fn a_source_archive_gives_the_library_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.tar.gz");
    let (own, other) = (inside(std::env::consts::ARCH), inside("riscv64"));
    sdist(&file, &[(&other, b"x"), ("onepassword/core.py", b"y"), (&own, &elf())]);
    assert_eq!(wheel::library(&file), Ok(elf()));
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(wheel::library(&file).unwrap_err().contains("not a complete source archive"));
    for (files, words) in [
        (vec![(other.as_str(), b"x".as_slice())], "is not for this machine"),
        (vec![("a.py", b"x".as_slice())], "is not the source archive of onepassword-sdk"),
    ] {
        sdist(&file, &files);
        let why = wheel::library(&file).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn of_several_files_each_says_why_it_is_not_installed() {
    let dir = tempfile::tempdir().unwrap();
    let (library, text, to) = (dir.path().join("core.so"), dir.path().join("a.txt"), dir.path().join("to"));
    let foreign = dir.path().join("foreign.whl");
    fs::write(&library, elf()).unwrap();
    fs::write(&text, "text").unwrap();
    wheel(&foreign, &[(&inside("riscv64"), b"x")]);
    let refused = install_of(&[&text, &foreign], &to, None).unwrap_err();
    assert!(refused.contains("a.txt can't be installed: it is neither"), "{refused}");
    assert!(
        refused.contains("foreign.whl can't be installed: its libop_uniffi_core.so is not for"),
        "{refused}"
    );
    // one of them could be installed if it were known
    let refused = install_of(&[&text, &library], &to, None).unwrap_err();
    assert!(refused.contains("core.so is not a known release"), "{refused}");
}

#[test]
fn what_is_not_known_is_not_installed() {
    let dir = tempfile::tempdir().unwrap();
    let (file, to) = (dir.path().join("core.so"), dir.path().join("to"));
    fs::write(&file, elf()).unwrap();
    let sha256 = install::sum(&elf()).unwrap().sha256;
    let refused = install(&file, &to, None).unwrap_err();
    assert!(
        refused.contains("is not a known release of 1Password's SDK core")
            && refused.contains("pip download"),
        "{refused}"
    );
    let refused = install(&file, &to, Some("00".repeat(32))).unwrap_err();
    assert!(refused.contains("does not have the SHA-256 of --allow-unknown-sha256"), "{refused}");
    assert!(!to.exists(), "nothing was written");
    // its SHA-256 was given, but it is not a library: nothing of it remains
    let refused = install(&file, &to, Some(sha256.to_uppercase())).unwrap_err();
    assert!(refused.contains("nothing was installed"), "{refused}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    fs::write(&file, "#!/bin/sh").unwrap();
    assert!(install(&file, &to, None).unwrap_err().contains("neither a wheel nor a source archive"));
    assert!(install(&dir.path().join("none"), &to, None).unwrap_err().contains("can't be read"));
    assert!(install(dir.path(), &to, None).unwrap_err().contains("not a file"));
}

#[test]
fn what_was_there_stays_until_a_file_is_whole() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("name");
    fs::write(&place, "before").unwrap();
    let draft = Draft::write(dir.path(), "name", b"after").unwrap();
    assert_eq!(fs::read(&place).unwrap(), b"before");
    drop(draft);
    // a killed process has left a draft: the next one removes only that
    for file in [".name.0123abcd", ".name.short", ".other.0123abcd", "name.0123abcd"] {
        let left = File::create(dir.path().join(file)).unwrap();
        left.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
    }
    let alive = Draft::write(dir.path(), "name", b"another's").unwrap();
    drop(Draft::write(dir.path(), "name", b"after").unwrap());
    assert!(!dir.path().join(".name.0123abcd").exists());
    assert!(alive.path().exists(), "somebody else is about to publish it");
    drop(alive);
    for file in [".name.short", ".other.0123abcd", "name.0123abcd"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft that is given up is gone");
    Draft::with_mode(dir.path(), "name", b"after", 0o600).unwrap().publish().unwrap();
    assert_eq!(fs::read(&place).unwrap(), b"after");
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o7777, 0o600);
}
