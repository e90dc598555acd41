//! Runs programs of systemd.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::domain::secret::SecretValue;

/// Whether systemd is the init system of this machine.
pub(in crate::cli) fn runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Runs systemctl. The error contains its message.
pub(in crate::cli) fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("systemctl");
    said(command.args(arguments), None)
        .map(drop)
        .map_err(|why| format!("systemctl {}: {why}", arguments.join(" ")))
}

/// Runs a program with a secret on its standard input. If it fails, its standard error is the reason.
pub(in crate::cli) fn said(command: &mut Command, input: Option<&SecretValue>) -> Result<Vec<u8>, String> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it is not installed".to_owned(),
        _ => error.to_string(),
    })?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // exposed: the program needs it. If the program ends before reading it, its exit status gives the
        // reason
        let _ = pipe.write_all(input.expose());
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(if lines.is_empty() { output.status.to_string() } else { lines.join("; ") })
}
