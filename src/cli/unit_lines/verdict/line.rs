//! Judges one line of a unit.

use super::{Effect, LineVerdict, hidden, instead};
use crate::cli::common::reach::Reach;
use crate::cli::common::show;
use crate::cli::unit_lines::facts::{
    Content, CredentialLine, Directive, LeadsTo, Machine, PLAIN, PredictedAnswer, Prediction, SEALED, Unit,
};
use crate::domain::name::Claim;
use crate::provider::base::unit_totals;

/// The remedy for a correct line whose socket is not there.
const RESTORE: &str = "the line is correct; to restore the socket, see: onecred status";
const FAILS: &str = "the unit fails with 243/CREDENTIALS";

/// The purpose of a line for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::unit_lines) enum Purpose {
    /// It should request a credential from onecred.
    Asks,
    /// It provides another credential of the unit, which prevents the unit from starting if it fails.
    Beside,
}

/// Judges a line of a unit that can request credentials. `prediction` is the predicted answer of onecred, if
/// it was asked.
pub(in crate::cli::unit_lines) fn judge_line(
    machine: Machine,
    unit: &Unit,
    line: &CredentialLine,
    prediction: Option<&Prediction>,
    purpose: Purpose,
) -> LineVerdict {
    let verdict = judge_unquoted(machine, unit, line, prediction, purpose);
    let quoted =
        |problem| format!("systemd takes the quotation marks as a part of the ID or path: {problem}");
    match line.is_quoted() {
        true => LineVerdict { problem: verdict.problem.map(quoted), ..verdict },
        false => verdict,
    }
}

fn judge_unquoted(
    machine: Machine,
    unit: &Unit,
    line: &CredentialLine,
    prediction: Option<&Prediction>,
    purpose: Purpose,
) -> LineVerdict {
    let CredentialLine { id, path, leads_to, .. } = line;
    let fix = match purpose {
        Purpose::Asks if line.has_right_path() => RESTORE.to_owned(),
        Purpose::Asks => instead(line.directive, id),
        Purpose::Beside => "correct or remove the line".to_owned(),
    };
    if machine.has_executor() && (id.contains(' ') || path.contains(' ')) {
        let what = format!(
            "systemd {} cannot pass on a credential whose ID or path has a space, and fails the unit",
            machine.systemd
        );
        return LineVerdict::new(Effect::Fails, format!("{what}; take an ID and a path without spaces"));
    }
    let published = prediction.is_some_and(|prediction| prediction.target.as_ref() == Some(path));
    if let Some(failure) = brings(line, published) {
        return LineVerdict::new(Effect::Fails, format!("{failure}, and {FAILS}; {fix}"));
    }
    let has_literal = || unit.literals.iter().any(|literal| literal.id == *id);
    match leads_to {
        LeadsTo::PlainSocket | LeadsTo::SealedSocket => judge_request(machine, unit, line, prediction),
        LeadsTo::ResolverSocket | LeadsTo::OtherSocket | LeadsTo::DeadSocket => foreign_socket(line, &fix),
        LeadsTo::DirectoryOfSockets | LeadsTo::Directory => directory(machine, line, purpose, &fix),
        LeadsTo::File if published => LineVerdict::RIGHT,
        LeadsTo::File | LeadsTo::Store(true) => file(line, &fix),
        LeadsTo::Missing | LeadsTo::Store(false) => missing(line, has_literal(), &fix),
        LeadsTo::Unknown if !path.starts_with('/') => hidden("systemd's credential stores"),
        LeadsTo::Unknown => hidden(path),
    }
}

/// Judges a line that leads to a socket that does not serve units for onecred.
fn foreign_socket(
    CredentialLine { path, leads_to, directive, .. }: &CredentialLine,
    fix: &str,
) -> LineVerdict {
    match leads_to {
        LeadsTo::ResolverSocket => {
            LineVerdict::new(Effect::Fails, format!("{path} is not for units, and the unit fails; {fix}"))
        }
        LeadsTo::DeadSocket => LineVerdict::new(
            Effect::Fails,
            format!(
                "{path} is a socket to which systemd cannot connect (no program accepts streams there), and {FAILS}; {fix}"
            ),
        ),
        _ if *directive == Directive::Encrypted => LineVerdict::new(
            Effect::Fails,
            format!(
                "{path} is a socket of another program, so onecred is never asked, and {FAILS} unless that sends encrypted values; {fix}"
            ),
        ),
        _ => LineVerdict::new(
            Effect::Other,
            format!("{path} is a socket of another program, so onecred is never asked; {fix}"),
        ),
    }
}

/// Judges a line that leads to a directory.
fn directory(machine: Machine, line: &CredentialLine, purpose: Purpose, fix: &str) -> LineVerdict {
    let CredentialLine { id, path, .. } = line;
    if line.leads_to == LeadsTo::DirectoryOfSockets && !machine.connects_in_directories() {
        return LineVerdict::new(
            Effect::Fails,
            format!(
                "{path} is a directory of sockets, to which systemd {} cannot connect, and the unit fails; {fix}",
                machine.systemd
            ),
        );
    }
    if purpose == Purpose::Beside && line.content == Content::Unknown {
        return hidden(&format!("all of {path}"));
    }
    LineVerdict::new(
        Effect::Without,
        format!(
            "{path} is a directory: the unit starts with a credential {id}_NAME for each entry and none called {id}; {fix}"
        ),
    )
}

/// Judges a line that leads to a file that onecred did not publish.
fn file(line: &CredentialLine, fix: &str) -> LineVerdict {
    let CredentialLine { path, leads_to, .. } = line;
    if line.directive == Directive::Encrypted && line.content == Content::Unknown {
        return LineVerdict::new(
            Effect::Unknown,
            format!("only root can find out whether systemd can decrypt {path}; run this as root"),
        );
    }
    let what = match leads_to {
        LeadsTo::File => {
            format!("the unit starts with the content of the file {path}, and onecred is never asked")
        }
        _ => {
            format!("without a path, systemd loads {path} from its credential stores and never asks onecred")
        }
    };
    LineVerdict::new(Effect::Other, format!("{what}; {fix}"))
}

/// Judges a line that leads to nothing. A literal is a `SetCredential=` setting with the same ID.
fn missing(
    CredentialLine { path, leads_to, .. }: &CredentialLine,
    has_literal: bool,
    fix: &str,
) -> LineVerdict {
    let has_path = *leads_to == LeadsTo::Missing;
    let (effect, what) = match (has_path, has_literal) {
        (true, true) => (
            Effect::Other,
            format!("{path} does not exist, so the unit starts with the value of its SetCredential="),
        ),
        (true, false) => (Effect::Fails, format!("{path} does not exist, and {FAILS}")),
        (false, true) => (
            Effect::Other,
            "without a path, onecred is never asked and the unit starts with the value of its SetCredential="
                .to_owned(),
        ),
        (false, false) => (
            Effect::Without,
            format!(
                "without a path, systemd searches its credential stores, which have no {path}, and starts the unit without the credential"
            ),
        ),
    };
    LineVerdict::new(effect, format!("{what}; {fix}"))
}

/// Why the content of a line makes the unit fail.
fn brings(line: &CredentialLine, published: bool) -> Option<String> {
    let CredentialLine { directive, path, leads_to, .. } = line;
    match &line.content {
        _ if published && *directive == Directive::Encrypted => {
            Some(format!("the published file {path} is not encrypted"))
        }
        Content::Fails(what) => Some(what.clone()),
        Content::Credentials(all) if unit_totals::exceed(all, false) => {
            let size: usize = all.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size));
            let what = if *leads_to == LeadsTo::Directory { "the files in " } else { "" };
            Some(format!(
                "{what}{path} {} {size} bytes, and systemd takes 1 MiB for a unit, IDs included",
                if what.is_empty() { "has" } else { "have" }
            ))
        }
        _ => None,
    }
}

/// Judges a line that leads to one of onecred's sockets for units.
fn judge_request(
    machine: Machine,
    unit: &Unit,
    line: &CredentialLine,
    prediction: Option<&Prediction>,
) -> LineVerdict {
    let sealed = line.leads_to == LeadsTo::SealedSocket;
    let asked = line.asked_id(machine);
    let bytes = unit.name.as_str().len() + asked.len();
    if bytes > Claim::MAX {
        return LineVerdict::new(
            Effect::Fails,
            format!(
                "unit name and ID have {bytes} bytes together, and systemd allows {} at most, so the unit fails with \
                 243/CREDENTIALS before onecred is asked; make the ID (as UNIT/ID in \"units\") or the unit's name {} shorter",
                Claim::MAX,
                show::count(bytes - Claim::MAX, "byte")
            ),
        );
    }
    if unit.name.as_str() == "onecred.service" {
        let what =
            "onecred.service would wait for its own answer, and never start; load the secret in another unit";
        return LineVerdict::new(Effect::Fails, what);
    }
    if let Some(verdict) = not_accepted(line) {
        return verdict;
    }
    let refusal = prediction.and_then(|prediction| match (&prediction.answer, prediction.allowed) {
        (_, false) => Some(prediction.reason.clone()),
        (PredictedAnswer::Refusal(_, message), true) => Some(message.clone()),
        _ => None,
    });
    let wrong_form = match (line.directive, sealed) {
        (Directive::Plain, true) => Some((
            Effect::Other,
            format!("{SEALED} answers with encrypted values, and the unit starts with that as its value"),
        )),
        (Directive::Encrypted, false) => Some((
            Effect::Fails,
            format!(
                "{PLAIN} answers with values that are not encrypted, and the unit fails with 243/CREDENTIALS"
            ),
        )),
        _ => None,
    };
    match (wrong_form, refusal) {
        (Some((effect, what)), refusal) => LineVerdict::new(
            if refusal.is_some() { Effect::Fails } else { effect },
            format!("{what}; {}", instead(Directive::Encrypted, &line.id)),
        ),
        (None, Some(refusal)) => LineVerdict::new(Effect::Fails, refusal),
        (None, None) => match prediction.map(|prediction| &prediction.answer) {
            Some(PredictedAnswer::Unknown) => LineVerdict::new(
                Effect::Unknown,
                "onecred must look up the value first: run this command as root, or run: onecred refresh",
            ),
            _ => LineVerdict::RIGHT,
        },
    }
}

/// Judges a line whose connection is not accepted.
fn not_accepted(line: &CredentialLine) -> Option<LineVerdict> {
    let unit = line.socket_unit();
    let what = match (line.reach, line.leads_to == LeadsTo::SealedSocket) {
        // this socket cannot be started separately while onecred runs
        (Reach::Stopped, true) => {
            format!("{unit} is not active, and {FAILS}; start it: systemctl restart onecred.socket")
        }
        (Reach::Stopped, false) => {
            format!("{unit} is not active, and {FAILS}; start it: systemctl enable --now onecred.socket")
        }
        (Reach::Closed, _) => {
            format!("no program accepts connections at {}, and {FAILS}; see: onecred status", line.path)
        }
        _ => return None,
    };
    Some(LineVerdict::new(Effect::Fails, what))
}
