//! `onecred token set`: asks for a token, tests it, and writes it only if it is valid.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::place::Places;
use super::source::Chosen;
use super::verdict::Verdict;
use super::{Where, form, prompt, report, system};
use crate::cli::resolve;
use crate::domain::secret::SecretValue;

/// The arguments of `onecred token set`.
#[derive(Debug, Clone, clap::Args)]
pub struct SetArgs {
    /// The source of the token, and how to reach the resolver.
    #[command(flatten)]
    pub place: Where,
    /// The key to encrypt the token with; auto uses the TPM if there is one
    #[arg(long, value_name = "KEY", value_enum, default_value_t = TokenKey::Auto, conflicts_with = "file")]
    pub with_key: TokenKey,
    /// Store it as a plain-text file that only root can read: at PATH, or else in the file that the resolver loads,
    /// or else in /etc/onecred
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    pub file: Option<Option<PathBuf>>,
    /// Write it without testing it
    #[arg(long)]
    pub no_check: bool,
}

/// The keys of systemd-creds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenKey {
    /// systemd's default
    Auto,
    /// A key of this host, stored on disk
    Host,
    /// The TPM
    Tpm2,
    /// Both
    #[value(name = "host+tpm2")]
    HostTpm2,
    /// No key: the token is encoded, not encrypted
    Null,
}

impl TokenKey {
    fn as_argument(self) -> Option<&'static str> {
        match self {
            Self::Auto => None, // systemd's default
            Self::Host => Some("host"),
            Self::Tpm2 => Some("tpm2"),
            Self::HostTpm2 => Some("host+tpm2"),
            Self::Null => Some("null"),
        }
    }
}

/// Sets a token. Returns the exit code.
pub(super) fn run(args: &SetArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let chosen = Chosen::find(&args.place)?;
    if !chosen.takes_token() {
        return Err(format!(
            "source {} is a vault file, which needs no token; nothing was changed",
            chosen.name
        )
        .into());
    }
    let places = Places::new(chosen.source.token.clone());
    let file = match &args.file {
        None => {
            places.can_be_encrypted()?;
            None
        }
        Some(asked) => {
            let loaded = system::loads(places.credential.as_str());
            Some((places.for_plain(asked.as_deref(), loaded.as_deref())?, loaded))
        }
    };
    let token =
        prompt::token(&format!("Token of source {} ({}), not shown: ", chosen.name, chosen.kind()), err)?;
    let file = file.as_ref().map(|(path, loaded)| (path.as_path(), loaded.as_deref()));
    match is_set(args, &chosen, &places, file, &token, out, err)? {
        true => take_up(&places, args.file.is_some(), out, err),
        false => Ok(1),
    }
}

/// Tests a token and writes it: encrypted, or to a file, given with the one that the unit loads. Changes
/// nothing unless the token is valid.
fn is_set(
    args: &SetArgs,
    chosen: &Chosen,
    places: &Places,
    file: Option<(&Path, Option<&Path>)>,
    token: &SecretValue,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<bool, Box<dyn Error>> {
    let odd = form::check(token, chosen, &resolve::leniency(args.place.development))?;
    odd.iter().try_for_each(|odd| writeln!(err, "warning: {odd}"))?;
    if args.no_check {
        writeln!(err, "warning: the token was not tested")?;
    } else {
        match chosen.probe(&args.place, Some(token)) {
            Ok(probed) => report::show(chosen, &probed, out, err)?,
            Err(failure) => {
                let tried = match Verdict::of(&failure).is_of_token() {
                    Some(_) => "the token is refused",
                    None => "the token could not be tested (to write it without a test: --no-check)",
                };
                writeln!(err, "onecred: {tried}, and nothing was changed: {failure}")?;
                return Ok(false);
            }
        }
    }
    let written = match file {
        Some((path, loaded)) => places.keep_plain(path, loaded, token)?,
        None => places.keep_encrypted(args.with_key.as_argument(), token)?,
    };
    let encoded = || std::fs::read(places.encrypted()).is_ok_and(|file| system::is_only_encoded(&file));
    if file.is_none() && encoded() {
        writeln!(
            err,
            "warning: the token is encoded and not encrypted: no key of a TPM or of this host was used"
        )?;
    }
    written.iter().try_for_each(|path| writeln!(out, "written: {}", path.display()))?;
    if let Some((path, _)) = file
        && let Some(stray) = places.forget_default(path)?
    {
        writeln!(out, "removed: {}, an earlier token in plain text", stray.display())?;
    }
    let (left, what) = match file {
        Some(_) => (places.encrypted(), "an earlier encrypted token"),
        None => (places.plain(), "an earlier token in plain text"),
    };
    if left.exists() {
        writeln!(err, "warning: {} contains {what}, which is not used any more: remove it", left.display())?;
    }
    Ok(true)
}

/// Makes the resolver load it. The provider keeps running, and repeats questions that the resolver did not
/// answer.
fn take_up(
    places: &Places,
    plain: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Box<dyn Error>> {
    if !system::runs() {
        writeln!(err, "warning: systemd does not run on this machine, so the resolver was not restarted")?;
        return Ok(0);
    }
    let done = system::systemctl(&["daemon-reload"])
        .and_then(|()| system::systemctl(&["restart", "onecred-resolver.service"]));
    if let Err(why) = done {
        let see = "see: journalctl -u onecred-resolver";
        writeln!(err, "onecred: the token was written, but the resolver can't be restarted: {why}; {see}")?;
        return Ok(1);
    }
    writeln!(out, "restarted: onecred-resolver.service")?;
    if let Some(other) =
        system::loads(places.credential.as_str()).filter(|file| !plain || *file != places.plain())
    {
        writeln!(
            err,
            "onecred: the token was written, but the resolver's unit loads {} instead: remove the drop-in that configures this, see: \
             systemctl cat onecred-resolver; or write the token to that file",
            other.display()
        )?;
        return Ok(1);
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
