//! Text about a token: where it is sent, and what it gives access to. Never contains the token.

use std::io::{self, Write};

use super::source::Chosen;
use crate::cli::common::show::Paint;
use crate::cli::common::text::wrap;
use crate::host::clock;
use crate::ipc::{Probed, ProbedVault};
use crate::resolver::date_of_unix;

/// How long before the expiry of a token a warning is shown, in seconds.
const NEAR: u64 = 14 * 86_400;

/// Writes the text.
pub(super) fn show(
    chosen: &Chosen,
    probed: &Probed,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    show_at(clock::unix(), chosen, probed, out, err)
}

fn show_at(
    now: u64,
    chosen: &Chosen,
    probed: &Probed,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "source   {} ({})", chosen.name, chosen.kind())?;
    writeln!(out, "at       {}", probed.at)?;
    for line in wrap(&vaults(&probed.vaults), Paint::of_stdout().width(), "vaults   ", "         ") {
        writeln!(out, "{line}")?;
    }
    if !chosen.takes_token() {
        return writeln!(out, "token    not needed: the source is a file");
    }
    writeln!(
        out,
        "writes   {}",
        match probed.writes {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        }
    )?;
    match probed.expires {
        Some(end) => writeln!(out, "expires  {}, {}", date_of_unix(end), away(now, end))?,
        None => writeln!(out, "expires  unknown")?,
    }
    if let Some(spent) = probed.spent {
        let left = spent.budget.saturating_sub(spent.day);
        writeln!(
            out,
            "calls    {} in the last hour, {} in the last day; {left} of {} left",
            spent.hour, spent.day, spent.budget
        )?;
    }
    if probed.writes == Some(true) {
        writeln!(
            err,
            "warning: the token can write to a vault; onecred only reads, so a read-only token is safer"
        )?;
    }
    if probed.expires.is_some_and(|end| end < now + NEAR) {
        writeln!(err, "warning: the token expires soon; create a new one, then: onecred token set")?;
    }
    Ok(())
}

fn vaults(all: &[ProbedVault]) -> String {
    let one = |vault: &ProbedVault| match vault.items {
        Some(1) => format!("{} (1 item)", vault.name),
        Some(items) => format!("{} ({items} items)", vault.name),
        None => vault.name.clone(),
    };
    let mut names: Vec<String> = all.iter().map(one).collect();
    names.sort();
    names.join(", ")
}

fn away(now: u64, end: u64) -> String {
    match end.checked_sub(now) {
        Some(left) if left < 2 * 86_400 => format!("in {} hours", left / 3_600),
        Some(left) => format!("in {} days", left / 86_400),
        None => "which is past".into(),
    }
}

#[cfg(test)]
mod tests;
