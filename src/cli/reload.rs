//! `onecred reload`: has the provider read the configuration anew.

use std::error::Error;
use std::io::Write;

use super::bus::{self, Fault};

/// Reloads.
pub fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (reloaded, serves) = bus::talk(async |bus| {
        let manager = bus.manager().await?;
        let reloaded = manager.reload().await.map_err(Fault::from);
        // who may not ask is told of the usual case
        let serves = manager.configuration_error().await.map_or(true, |error| error.is_empty());
        Ok((reloaded, serves))
    })?;
    match reloaded {
        Err(Fault { name, message }) if name == "org.onecred.Error.Misconfigured" => {
            let so = match serves {
                true => "the one before stays in force",
                false => "nothing is served until they are mended",
            };
            Err(format!(
                "the configuration has errors, so that {so}: {message} (all that is wrong: onecred check)"
            )
            .into())
        }
        Err(fault) => Err(fault.into()),
        Ok(()) => Ok(writeln!(out, "the configuration was read anew")?),
    }
}
