//! Starts real units, if this user may: with the user's service manager, or as root with the system's.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Output};

use super::processes::{Log, Processes};
use super::{PASSWORD, Steps};
use crate::domain::secret::SecretValue;

/// The maximum number of lines of a journal to show.
const LINES: usize = 6;

/// A service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    System,
    User,
}

impl Manager {
    /// The service manager that this user can start units with.
    fn available() -> Option<Self> {
        let of_user = || {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR")?;
            Path::new(&runtime).join("systemd/private").exists().then_some(Self::User)
        };
        let is_root = nix::unistd::geteuid().is_root();
        match is_root && Path::new("/run/systemd/private").exists() {
            true => Some(Self::System),
            false => of_user(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::System => "the system's service manager",
            Self::User => "your service manager",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::System => &[],
            Self::User => &["--user"],
        }
    }

    /// Runs a unit that prints a credential.
    fn run(self, unit: &str, credential: &str, socket: &Path) -> std::io::Result<Output> {
        let mut command = Command::new("systemd-run");
        command.args(self.options()).args(["--quiet", "--wait", "--pipe", "--collect"]);
        command.arg(format!("--unit={unit}"));
        command.arg("-p").arg(format!("LoadCredential={credential}:{}", socket.display()));
        command.args(["sh", "-c", "cat \"$CREDENTIALS_DIRECTORY\"/*"]).output()
    }

    /// The lines about credentials in a unit's journal. Empty if this user cannot read it.
    fn journal(self, unit: &str) -> Vec<String> {
        if self == Self::System {
            let _ = Command::new("journalctl").arg("--sync").output();
        }
        let mut command = Command::new("journalctl");
        command.args(self.options()).args(["--quiet", "--no-pager", "--no-hostname", "-u", unit]);
        let said = command.output().map(|output| output.stdout).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines = said.lines().filter(|line| line.to_lowercase().contains("credential"));
        lines.take(LINES).map(str::to_owned).collect()
    }
}

/// Starts a unit that gets its credential, and one that is refused it.
pub(super) fn run(steps: &mut Steps<'_>) -> Result<(), Box<dyn Error>> {
    let Some(manager) = Manager::available() else {
        return steps.wrapped(
            "No service manager is available to this user, so the demo starts no real units.",
            "",
            "",
        );
    };
    let log = if manager == Manager::System { Log::Journal } else { Log::File };
    let processes = Processes::start(log)?;
    let unit = |what: &str| format!("onecred-demo-{what}-{}.service", std::process::id());
    let (gets, refused) = (unit("gets"), unit("refused"));
    let output = match manager.run(&gets, "db-password", processes.socket()) {
        Ok(output) => output,
        Err(error) => return steps.wrapped(&format!("systemd-run can't be started: {error}"), "", ""),
    };
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() && errors.contains("Failed to connect") {
        let what = "systemd-run finds no bus of this user, so the demo starts no real units.";
        return steps.wrapped(what, "", "");
    }
    let value = SecretValue::new(output.stdout);
    // exposed: it is the sample's value, which the demo shows
    if !output.status.success() || value.expose() != PASSWORD.as_bytes() {
        return Err(format!("the real unit {gets} did not get its credential: {errors}").into());
    }
    steps.done(&format!("Started by {}, {gets} prints its credential:", manager.name()))?;
    steps.quote(&format!("{PASSWORD:?}, {} bytes", value.len()))?;
    if manager.run(&refused, "api-key", processes.socket())?.status.success() {
        return Err(format!("{refused} started without its credential").into());
    }
    steps.done(&format!("{refused} asks for a credential that it may not have, and does not start."))?;
    let lines = manager.journal(&refused);
    if !lines.is_empty() {
        steps.wrapped("Its journal:", "  ", "  ")?;
    }
    lines.iter().try_for_each(|line| steps.quote(line))
}
