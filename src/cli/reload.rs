//! `onecred reload`: makes the provider load the configuration again.

use std::error::Error;
use std::io::Write;

use super::bus::{self, Fault};
use super::configuration::Configuration;
use crate::host::clock;

/// Runs the verb.
pub fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (reloaded, active) = bus::talk(async |bus| {
        let manager = bus.manager().await?;
        let reloaded = manager.reload().await.map_err(Fault::from);
        Ok((reloaded, Configuration::ask(&manager).await))
    })?;
    match reloaded {
        Err(Fault { name, message }) if name == "org.onecred.Error.Misconfigured" => {
            let so = match active {
                Some(active) if active.state == "none" => "nothing is served until they are fixed".to_owned(),
                Some(active) => format!("{} stays active", active.name(clock::unix())),
                None => "the old one stays active".to_owned(), // for users who may reload but not inspect
            };
            Err(format!("the configuration has errors; {so}: {message} (all errors: onecred check)").into())
        }
        Err(fault) => Err(fault.into()),
        Ok(()) => Ok(writeln!(out, "the configuration was loaded")?),
    }
}
