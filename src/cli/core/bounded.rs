//! Reads a library up to a size limit.

use std::io::Read;

/// The maximum size of a library in bytes.
const MOST: u64 = 256 << 20;

pub(super) fn read(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(std::io::Error::other(format!("the library has over {MOST} bytes")));
    }
    Ok(bytes)
}
