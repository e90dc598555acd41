//! `onecred demo`: runs both processes with a sample vault in a temporary directory, and asks as systemd
//! would. It needs no root privileges, systemd or account.

mod halves;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::get::{SocketAnswer, ask};
use crate::domain::name::{CredentialId, UnitName};
use halves::Halves;

/// One request of the demo.
struct Scene {
    unit: &'static str,
    credential: &'static str,
    what: &'static str,
}

const SCENES: [Scene; 4] = [
    Scene {
        unit: "app.service",
        credential: "db-password",
        what: "cold: the resolver looks op://Demo/database/password up",
    },
    Scene { unit: "app.service", credential: "db-password", what: "warm: the store has it" },
    Scene {
        unit: "web.service",
        credential: "db-password",
        what: "forbidden: no line gives it to this unit",
    },
    Scene { unit: "app.service", credential: "api-key", what: "missing: the item is not in the vault" },
];

/// Runs the demo.
pub fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "Two processes and a sample vault, in a temporary folder. Units ask as systemd asks for them.\n"
    )?;
    let halves = Halves::start()?;
    writeln!(out, "  provider  process {}, listens at {}", halves.provider(), halves.socket().display())?;
    writeln!(
        out,
        "  resolver  process {}, reads a vault file in the place of 1Password\n",
        halves.resolver()
    )?;
    for scene in &SCENES {
        play(scene, halves.socket(), out)?;
    }
    killed(halves, out)?;
    user_manager(out)?;
    writeln!(out, "Next: \"Install\" in README.md.")?;
    Ok(())
}

fn play(scene: &Scene, socket: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (unit, credential) = (UnitName::parse(scene.unit)?, CredentialId::parse(scene.credential)?);
    writeln!(out, "{unit}: LoadCredential={credential}:…  ({})", scene.what)?;
    let began = Instant::now();
    let answer = ask(socket, &unit, &credential)?;
    let took = began.elapsed();
    tell(&answer, Some(took), out)
}

fn tell(answer: &SocketAnswer, took: Option<Duration>, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    match answer {
        SocketAnswer::Value(value) => {
            // exposed: it is the sample's value, which the demo shows
            write!(out, "  -> {:?}, {} bytes", String::from_utf8_lossy(value.expose()), value.len())?;
            if let Some(took) = took {
                write!(out, ", after {:.2} ms", took.as_secs_f64() * 1e3)?;
            }
            writeln!(out, "\n")?;
        }
        SocketAnswer::Refused(reason) => {
            writeln!(out, "  -> the unit does not start (243/CREDENTIALS). Its journal says:")?;
            let (cause, remedy) = reason.split_once("; ").unwrap_or((reason, ""));
            writeln!(out, "     {cause};\n     {remedy}\n")?;
        }
    }
    Ok(())
}

/// Kills the provider while a unit waits for an answer: the keeper refuses.
fn killed(mut halves: Halves, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "batch@queue.service: LoadCredential=password:…  (the provider is killed while the unit waits for its answer)"
    )?;
    halves.stop_resolver()?; // so that the provider must wait for the answer
    let socket = halves.socket().to_owned();
    let asking = std::thread::spawn(move || -> Result<SocketAnswer, String> {
        let (unit, credential) = (UnitName::parse("batch@queue.service"), CredentialId::parse("password"));
        ask(&socket, &unit.map_err(|e| e.to_string())?, &credential.map_err(|e| e.to_string())?)
            .map_err(|e| e.to_string())
    });
    halves.wait_until_asked()?;
    halves.kill_provider()?;
    match asking.join() {
        Ok(Ok(SocketAnswer::Refused(_))) => {
            writeln!(out, "  -> refused by the keeper: neither an empty secret nor a part of one\n")?;
            Ok(())
        }
        Ok(Ok(SocketAnswer::Value(value))) => {
            Err(format!("the unit got {} bytes from a dead provider", value.len()).into())
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err("the unit's thread panicked".into()),
    }
}

/// Runs a real unit, if this user has a service manager.
fn user_manager(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let running = std::env::var_os("XDG_RUNTIME_DIR")
        .is_some_and(|dir| Path::new(&dir).join("systemd/private").exists());
    if !running {
        writeln!(out, "(This user has no service manager running, so no real unit was started.)")?;
        return Ok(());
    }
    let halves = Halves::start()?;
    let load = format!("LoadCredential=db-password:{}", halves.socket().display());
    let unit = format!("onecred-demo-{}.service", std::process::id());
    writeln!(
        out,
        "A real unit of this user's service manager:\n  systemd-run --user --wait --pipe -p {load} cat %d/db-password"
    )?;
    let mut command = Command::new("systemd-run");
    command.args(["--user", "--quiet", "--wait", "--pipe", "--collect"]).arg(format!("--unit={unit}"));
    command.arg("-p").arg(load).args(["sh", "-c", "cat \"$CREDENTIALS_DIRECTORY/db-password\""]);
    match command.output() {
        Ok(output) if output.status.success() => {
            let value = crate::domain::secret::SecretValue::new(output.stdout);
            tell(&SocketAnswer::Value(value), None, out)
        }
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("Failed to connect") => {
            Ok(writeln!(out, "  -> systemd-run finds no bus of this user's, so no real unit was started\n")?)
        }
        Ok(output) => {
            writeln!(out, "  -> it failed: {}\n", String::from_utf8_lossy(&output.stderr).trim())?;
            Err("the real unit did not get its credential".into())
        }
        Err(error) => Ok(writeln!(out, "  -> systemd-run can't be started: {error}\n")?),
    }
}
