//! `onecred explain UNIT ID`: what a unit would be told that asks for a credential, and why. Nothing is fetched.

use std::error::Error;
use std::io::Write;

use serde::Serialize;

use super::bus;
use super::show::{self, Cell, Paint, Row};
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
}

/// Explains. Gives the exit code: 0 where the unit may have it, 1 where it may not.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<u8, Box<dyn Error>> {
    let unit = UnitName::parse_lenient(&args.unit)?;
    let credential = CredentialId::parse(&args.credential)?;
    let (allowed, secret, reference, reason) =
        bus::talk(async |bus| Ok(bus.manager().await?.explain(unit.as_str(), credential.as_str()).await?))?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let (unit, credential) = (unit.to_string(), credential.to_string());
    let (secret, reference) = (some(secret), some(reference));
    let decision = Decision { unit, credential, allowed, secret, reference, reason };
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
        true => Cell::painted(&format!("{unit} gets {credential}"), |text| paint.green(text)),
        false => Cell::painted(&format!("{unit} is refused {credential}"), |text| paint.red(text)),
    };
    let mut rows = vec![Row::new(vec![verdict])];
    let mut line = |title: &str, text: &Option<String>| {
        rows.extend(text.iter().map(|text| Row::new(vec![title.into(), text.into()])));
    };
    line("secret", &decision.secret);
    line("reference", &decision.reference);
    line("because", &Some(decision.reason.clone()));
    let verdict = show::table(&rows[..1]);
    verdict + &show::table(&rows[1..])
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
        };
        let yes = "\
app.service gets db
secret     db
reference  op://v/i/f
because    secret db (/etc/onecred/secrets.json:3) names it
";
        assert_eq!(lines(&decision, Paint::NONE), yes);
        (decision.allowed, decision.secret, decision.reference) = (false, None, None);
        decision.reason = "not allowed: x; do y".into();
        let no = "app.service is refused db\nbecause  not allowed: x; do y\n";
        assert_eq!(lines(&decision, Paint::NONE), no);
    }
}
