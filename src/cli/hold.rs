//! `onecred put`, `onecred rollback` and `onecred release`: break the glass, and mend it again.

use std::error::Error;
use std::io::Write;
use std::os::fd::AsFd;

use super::bus;
use super::token::prompt;
use crate::name::SecretName;
use crate::wire::{packet, version};

/// What systemd takes of all credentials of a unit, in bytes.
const SYSTEMD_TAKES: usize = 1 << 20;

/// What these are told.
#[derive(Debug, Clone, clap::Args)]
pub struct NameArgs {
    /// The secret's name
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Has a value from standard input stand in for a secret's.
pub fn put(args: &NameArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    super::serve::harden();
    let name = SecretName::parse(&args.name)?;
    let value = prompt::value(&format!("Value to stand in for {name}, not shown: "), err)?;
    // exposed: it goes to the provider in a memory file
    let bytes = value.expose();
    let ends_a_line = bytes.ends_with(b"\n");
    let size = bytes.len();
    let file = packet::sealed("onecred", std::iter::once(bytes))
        .map_err(|error| format!("no memory file for the value: {error}"))?;
    drop(value);
    bus::talk(async |bus| Ok(bus.manager().await?.put(name.as_str(), file.as_fd().into()).await?))?;
    if size > SYSTEMD_TAKES {
        writeln!(
            err,
            "warning: the value has {size} bytes, and systemd takes 1 MiB for all credentials of a unit together: units that ask for it are refused; put a smaller one, or: onecred release {name}"
        )?;
    }
    if ends_a_line {
        writeln!(
            err,
            "warning: the value ends with a newline, which units get too; to leave it out: printf %s VALUE | onecred put {name}"
        )?;
    }
    writeln!(out, "{name}: units that start from now on get this value, until: onecred release {name}")?;
    Ok(out.flush()?)
}

/// Has the version before stand in for a secret's value.
pub fn rollback(args: &NameArgs, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let name = SecretName::parse(&args.name)?;
    let version = bus::talk(async |bus| Ok(bus.manager().await?.rollback(name.as_str()).await?))?;
    let version = version::text(version);
    writeln!(
        out,
        "{name}: units that start from now on get version {version}, until: onecred release {name}"
    )?;
    Ok(out.flush()?)
}

/// Ends what stands in for a secret.
pub fn release(args: &NameArgs, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let name = SecretName::parse(&args.name)?;
    bus::talk(async |bus| Ok(bus.manager().await?.release(name.as_str()).await?))?;
    writeln!(out, "{name}: units that start from now on get what 1Password has")?;
    Ok(out.flush()?)
}
