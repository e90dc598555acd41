//! Passes values by file descriptor, never in a message: sealed memfds to callers, and an administrator's
//! file to onecred.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::sys::stat::{SFlag, fstat};

use super::error::BusError;
use crate::domain::secret::SecretValue;
use crate::ipc::packet;

/// Returns a value as an immutable memfd, to be read from offset 0.
pub(super) fn out(value: &SecretValue) -> io::Result<OwnedFd> {
    // exposed: the caller may have the value
    let mut file = File::from(packet::sealed("onecred", std::iter::once(value.expose()))?);
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

/// Reads all of an administrator's file. Pipes and sockets are rejected, because reading them could block.
pub(super) fn take(fd: impl AsFd, allow_empty: bool) -> Result<SecretValue, BusError> {
    let unfit = |why: &str| BusError::InvalidArgument(format!("the value's descriptor {why}"));
    let failed = |error: io::Error| unfit(&format!("can't be read: {error}"));
    let file = File::from(fd.as_fd().try_clone_to_owned().map_err(failed)?);
    let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(unfit("is no file: pass a memfd, or a regular file (onecred put reads a pipe for you)"));
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > SecretValue::MAX {
        let most = SecretValue::MAX;
        return Err(BusError::TooLarge(format!("the value has {size} bytes, and {most} are the most")));
    }
    let mut bytes = vec![0; size];
    let read = file.read_exact_at(&mut bytes, 0);
    let value = SecretValue::new(bytes);
    read.map_err(failed)?;
    if value.is_empty() && !allow_empty {
        return Err(BusError::Empty(
            "the value is empty; give it by standard input: onecred put NAME <FILE; or set \"allowEmpty\": true for the secret".into(),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_value_goes_out_and_comes_in_by_descriptor() {
        let fd = out(&SecretValue::new(b"hunter2".to_vec())).unwrap();
        let mut text = String::new();
        File::from(fd.try_clone().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hunter2");
        assert!(File::from(fd.try_clone().unwrap()).write_all(b"x").is_err(), "it is sealed");
        assert_eq!(take(&fd, false).unwrap().expose(), b"hunter2");
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert!(matches!(take(&reader, true), Err(BusError::InvalidArgument(_))));
        assert!(matches!(take(tempfile::tempfile().unwrap(), false), Err(BusError::Empty(_))));
        assert!(take(tempfile::tempfile().unwrap(), true).is_ok_and(|value| value.is_empty()));
    }
}
