//! Checks by `systemd-creds` whether systemd can decrypt an encrypted credential. Only the size of the value
//! is kept; the value is wiped.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// The result of decrypting a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Decrypted {
    /// It has a value of this size in bytes.
    Size(usize),
    /// systemd cannot decrypt it, for this reason.
    Fails(String),
    /// Unknown: only root can decrypt, or `systemd-creds` is not installed.
    Unknown,
}

/// Decrypts a file that a unit loads under this ID.
pub(in crate::cli) fn file(id: &str, path: &Path) -> Decrypted {
    let mut command = Command::new("systemd-creds");
    command.arg("decrypt").arg(format!("--name={id}")).arg(path).arg("-").stdin(Stdio::null());
    run(command, None)
}

/// Decrypts the value of a `SetCredentialEncrypted=` line. `id` is the credential ID.
pub(in crate::cli) fn literal(id: &str, encrypted: &[u8]) -> Decrypted {
    let mut command = Command::new("systemd-creds");
    command.arg("decrypt").arg(format!("--name={id}")).args(["-", "-"]).stdin(Stdio::piped());
    run(command, Some(Base64::encode_string(encrypted)))
}

fn run(mut command: Command, input: Option<String>) -> Decrypted {
    if !nix::unistd::geteuid().is_root() {
        return Decrypted::Unknown;
    }
    let Ok(mut child) = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
        return Decrypted::Unknown;
    };
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let size = std::thread::scope(|scope| {
        scope.spawn(|| {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // if the program ends before, its exit status gives the reason
                let _ = stdin.write_all(input.as_bytes());
            }
        });
        stdout.map_or(0, count)
    });
    match child.wait_with_output() {
        Ok(output) if output.status.success() => Decrypted::Size(size),
        Ok(output) => Decrypted::Fails(reason(&String::from_utf8_lossy(&output.stderr))),
        Err(_) => Decrypted::Unknown,
    }
}

/// The size of a value. The value itself is not kept.
fn count(mut from: impl Read) -> usize {
    let (mut buffer, mut size) = (Zeroizing::new([0; 16 << 10]), 0_usize);
    loop {
        match from.read(&mut *buffer) {
            Ok(0) | Err(_) => return size,
            Ok(read) => size = size.saturating_add(read),
        }
    }
}

/// The last line of the error output, without redundant parts.
fn reason(stderr: &str) -> String {
    let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it gives no reason");
    last.strip_prefix("Failed to decrypt credential: ").unwrap_or(last).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted() {
        assert_eq!(count(&[b'x'; 40_000][..]), 40_000);
        assert_eq!(count(&b""[..]), 0);
    }

    #[test]
    fn why_it_fails() {
        for (stderr, expected) in [
            ("Failed to decrypt credential: Bad message\n", "Bad message"),
            ("x\nEncrypted file too short.\n\n", "Encrypted file too short"),
            ("", "it gives no reason"),
        ] {
            assert_eq!(reason(stderr), expected);
        }
    }
}
