//! Reads the PEM file of a source's `caFile`. Anyone who can change the file can impersonate the server, so
//! only root may be able to.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use reqwest::Certificate;

use crate::host::ownership::{changeable_by_others, replaceable_by_others};
use crate::ipc::{Class, Failure};

/// Reads at most 16 MiB of the file.
///
/// # Errors
///
/// The file cannot be read, or users other than root and the one of this process can change it.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, &error.to_string()))?;
    let own = Some(nix::unistd::geteuid().as_raw());
    let about = file.metadata().map_err(|error| unreadable(path, &error.to_string()))?;
    let changeable = changeable_by_others(&about, own);
    let why = match changeable {
        Some(why) => Some(why),
        None => replaceable_by_others(path, own).map_err(|error| unreadable(path, &error.to_string()))?,
    };
    if let Some(why) = why {
        let cause = format!("users other than root can change caFile {}: {why}", path.display());
        let remedy =
            format!("chown root:root {0} && chmod 644 {0}, in a directory of root's", path.display());
        return Err(Failure::new(Class::Misconfigured, cause, remedy));
    }
    let mut pem = Vec::new();
    file.take(16 << 20).read_to_end(&mut pem).map_err(|error| unreadable(path, &error.to_string()))?;
    Ok(pem)
}

/// The failure of a `caFile` that cannot be used.
fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("the certificates of caFile {} can't be read: {why}", path.display()),
        "name a PEM file with at least one certificate that the resolver's user can read",
    )
}

/// Checks whether a file can be used.
///
/// # Errors
///
/// The file cannot be read safely, or contains no certificate.
pub fn examine(path: &Path) -> Result<(), Failure> {
    certificates(path).map(drop)
}

/// The certificates in a file.
pub(super) fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    match Certificate::from_pem_bundle(&read(path)?) {
        Ok(certificates) if certificates.is_empty() => Err(unreadable(path, "it contains none")),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(unreadable(path, "it is not PEM")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn only_root_may_change_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(read(&path).unwrap_err().cause.contains("can't be read"));
        fs::write(&path, "PEM").unwrap();
        let mode = |of: &Path, mode: u32| fs::set_permissions(of, fs::Permissions::from_mode(mode)).unwrap();
        for (file, directory, words) in [
            (0o644, 0o755, None),
            (0o664, 0o755, Some("its mode is 0664")),
            (0o646, 0o755, Some("its mode is 0646")),
            (0o644, 0o777, Some("the mode is 0777")),
            (0o644, 0o1777, None),
        ] {
            mode(&path, file);
            mode(folder.path(), directory);
            match (read(&path), words) {
                (Ok(pem), None) => assert_eq!(pem, b"PEM"),
                (Err(failure), Some(words)) => {
                    assert_eq!(failure.class, Class::Misconfigured);
                    assert!(failure.cause.contains(words), "{failure}");
                }
                (result, _) => panic!("{file:o} in {directory:o}: {result:?}"),
            }
        }
        if nix::unistd::geteuid().is_root() {
            mode(folder.path(), 0o755);
            chown(&path, Some(1234), None).unwrap();
            assert!(read(&path).unwrap_err().cause.contains("owned by user 1234"));
        }
    }
}
