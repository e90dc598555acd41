//! Runs `systemctl` and `systemd-creds`. Secrets are passed only on standard input.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64ct::{Base64, Encoding};

use crate::cli::common::systemd::said;
pub(super) use crate::cli::common::systemd::{runs, systemctl};
use crate::domain::secret::SecretValue;

/// The resolver's socket in an installed onecred.
const SOCKET: &str = "/run/onecred/resolver.sock";
/// The resolver's unit on D-Bus.
const RESOLVER: &str = "/org/freedesktop/systemd1/unit/onecred_2dresolver_2eservice";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Starts the resolver's socket, if `path` is the installed one. A failure shows when the resolver is asked.
pub(super) fn start_socket(path: &Path) {
    if path == Path::new(SOCKET) && runs() {
        let _ = systemctl(&["start", "onecred-resolver.socket"]);
    }
}

/// The file from which the resolver's unit loads a credential in plain text, according to systemd.
pub(super) fn loads(credential: &str) -> Option<PathBuf> {
    let mut command = Command::new("busctl"); // systemctl of version 252 does not show it
    command.args(["get-property", "org.freedesktop.systemd1", RESOLVER, SERVICE, "LoadCredential"]);
    loaded(&String::from_utf8_lossy(&said(&mut command, None).ok()?), credential)
}

/// Parses what busctl prints for `LoadCredential=`: `a(ss) 1 "ID" "FILE"`.
fn loaded(shown: &str, credential: &str) -> Option<PathBuf> {
    let quoted: Vec<&str> = shown.split('"').skip(1).step_by(2).collect();
    let mut pairs = quoted.chunks_exact(2).filter(|pair| pair[0] == credential && pair[1].starts_with('/'));
    pairs.next().map(|pair| pair[1].into())
}

/// Whether systemd-creds is installed.
pub(super) fn has_creds() -> bool {
    said(Command::new("systemd-creds").arg("--version"), None).is_ok()
}

/// Encrypts a token as a credential with this name.
pub(super) fn encrypt(name: &str, key: Option<&str>, token: &SecretValue) -> Result<Vec<u8>, String> {
    let with = |key: Option<&str>| {
        let mut command = Command::new("systemd-creds");
        command.arg("encrypt").arg(format!("--name={name}"));
        command.args(key.map(|key| format!("--with-key={key}"))).args(["-", "-"]);
        said(&mut command, Some(token))
    };
    let made = match key {
        Some("null") => with(key).or_else(|why| with(Some("tpm2-absent")).map_err(|_| why)), // before systemd 256
        _ => with(key),
    };
    made.map_err(|why| format!("systemd-creds can't encrypt it: {why}"))
}

/// Whether an encrypted credential is only encoded: systemd-creds found neither a TPM nor a persistent place
/// for a host key.
pub(super) fn is_only_encoded(credential: &[u8]) -> bool {
    const NULL_KEY: [u8; 16] = *b"\x05\x84\x69\xda\xf6\xf5\x43\x24\x80\x05\x49\xda\x0f\x8e\xa2\xfb";
    let text: Vec<u8> =
        credential.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(24).collect();
    let mut start = [0; 18];
    Base64::decode(&text, &mut start).is_ok_and(|start| start.starts_with(&NULL_KEY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unit_loads() {
        let shown = r#"a(ss) 2 "token" "/persist/root/.config/op/token" "staging.token" "/etc/onecred/staging.token""#;
        assert_eq!(loaded(shown, "token"), Some("/persist/root/.config/op/token".into()));
        assert_eq!(loaded(shown, "staging.token"), Some("/etc/onecred/staging.token".into()));
        assert_eq!(loaded(shown, "other"), None);
        assert_eq!(loaded(r#"a(ss) 1 "token" "imported""#, "token"), None);
        assert_eq!(loaded("a(ss) 0", "token"), None);
    }
}
