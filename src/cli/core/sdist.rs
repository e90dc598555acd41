//! Extracts the library from the source archive of onepassword-sdk, a tar.gz file with the libraries of all
//! architectures.

use std::fs::File;
use std::io::{BufReader, Read};

use flate2::bufread::GzDecoder;
use tar::Archive;

use super::bounded::read;
use crate::resolver::service_account::install::LIBRARY;

/// The maximum unpacked size of an archive in bytes.
const MOST: u64 = 2 << 30;

/// The library for this machine.
pub(super) fn library(file: File) -> Result<Vec<u8>, String> {
    let broken = |error: std::io::Error| format!("it is not a complete source archive: {error}");
    let unpacked = GzDecoder::new(BufReader::new(file)).take(MOST);
    let ending = format!("/lib/{}/{LIBRARY}", std::env::consts::ARCH);
    let mut is_for_others = false;
    for entry in Archive::new(unpacked).entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        if path.ends_with(&ending) && entry.header().entry_type().is_file() {
            return read(entry).map_err(broken);
        }
        is_for_others |= path.ends_with(LIBRARY);
    }
    Err(match is_for_others {
        true => format!("its {LIBRARY} is not for this machine ({})", std::env::consts::ARCH),
        false => format!("it does not contain {LIBRARY}, so it is not the source archive of onepassword-sdk"),
    })
}
