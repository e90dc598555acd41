//! The path of the storm's program in a machine, and where its parts write their results.

use std::{fs, io, path::Path};

/// The path of this program in a machine.
pub const PROGRAM: &str = "/usr/bin/onecred-storm";
/// Where the parts in units write their results.
pub const OUT: &str = "/srv/out";

/// Writes a file atomically.
pub fn keep(name: &str, content: &[u8]) -> io::Result<()> {
    let path = Path::new(OUT).join(name);
    fs::write(path.with_extension("new"), content)?;
    fs::rename(path.with_extension("new"), path)
}
