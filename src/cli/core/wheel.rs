//! Extracts the library from a wheel, a zip file with the library for one architecture.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use zip::ZipArchive;

use super::bounded::read;
use super::sdist;
use crate::resolver::service_account::install::LIBRARY;

/// The content of the library.
pub(super) fn library(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("it can't be read: {error}");
    let mut file = File::open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err("it is not a file".into());
    }
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    match magic.as_slice() {
        b"PK\x03\x04" => in_wheel(file),
        b"\x7fELF" => read(file).map_err(unreadable),
        [0x1f, 0x8b, ..] => sdist::library(file),
        _ => Err(format!("it is neither a wheel nor a source archive nor {LIBRARY}")),
    }
}

fn in_wheel(file: File) -> Result<Vec<u8>, String> {
    let broken = |error: zip::result::ZipError| format!("it is not a complete wheel: {error}");
    let mut wheel = ZipArchive::new(file).map_err(broken)?;
    let ending = format!("/lib/{}/{LIBRARY}", std::env::consts::ARCH);
    let names = wheel.file_names().filter_map(Result::ok).map(Into::<String>::into);
    let names: Vec<String> = names.filter(|name| name.ends_with(LIBRARY)).collect();
    let fitting: Vec<&String> = names.iter().filter(|name| name.ends_with(&ending)).collect();
    match (fitting.as_slice(), names.is_empty()) {
        ([name], _) => read(wheel.by_name(name).map_err(broken)?)
            .map_err(|error| format!("it is not a complete wheel: {error}")),
        ([], true) => {
            Err(format!("it does not contain {LIBRARY}, so it is not a wheel of onepassword-sdk for Linux"))
        }
        ([], false) => Err(format!("its {LIBRARY} is not for this machine ({})", std::env::consts::ARCH)),
        _ => Err(format!("it contains {} files {ending}", fitting.len())),
    }
}
