//! `onecred explain UNIT ID`: what a unit would be told that asks for a credential, and why. Nothing is fetched.

use std::error::Error;
use std::io::Write;

use serde::Serialize;

use super::bus::{self, Fault};
use super::common::table::{Cell, Row, table};
use super::secrets;
use super::show::{self, Paint};
use super::unit_lines::Asking;
use crate::name::{CredentialId, UnitName};

/// What `onecred explain` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArgs {
    /// The unit; app is app.service
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
    unit: String,
    credential: String,
    allowed: bool,
    /// The secret's name, or the rule's place.
    secret: Option<String>,
    reference: Option<String>,
    reason: String,
    /// How the unit asks for it, where systemd could be asked that.
    asks: Option<String>,
    /// What is wrong with that.
    problem: Option<String>,
    /// What went wrong the last time that it was looked up.
    error: Option<Fault>,
}

/// Explains. Gives the exit code: 0 where the unit may have it, 1 where it may not.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let unit = UnitName::parse_lenient(&args.unit)?;
    let credential = CredentialId::parse(&args.credential)?;
    let ((allowed, secret, reference, reason), error, asking) = bus::talk(async |bus| {
        let manager = bus.manager().await?;
        let told = manager.explain(unit.as_str(), credential.as_str()).await?;
        // that a unit may have it does not mean that it can be had
        let all = if told.0 { secrets::all(&manager).await.unwrap_or_default() } else { Vec::new() };
        let error = all.into_iter().find(|secret| secret.name == told.1).and_then(|secret| secret.error);
        Ok((told, error, bus.asking(&unit, &credential).await))
    })?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let (unit, credential) = (unit.to_string(), credential.to_string());
    let (secret, reference) = (some(secret), some(reference));
    let (asks, problem) =
        (asking.as_ref().map(Asking::text), asking.as_ref().filter(|_| allowed).and_then(Asking::problem));
    let decision = Decision { unit, credential, allowed, secret, reference, reason, asks, problem, error };
    match args.json {
        true => show::json(out, &decision)?,
        false => write!(out, "{}", lines(&decision, Paint::of_stdout()))?,
    }
    out.flush()?;
    Ok(u8::from(!allowed))
}

fn lines(decision: &Decision, paint: Paint) -> String {
    let Decision { unit, credential, .. } = decision;
    let verdict = match decision.allowed {
        true if decision.problem.is_some() => {
            Cell::red(&format!("{unit} may have {credential}; how it asks for it is wrong"))
        }
        true if decision.error.is_some() => {
            Cell::red(&format!("{unit} may have {credential}; looking it up has failed"))
        }
        true => Cell::green(&format!("{unit} gets {credential}")),
        false => Cell::red(&format!("{unit} is refused {credential}")),
    };
    let mut rows = vec![Row::new(vec![verdict])];
    let mut line = |title: &str, text: &Option<String>| {
        rows.extend(text.iter().map(|text| Row::new(vec![title.into(), text.into()])));
    };
    line("secret", &decision.secret);
    line("reference", &decision.reference);
    line("because", &Some(decision.reason.clone()));
    line("asks", &decision.asks);
    line("problem", &decision.problem);
    line("failing", &decision.error.as_ref().map(|error| error.message.clone()));
    let verdict = table(&rows[..1], paint);
    verdict + &table(&rows[1..], paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no() {
        let mut decision = Decision {
            unit: "app.service".into(),
            credential: "db".into(),
            allowed: true,
            secret: Some("db".into()),
            reference: Some("op://v/i/f".into()),
            reason: "secret db (/etc/onecred/secrets.json:3) names it".into(),
            asks: Some(Asking::NoUnit.text()),
            problem: None,
            error: None,
        };
        let yes = "\
app.service gets db
secret     db
reference  op://v/i/f
because    secret db (/etc/onecred/secrets.json:3) names it
asks       this host has no such unit
";
        assert_eq!(lines(&decision, Paint::NONE), yes);
        let (name, message) = ("org.onecred.Error.NotFound".into(), "not found: x; do y".into());
        decision.error = Some(Fault { name, message });
        let failing = "\
app.service may have db; looking it up has failed
secret     db
reference  op://v/i/f
because    secret db (/etc/onecred/secrets.json:3) names it
asks       this host has no such unit
failing    not found: x; do y
";
        assert_eq!(lines(&decision, Paint::NONE), failing);
        (decision.error, decision.problem) =
            (None, Some("app.service gets what is encrypted; write x".into()));
        let wrong = "\
app.service may have db; how it asks for it is wrong
secret     db
reference  op://v/i/f
because    secret db (/etc/onecred/secrets.json:3) names it
asks       this host has no such unit
problem    app.service gets what is encrypted; write x
";
        assert_eq!(lines(&decision, Paint::NONE), wrong);
        decision.problem = None;
        (decision.allowed, decision.secret, decision.reference, decision.asks) = (false, None, None, None);
        decision.reason = "not allowed: x; do y".into();
        let no = "app.service is refused db\nbecause  not allowed: x; do y\n";
        assert_eq!(lines(&decision, Paint::NONE), no);
    }
}
