//! `onecred explain UNIT ID`: shows what a unit would get for a credential if it started now, and why.

use std::error::Error;
use std::io::Write;

use serde::Serialize;

use super::bus::{self, Bus, Fault};
use super::common::table::{Cell, Row, table};
use super::configuration::Configuration;
use super::unit_lines::{Effect, Explained, PredictedAnswer};
use crate::cli::common::show::{self, Paint};
use crate::domain::name::{CredentialId, UnitName};
use crate::host::clock;

/// The arguments of `onecred explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArgs {
    /// The unit; app means app.service
    #[arg(value_name = "UNIT")]
    pub unit: String,
    /// The credential's ID, as in LoadCredential=ID:PATH
    #[arg(value_name = "ID")]
    pub credential: String,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Decision {
    /// The canonical name of the unit.
    unit: String,
    credential: String,
    /// Whether the unit would start now with the credential.
    gets: bool,
    /// The outcome of a start now.
    outcome: Effect,
    /// Whether the configuration allows it.
    allowed: bool,
    /// The name of the secret, or the place of the rule.
    secret: Option<String>,
    reference: Option<String>,
    reason: String,
    /// The line of the unit that requests it.
    asks: String,
    /// The first problem.
    problem: Option<String>,
    problems: Vec<String>,
    notes: Vec<String>,
    /// The active overrides, such as `db (put)`.
    overrides: Vec<String>,
    /// Why 1Password or onecred does not return the value.
    error: Option<Fault>,
}

/// Runs the verb. Returns the exit code: 0 if the unit would start now with the credential, otherwise 1.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let unit = UnitName::parse_lenient(&args.unit)?;
    let credential = CredentialId::parse(&args.credential)?;
    let explained = bus::talk(async |bus| {
        let mut explained = bus.explain(&unit, &credential).await?;
        if let Some(finding) = bus.creds_socket_for(&explained.unit).await {
            explained.add(finding);
        }
        if !explained.prediction.allowed {
            explained.judgement.notes.extend(not_loaded(&bus).await);
        }
        Ok(explained)
    })?;
    let decision = decide(explained, &credential);
    match args.json {
        true => show::json(out, &decision)?,
        false => write!(out, "{}", lines(&decision, Paint::of_stdout()))?,
    }
    out.flush()?;
    Ok(u8::from(!decision.gets))
}

/// How the files on disk, if they are not active, relate to a refusal.
async fn not_loaded(bus: &Bus) -> Option<String> {
    let stands = Configuration::ask(&bus.manager().await.ok()?).await?;
    let problem = stands.problem(clock::unix());
    (!problem.is_empty()).then(|| format!("the configuration: {}", problem.join("; ")))
}

fn decide(explained: Explained, credential: &CredentialId) -> Decision {
    let Explained { unit, prediction, judgement } = explained;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let error = match prediction.answer {
        PredictedAnswer::Refusal(name, message) if prediction.allowed => Some(Fault { name, message }),
        _ => None,
    };
    // a refusal by the configuration has its own line
    let is_reason = |problem: &String| !prediction.allowed && *problem == prediction.reason;
    let problems: Vec<String> =
        judgement.problems.into_iter().filter(|problem| !is_reason(problem)).collect();
    Decision {
        unit: unit.to_string(),
        credential: credential.to_string(),
        gets: prediction.allowed && judgement.effect == Effect::Gets,
        outcome: judgement.effect,
        allowed: prediction.allowed,
        secret: some(prediction.name),
        reference: some(prediction.reference),
        reason: prediction.reason,
        asks: judgement.asks,
        problem: problems.first().cloned(),
        problems,
        notes: judgement.notes,
        overrides: prediction.overrides,
        error,
    }
}

/// The outcome in one line.
fn headline(decision: &Decision) -> Cell {
    let Decision { unit, credential, outcome, allowed, error, .. } = decision;
    let text = match (allowed, outcome) {
        (false, _) => format!("{unit} is refused {credential}"),
        (true, Effect::Gets) => return Cell::green(&format!("{unit} gets {credential}")),
        (true, Effect::Unknown) => {
            format!("{unit} is allowed to load {credential}, but whether a start would succeed is unknown")
        }
        (true, Effect::Other) => format!("{unit} starts, but not with onecred's value for {credential}"),
        (true, Effect::Without) => format!("{unit} starts without {credential}"),
        (true, Effect::Fails) if error.is_some() => {
            format!("{unit} does not start: {credential} is not available")
        }
        (true, Effect::Fails) => format!("{unit} does not start with {credential}"),
    };
    Cell::red(&text)
}

fn lines(decision: &Decision, paint: Paint) -> String {
    let mut rows = Vec::new();
    let mut line = |title: &str, text: &str| rows.push(Row::new(vec![title.into(), text.into()]));
    decision.secret.iter().for_each(|secret| line("secret", secret));
    decision.reference.iter().for_each(|reference| line("reference", reference));
    if !decision.reason.is_empty() {
        line("because", &decision.reason);
    }
    line("asks", &decision.asks);
    for held in &decision.overrides {
        let name = held.split(' ').next().unwrap_or(held);
        line("override", &format!("{held}; remove it: onecred release {name}"));
    }
    decision.problems.iter().for_each(|problem| line("problem", problem));
    decision.notes.iter().for_each(|note| line("note", note));
    table(&[Row::new(vec![headline(decision)])], paint) + &table(&rows, paint)
}

#[cfg(test)]
mod tests;
