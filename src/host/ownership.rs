//! Checks whether users other than root could change a trusted file.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Describes how users other than root and `owner` could change the content of an open file, if they could.
pub(crate) fn changeable_by_others(about: &Metadata, owner: Option<u32>) -> Option<String> {
    if about.uid() != 0 && Some(about.uid()) != owner {
        return Some(format!("it is owned by user {}", about.uid()));
    }
    (about.mode() & 0o022 != 0).then(|| format!("its mode is {:04o}", about.mode() & 0o7777))
}

/// Describes how users other than root and `owner` could replace a file through one of its parent
/// directories, if they could.
///
/// # Errors
///
/// The real path cannot be determined.
pub(crate) fn replaceable_by_others(path: &Path, owner: Option<u32>) -> io::Result<Option<String>> {
    let real = fs::canonicalize(path)?;
    Ok(real.ancestors().skip(1).find_map(|directory| open_to_others(directory, owner)))
}

fn open_to_others(directory: &Path, owner: Option<u32>) -> Option<String> {
    const STICKY: u32 = 0o1000; // users can then remove only their own files
    let of_it = |what: String| Some(format!("of its directory {} {what}", directory.display()));
    match fs::metadata(directory) {
        Err(error) => of_it(format!("nothing is known: {error}")),
        Ok(about) if about.uid() != 0 && Some(about.uid()) != owner => {
            of_it(format!("its owner is user {}", about.uid()))
        }
        Ok(about) if about.mode() & 0o022 != 0 && about.mode() & STICKY == 0 => {
            of_it(format!("the mode is {:04o}", about.mode() & 0o7777))
        }
        Ok(_) => None,
    }
}
