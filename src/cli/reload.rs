//! `onecred reload`: has the provider read the configuration anew.

use std::error::Error;
use std::io::Write;

use super::bus::{self, Fault};

/// Reloads.
pub fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let reloaded = bus::talk(async |bus| Ok(bus.manager().await?.reload().await?));
    match reloaded {
        Err(Fault { name, message }) if name == "org.onecred.Error.Misconfigured" => Err(format!(
            "the configuration has errors, so that the one before stays in force: {message} (all that is wrong: onecred check)"
        )
        .into()),
        Err(fault) => Err(fault.into()),
        Ok(()) => Ok(writeln!(out, "the configuration was read anew")?),
    }
}
