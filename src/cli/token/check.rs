//! `onecred token check`: shows what the installed token gives access to, and whether other users can read
//! it.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use super::place::{Openness, Places};
use super::source::Chosen;
use super::verdict::Verdict;
use super::{CheckArgs, Where, json, report, system};
use crate::cli::common::show;
use crate::ipc::Failure;

/// Checks a token. Returns the exit code.
pub(super) fn run(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    match args.json {
        true => for_programs(&args.place, out),
        false => for_people(&args.place, out, err),
    }
}

/// Writes the result as JSON, including warnings.
fn for_programs(args: &Where, out: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let chosen = Chosen::find(args)?;
    let mut notes = Vec::new();
    let safe = is_kept_safe(&chosen, &mut notes)?;
    let probed = chosen.probe(args, None);
    if let Ok(probed) = &probed {
        report::show(&chosen, probed, &mut io::sink(), &mut notes)?;
    }
    let notes = String::from_utf8_lossy(&notes);
    show::json(out, &json::Report::new(&chosen, &probed, safe, &notes))?;
    Ok(u8::from(!safe || probed.is_err()))
}

fn for_people(args: &Where, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let chosen = Chosen::find(args)?;
    let safe = is_kept_safe(&chosen, err)?;
    match chosen.probe(args, None) {
        Ok(probed) => report::show(&chosen, &probed, out, err)?,
        Err(failure) => {
            writeln!(err, "onecred: {}", failed(&chosen, &failure))?;
            return Ok(1);
        }
    }
    Ok(u8::from(!safe))
}

/// The failure in one line. A vault file has no token.
fn failed(chosen: &Chosen, failure: &Failure) -> String {
    let what = match chosen.takes_token() {
        true => Verdict::of(failure).of_source(chosen.name.as_str()),
        false => format!("source {} (which needs no token) can't be read", chosen.name),
    };
    format!("{what}: {}; {}", failure.cause, failure.remedy)
}

/// Whether only root can read the token, if the source has one.
fn is_kept_safe(chosen: &Chosen, err: &mut dyn Write) -> io::Result<bool> {
    if !chosen.takes_token() {
        return Ok(true);
    }
    let places = Places::new(chosen.source.token.clone());
    let file = system::loads(places.credential.as_str()).unwrap_or_else(|| places.plain());
    look(&places, &file, err)
}

/// Checks how the token is stored. Returns whether that is acceptable.
fn look(places: &Places, file: &Path, err: &mut dyn Write) -> io::Result<bool> {
    if !places.is_encrypted() {
        return if file.exists() { look_at(file, true, err) } else { Ok(true) };
    }
    let plain = places.plain();
    if !plain.exists() {
        return Ok(true);
    }
    let path = plain.display();
    writeln!(err, "warning: {path} contains a token in plain text that is not used any more: rm {path}")?;
    look_at(&plain, false, err)
}

/// Checks a token in plain text.
fn look_at(file: &Path, used: bool, err: &mut dyn Write) -> io::Result<bool> {
    let path = file.display();
    match Openness::of_file(file) {
        Ok(Openness::Closed) => {}
        Ok(Openness::Group) => {
            writeln!(err, "warning: the group of {path} can read the token: chmod 0600 {path}")?
        }
        Ok(Openness::Open(why)) => {
            let remedy = format!("chown root:root {path}; chmod 0600 {path}");
            writeln!(
                err,
                "onecred: other users may have read the token in {path}: {why}; run: {remedy}; then create and set a new token"
            )?;
            return Ok(false);
        }
        Err(error) => writeln!(err, "warning: {path} can't be examined: {error}")?,
    }
    if used && system::has_creds() {
        writeln!(
            err,
            "warning: {path} contains the token in plain text; to encrypt it with systemd-creds: onecred token set"
        )?;
    }
    Ok(true)
}
