//! `onecred put`, `onecred rollback` and `onecred release`: set and remove overrides of secrets.

use std::error::Error;
use std::io::Write;
use std::os::fd::AsFd;

use super::bus;
use super::common::show::Paint;
use super::common::text::wrap;
use super::secrets::{self, Listed};
use super::token::prompt;
use crate::domain::name::SecretName;
use crate::ipc::{packet, version};
use crate::provider::base::limits::Form;
use crate::provider::observe::secret_status::Unusable;

/// The arguments of these verbs.
#[derive(Debug, Clone, clap::Args)]
pub struct NameArgs {
    /// The secret's name
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Overrides a secret with a value from standard input.
pub fn put(args: &NameArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    super::serve::harden();
    let name = SecretName::parse(&args.name)?;
    let value = prompt::value(&format!("New value of {name}, not shown: "), err)?;
    // exposed: it is passed to the provider in a memfd
    let bytes = value.expose();
    let ends_a_line = bytes.ends_with(b"\n");
    let size = bytes.len();
    let file = packet::sealed("onecred", std::iter::once(bytes))
        .map_err(|error| format!("no memfd for the value: {error}"))?;
    drop(value);
    let secret = bus::talk(async |bus| {
        let manager = bus.manager().await?;
        manager.put(name.as_str(), file.as_fd().into()).await?;
        Ok(secrets::one(&manager, name.as_str()).await)
    })?;
    if let Some(warning) = warning(&name, size, secret.as_ref()) {
        writeln!(err, "warning: {warning}")?;
    }
    if ends_a_line {
        writeln!(
            err,
            "warning: the value ends with a newline, which units get too; to omit it: printf %s VALUE | onecred put {name}"
        )?;
    }
    say(out, &format!("{name}: units that start from now on get this value, until: onecred release {name}"))
}

/// Why units will be refused a value, if they will. `secret` is its current state. If the user may not know
/// it, the warning uses the defaults.
fn warning(name: &SecretName, size: usize, secret: Option<&Listed>) -> Option<String> {
    let (all, sealed) = match secret {
        Some(secret) => {
            let error = secret.error.as_ref().filter(|_| secret.is_unusable());
            (error.map(|error| error.message.clone()), secret.sealed_error.clone())
        }
        None => {
            let judge = |form| Unusable::of(size, true, form, &name.to_credential());
            let (plain, sealed) = (judge(Form::Plain), judge(Form::Sealed));
            (plain.map(|it| it.to_string()), sealed.map(|it| it.to_string()))
        }
    };
    let end = format!("; or remove the override: onecred release {name}");
    let of_all = all.map(|why| format!("units are refused this value: {why}{end}"));
    of_all.or_else(|| {
        Some(format!("units that use the sealed socket are refused this value: {}{end}", sealed?))
    })
}

/// Overrides a secret with its previous value.
pub fn rollback(args: &NameArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let name = SecretName::parse(&args.name)?;
    let (version, secret) = bus::talk(async |bus| {
        let manager = bus.manager().await?;
        let version = manager.rollback(name.as_str()).await?;
        Ok((version::text(version), secrets::one(&manager, name.as_str()).await))
    })?;
    if let Some(warning) = secret.as_ref().and_then(|secret| warning(&name, 0, Some(secret))) {
        writeln!(err, "warning: {warning}")?;
    }
    say(
        out,
        &format!("{name}: units that start from now on get version {version}, until: onecred release {name}"),
    )
}

/// Removes the override of a secret.
pub fn release(args: &NameArgs, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let name = SecretName::parse(&args.name)?;
    bus::talk(async |bus| Ok(bus.manager().await?.release(name.as_str()).await?))?;
    say(out, &format!("{name}: units that start from now on get the value from 1Password"))
}

/// Prints what was done, wrapped at the width of the terminal.
fn say(out: &mut dyn Write, text: &str) -> Result<(), Box<dyn Error>> {
    for line in wrap(text, Paint::of_stdout().width(), "", "  ") {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::super::bus::Fault;
    use super::*;

    #[test]
    fn a_value_that_units_are_refused_is_warned_of() {
        let name = SecretName::parse("db").unwrap();
        let warn = |size, secret: Option<&Listed>| warning(&name, size, secret);
        for (size, words) in [
            (884_648, None),
            (
                884_649,
                Some(
                    "units that use the sealed socket are refused this value: too large for the sealed socket: the value has 884649 bytes",
                ),
            ),
            (1_048_574, Some("units that use the sealed socket")),
            (
                1_048_575,
                Some(
                    "units are refused this value: too large: the value has 1048575 bytes, and systemd accepts 1048574",
                ),
            ),
        ] {
            let warning = warn(size, None);
            assert_eq!(warning.is_some(), words.is_some(), "{warning:?}");
            assert!(words.is_none_or(|words| warning.as_ref().unwrap().starts_with(words)), "{warning:?}");
            assert!(warning.is_none_or(|warning| warning.ends_with("onecred release db")));
        }
        let fault =
            |name: &str| Some(Fault { name: format!("org.onecred.Error.{name}"), message: "x".into() });
        let with = |name| Listed { error: fault(name), ..Listed::default() };
        assert_eq!(warn(9_999_999, Some(&Listed::default())), None, "it is for no unit");
        assert_eq!(warn(1, Some(&with("Unavailable"))), None);
        assert!(
            warn(1, Some(&with("Empty"))).unwrap().starts_with("units are refused this value: x; or remove")
        );
        let sealed = Listed { sealed_error: Some("y".into()), ..with("Unavailable") };
        assert!(
            warn(1, Some(&sealed))
                .unwrap()
                .starts_with("units that use the sealed socket are refused this value: y")
        );
    }
}
