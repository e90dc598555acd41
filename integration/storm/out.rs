//! Where the storm's program is in a machine, and where its parts leave their results.

use std::{fs, io, path::Path};

/// Where this program is in a machine.
pub const PROGRAM: &str = "/usr/bin/onecred-storm";
/// Where those in units leave what they have seen.
pub const OUT: &str = "/srv/out";

/// Leaves a file, whole.
pub fn keep(name: &str, content: &[u8]) -> io::Result<()> {
    let path = Path::new(OUT).join(name);
    fs::write(path.with_extension("new"), content)?;
    fs::rename(path.with_extension("new"), path)
}
