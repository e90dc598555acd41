//! `onecred demo`: runs both processes with a sample vault in a temporary directory, and asks as systemd
//! would. It needs no root privileges, systemd or account.

mod processes;
mod real_units;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::cli::common::text::{USUAL, wrap};
use crate::domain::secret::SecretValue;
use processes::{Log, Processes};

const PASSWORD: &str = "correct horse battery staple";
const NEW_PASSWORD: &str = "a new password";

const INTRODUCTION: &str = "\
onecred gives secrets from 1Password to systemd units. These two entries give
the field op://Demo/database/password to app.service as credential db-password:

  /etc/onecred/secrets.json:
    { \"name\": \"db-password\", \"reference\": \"op://Demo/database/password\",
      \"units\": [\"app\"] }
  app.service:
    LoadCredential=db-password:/run/onecred/credential.sock

The demo runs onecred with a sample vault in place of 1Password, and asks at its
socket as systemd does before it starts a unit.
";

/// Writes steps, each with a mark.
struct Steps<'o> {
    out: &'o mut dyn Write,
}

impl Steps<'_> {
    /// What a step has shown.
    fn done(&mut self, what: &str) -> Result<(), Box<dyn Error>> {
        self.wrapped(what, "✓ ", "  ")
    }

    /// Text to show: a value, a reason, or a line of a journal.
    fn quote(&mut self, text: &str) -> Result<(), Box<dyn Error>> {
        self.wrapped(text, "    ", "      ")
    }

    fn wrapped(&mut self, text: &str, first: &str, others: &str) -> Result<(), Box<dyn Error>> {
        for line in wrap(text, USUAL, first, others) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }
}

/// Runs the demo.
pub fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let processes = Processes::start(Log::File)?;
    writeln!(out, "{INTRODUCTION}")?;
    let mut steps = Steps { out };
    values(&processes, &mut steps)?;
    refusals(&processes, &mut steps)?;
    killed(processes, &mut steps)?;
    writeln!(steps.out)?;
    real_units::run(&mut steps)?;
    steps.wrapped("\nTo install onecred, see \"Install\" in README.md.", "", "")
}

/// The answer to a unit's request.
enum Answer {
    Value(SecretValue),
    /// The reason.
    Refused(String),
}

/// Requests the credential of a unit, each time from another process, as systemd does: all requests of one
/// process belong to one start, for which values do not change.
fn request(socket: &Path, unit: &str, credential: &str) -> Result<Answer, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("get").arg("--socket").arg(socket).args(["--as", unit, credential]);
    let output = command.env("COLUMNS", "10000").output()?; // so that the reason is one line
    if output.status.success() {
        return Ok(Answer::Value(SecretValue::new(output.stdout)));
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let errors = errors.trim();
    match errors.split_once(" refused: ") {
        Some((_, reason)) => Ok(Answer::Refused(reason.to_owned())),
        None => Err(errors.into()),
    }
}

fn values(processes: &Processes, steps: &mut Steps<'_>) -> Result<(), Box<dyn Error>> {
    let mut gets = |what: &str, expected: &str| -> Result<(), Box<dyn Error>> {
        match request(processes.socket(), "app.service", "db-password")? {
            // exposed: it is the sample's value, which the demo shows
            Answer::Value(value) if value.expose() == expected.as_bytes() => {
                steps.done(what)?;
                steps.quote(&format!("{expected:?}, {} bytes", value.len()))
            }
            Answer::Value(_) => Err("app.service got a wrong value".into()),
            Answer::Refused(reason) => Err(reason.into()),
        }
    };
    gets("app.service starts. onecred looks up the reference, and the unit gets the value:", PASSWORD)?;
    gets("It starts again. The item has not changed, so it gets the value from memory:", PASSWORD)?;
    processes.change_password(PASSWORD, NEW_PASSWORD)?;
    gets("The password changes in the vault. app.service starts, and gets the new value:", NEW_PASSWORD)
}

fn refusals(processes: &Processes, steps: &mut Steps<'_>) -> Result<(), Box<dyn Error>> {
    for (unit, credential, what) in [
        (
            "web.service",
            "db-password",
            "web.service asks for the password of app.service, and does not start:",
        ),
        ("app.service", "api-key", "app.service asks for an item that does not exist, and does not start:"),
    ] {
        match request(processes.socket(), unit, credential)? {
            Answer::Refused(reason) => {
                steps.done(what)?;
                steps.quote(&reason)?;
            }
            Answer::Value(_) => return Err(format!("{unit} got {credential}").into()),
        }
    }
    Ok(())
}

/// Kills the provider while a unit waits for an answer. Its keeper, a process that holds the connections,
/// then refuses the request.
fn killed(mut processes: Processes, steps: &mut Steps<'_>) -> Result<(), Box<dyn Error>> {
    processes.stop_resolver()?; // so that the provider must wait for the answer
    let socket = processes.socket().to_owned();
    let asking = std::thread::spawn(move || {
        request(&socket, "batch@queue.service", "password").map_err(|error| error.to_string())
    });
    processes.wait_until_asked()?;
    processes.kill_provider()?;
    match asking.join() {
        Ok(Ok(Answer::Refused(_))) => steps.done(
            "onecred is killed while batch@queue.service waits for its value. The unit does not start: it gets \
             neither an empty value nor a part of one.",
        ),
        Ok(Ok(Answer::Value(value))) => {
            Err(format!("the unit got {} bytes from a dead provider", value.len()).into())
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err("the unit's thread panicked".into()),
    }
}
