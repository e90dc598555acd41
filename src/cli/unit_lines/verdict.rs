//! Judges the outcome of a line, and of a unit, when the unit starts. Pure: facts in, verdicts out.

mod absent;
mod environment;
mod line;
mod unit;
mod whole;

pub(super) use absent::{ignored_text, no_line};
pub(super) use environment::environment;
pub(super) use line::{Purpose, judge_line};
pub(super) use unit::{before_decryption, early, judge_unit, unordered};
pub(super) use whole::judge_whole;

use environment::is_own_credential;

use std::collections::BTreeSet;

use super::facts::{CredentialLine, Directive, Machine, PredictedAnswer, Prediction, QUOTES, Unit};
use crate::cli::common::reach::Reach;
use crate::domain::name::CredentialId;

/// The outcome, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Effect {
    /// The unit gets the value.
    Gets,
    /// It cannot be determined.
    Unknown,
    /// The unit starts with something else.
    Other,
    /// The unit starts without the credential.
    Without,
    /// The unit does not start.
    Fails,
}

/// The outcome of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineVerdict {
    /// The effect.
    pub(super) effect: Effect,
    /// Cause and remedy; `None` for a correct line.
    pub(super) problem: Option<String>,
}

impl LineVerdict {
    fn new(effect: Effect, problem: impl Into<String>) -> Self {
        Self { effect, problem: Some(problem.into()) }
    }

    const RIGHT: Self = Self { effect: Effect::Gets, problem: None };
}

/// The line that requests the credential from onecred in this form, as a remedy.
fn instead(directive: Directive, id: &str) -> String {
    let id = Some(id.trim_matches(QUOTES)).filter(|id| !id.is_empty()).unwrap_or("ID");
    format!("write {}={id}:{}, then: systemctl daemon-reload", directive.name(), directive.socket())
}

fn hidden(what: &str) -> LineVerdict {
    LineVerdict::new(Effect::Unknown, format!("this user cannot examine {what}; run this as root"))
}

/// The outcome of a unit's start for one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Judgement {
    /// The effect.
    pub(in crate::cli) effect: Effect,
    /// How the unit requests the credential.
    pub(in crate::cli) asks: String,
    /// Problems and remedies.
    pub(in crate::cli) problems: Vec<String>,
    /// Additional notes.
    pub(in crate::cli) notes: Vec<String>,
}

/// Judges a unit and one of its credentials. `of_line` returns the predicted answer to a line's request;
/// `own` is the predicted answer to this unit and ID by any line.
pub(super) fn judge(
    machine: Machine,
    unit: &Unit,
    id: &CredentialId,
    own: &Prediction,
    of_line: &dyn Fn(&CredentialLine) -> Option<Prediction>,
) -> Judgement {
    let line = unit.line(id, machine);
    let mut judgement = Judgement {
        effect: Effect::Gets,
        asks: line.map_or_else(|| "not at all".to_owned(), ToString::to_string),
        problems: Vec::new(),
        notes: notes(unit, own),
    };
    let mut add = |verdict: LineVerdict| {
        judgement.effect = judgement.effect.max(verdict.effect);
        judgement.problems.extend(verdict.problem);
    };
    if let Some(verdict) = judge_unit(machine, unit) {
        add(verdict);
        return judgement;
    }
    // values that were not looked up for such a unit are unknown
    let early = early(unit, own.needs_network)
        .filter(|_| line.is_some_and(CredentialLine::is_ours) && !own.fetched && own.allowed);
    let is_known = |verdict: &LineVerdict| early.is_none() || verdict.effect != Effect::Unknown;
    early.iter().for_each(|what| add(LineVerdict::new(Effect::Fails, what.as_str())));
    match line {
        Some(line) => {
            let prediction = of_line(line).unwrap_or_else(|| own.clone());
            Some(judge_line(machine, unit, line, Some(&prediction), Purpose::Asks))
                .filter(is_known)
                .into_iter()
                .for_each(&mut add);
        }
        None => add(no_line(unit, id)),
    }
    for other in unit.lines.iter().filter(|other| line.is_none_or(|line| line != *other)) {
        let purpose = if other.means_onecred() { Purpose::Asks } else { Purpose::Beside };
        let verdict = judge_line(machine, unit, other, of_line(other).as_ref(), purpose);
        let counts = matches!(verdict.effect, Effect::Fails | Effect::Unknown);
        if let (true, Some(problem)) = (counts && is_known(&verdict), verdict.problem) {
            add(LineVerdict::new(verdict.effect, format!("because of its line {other}: {problem}")));
        }
    }
    judge_whole(machine, unit, of_line).into_iter().chain(environment(unit)).for_each(&mut add);
    judgement
}

fn notes(unit: &Unit, own: &Prediction) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(alias) = &unit.alias {
        notes.push(format!("{alias} is an alias: systemd requests its credentials as {}", unit.name));
    }
    if unit.outdated {
        notes.push(OUTDATED.to_owned());
    }
    if let PredictedAnswer::Value(Some(stale)) = &own.answer {
        notes.push(format!("the value in memory may be out of date: {stale}"));
    }
    if let Some(what) = early(unit, own.needs_network).filter(|_| own.fetched && own.allowed) {
        notes.push(format!("at the next boot {what}"));
    }
    notes.extend(before_decryption(unit).map(|what| format!("at the next boot {what}")));
    // a unit that is ordered before a socket has another note
    notes.extend(
        unordered(unit).filter(|_| unit.early.is_none()).map(|what| format!("at the next boot {what}")),
    );
    notes.extend(provider_only(unit));
    let skipped = unit.environment.iter().filter(|file| file.optional && is_own_credential(unit, &file.path));
    notes.extend(skipped.map(|file| {
        format!(
            "EnvironmentFile=-{} is skipped, since systemd reads it before it sets up credentials; {BY_RUN}",
            file.path
        )
    }));
    notes
}

/// The sockets of a unit's lines that only the running provider serves.
pub(super) fn provider_only(unit: &Unit) -> BTreeSet<String> {
    let lines = unit.lines.iter().filter(|line| line.is_ours() && line.reach == Reach::ProviderOnly);
    let note = |line: &CredentialLine| {
        let socket = line.socket_unit();
        format!(
            "{socket} is not active or has other addresses, and units get credentials only until onecred.service ends; see: onecred status"
        )
    };
    lines.map(note).collect()
}

const OUTDATED: &str = "the unit's files have changed since systemd loaded them: systemctl daemon-reload";
const BY_RUN: &str = "have onecred run set variables, or the program read the file";

#[cfg(test)]
mod tests;
