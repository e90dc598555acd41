//! A temporary machine with onecred and the fake Connect server, for manual experiments.
//!
//! With `BARE=DIRECTORY` in the environment it has neither; instead the directory is overlaid on its root.
//!
//! `machine [SUITE] [COMMAND…]` boots it (by default with the host's systemd), runs a command or a shell in
//! it, and removes it.
use onecred_integration::{
    machine::{Plan, Suite, clear_on_signals},
    setup::{Setup, forget_installations, probe_is_at},
    stage::Stage,
};
use std::{env, error::Error, process::ExitCode};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    clear_on_signals()?;
    let mut words = env::args().skip(1);
    let suite: Suite = words.next().as_deref().unwrap_or("host").parse()?;
    let command: Vec<String> = words.collect();
    probe_is_at(env::current_exe()?.with_file_name("probe").leak());
    let stage = match (env::var_os("BARE"), env::var_os("VAULT")) {
        (Some(folder), _) => Stage::of(&Plan::new(suite).layer(folder)),
        (None, Some(_)) => with_onecred(Setup::vault(suite)),
        (None, None) => with_onecred(Setup::connect(suite)),
    };
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

fn with_onecred(setup: Setup) -> Stage {
    setup.secret("password", "op://My Vault/db/password", &["app*"]).stage()
}
