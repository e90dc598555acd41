//! A throw-away machine with onecred and the fake Connect server, to try things on by hand.
//!
//! `machine [SUITE] [COMMAND…]` boots it (of the host's systemd, if nothing is said), runs a command or a shell in it, and is gone.
use onecred_integration::{
    machine::{Suite, clear_on_signals},
    setup::{Setup, forget_installations, probe_is_at},
};
use std::{env, error::Error, process::ExitCode};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    clear_on_signals()?;
    let mut words = env::args().skip(1);
    let suite: Suite = words.next().as_deref().unwrap_or("host").parse()?;
    let command: Vec<String> = words.collect();
    probe_is_at(env::current_exe()?.with_file_name("probe").leak());
    let setup = match env::var("VAULT").is_ok() {
        true => Setup::vault(suite),
        false => Setup::connect(suite),
    };
    let stage = setup.secret("password", "op://My Vault/db/password", &["app*"]).stage();
    let mut inside = stage.inside();
    match &command[..] {
        [] => inside.arg("bash"),
        words => inside.args(words),
    };
    let status = inside.status()?;
    drop(stage);
    forget_installations();
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
