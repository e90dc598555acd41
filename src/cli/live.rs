//! `onecred check --live`: checks that every configured reference leads to a value in 1Password, and reports
//! a remedy if not.

use std::error::Error;
use std::io::{self, Write};

use serde::Serialize;

use super::bus::{self, Bus, Fault, ManagerProxy};
use super::check_report::Configuration;
use super::common::text::wrap;
use super::common::{causes, sockets};
use super::refresh::{self, Refreshed};
use super::secrets::{self, Listed};
use super::{templates, unit_lines};
use crate::cli::common::show::{self, Paint};
use crate::config::Settings;

/// The results.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// The result for each secret.
    secrets: Vec<Refreshed>,
    /// Whether each template can be filled in and served.
    templates: Vec<Refreshed>,
    /// Other errors.
    problems: Vec<String>,
    /// Probable mistakes.
    warnings: Vec<String>,
    /// The configuration in the files, for JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Configuration>,
}

/// Writes the JSON for a configuration with errors, for which nothing is fetched.
pub(super) fn show_invalid(configuration: Configuration, out: &mut dyn Write) -> io::Result<()> {
    let problems = vec!["the configuration has errors; correct them, then check again".to_owned()];
    show::json(out, &Findings { problems, configuration: Some(configuration), ..Findings::default() })
}

/// Checks a configuration whose files are valid. Returns the exit code: 1 if anything does not resolve.
pub(super) fn run(
    settings: &Settings,
    json: Option<Configuration>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Box<dyn Error>> {
    let found = bus::talk(async |bus| find(&bus, settings, err).await);
    let mut findings = match (found, json.is_some()) {
        (Ok(findings), _) => findings,
        (Err(fault), false) => return Err(fault.into()),
        (Err(fault), true) => {
            let problems = vec![fault.to_string()];
            let findings = Findings { problems, configuration: json, ..Findings::default() };
            show::json(out, &findings)?;
            return Err(fault.into());
        }
    };
    let rules = settings.policy.rules().len();
    if rules > 0 {
        let why = "the reference of a rule depends on the unit that requests it";
        writeln!(err, "warning: {} not tried: {why}", show::count(rules, "rule"))?;
    }
    for warning in &findings.warnings {
        writeln!(err, "warning: {}", show::clean(warning))?;
    }
    findings.configuration = json;
    match findings.configuration.is_some() {
        true => show::json(out, &findings)?,
        false => write!(out, "{}", lines(&findings, Paint::of_stdout()))?,
    }
    out.flush()?;
    let failed = findings.secrets.iter().chain(&findings.templates).any(|one| one.error.is_some());
    Ok(u8::from(failed || !findings.problems.is_empty()))
}

async fn find(bus: &Bus, settings: &Settings, err: &mut dyn Write) -> Result<Findings, Fault> {
    let manager = bus.manager().await?;
    let known = match secrets::all(&manager).await {
        Err(fault) if fault.is_misconfigured() => Vec::new(), // the error is reported below
        listed => listed?,
    };
    let error = manager.configuration_error().await?;
    let mut problems = Vec::new();
    if !error.is_empty() {
        problems.push(format!(
            "onecred serves nothing: {error}; fix that, run: onecred reload, then check again"
        ));
    } else if differs(settings, &known) {
        problems.push(
            "onecred's active configuration differs from these files; run: onecred reload, then check again"
                .to_owned(),
        );
    }
    problems.extend(sockets::problems(&bus.sockets().await));
    let units = bus.units(settings).await;
    let names: Vec<String> = known.into_iter().map(|secret| secret.name).collect();
    let secrets = match names.is_empty() {
        true => Vec::new(),
        false => refresh::try_all(&manager, &names, err).await?,
    };
    let templates = match error.is_empty() {
        true => try_templates(&manager, err).await?,
        false => Vec::new(),
    };
    let failing = secrets.iter().chain(&templates).filter(|one| one.error.is_some());
    let failing = failing.map(|one| one.name.clone()).collect();
    let mut warnings = Vec::new();
    match units {
        Ok(_) if !error.is_empty() => {}
        Ok(units) => {
            let found = unit_lines::check(units, settings, &manager, &failing).await?;
            problems.extend(found.problems);
            warnings = found.warnings;
        }
        Err(error) => {
            warnings.push(format!(
                "systemd cannot be asked how units load credentials: {error}; see: systemctl status dbus"
            ));
        }
    }
    Ok(Findings { secrets, templates, problems, warnings, configuration: None })
}

/// Checks all templates after the secrets were fetched. Only templates with outdated parts cost a look-up.
async fn try_templates(manager: &ManagerProxy<'_>, err: &mut dyn Write) -> Result<Vec<Refreshed>, Fault> {
    let (listed, _) = templates::all(manager).await?;
    let open = listed.iter().filter(|template| matches!(template.state.as_str(), "never-fetched" | "stale"));
    let open: Vec<String> = open.map(|template| template.name.clone()).collect();
    let mut looked_up = refresh::look_up(manager, &open, err).await?;
    let is_open = |name: &str| open.iter().any(|open| open == name);
    let known = listed.iter().filter(|template| !is_open(&template.name)).map(Refreshed::of_template);
    looked_up.extend(known);
    looked_up.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(looked_up)
}

/// Whether the provider has secrets other than these.
fn differs(settings: &Settings, known: &[Listed]) -> bool {
    let written = settings.policy.secrets().map(|secret| {
        (
            secret.name.to_string(),
            secret.wanted.reference.to_string(),
            secret.wanted.source.to_string(),
            secret.declared_at.clone(),
        )
    });
    let mut written: Vec<_> = written.collect();
    written.sort();
    let known = known
        .iter()
        .map(|one| (one.name.clone(), one.reference.clone(), one.source.clone(), one.declared_at.clone()));
    written != known.collect::<Vec<_>>()
}

/// Formats each problem once, with all secrets that have it.
fn lines(findings: &Findings, paint: Paint) -> String {
    let mut text = String::new();
    for problem in &findings.problems {
        for line in wrap(&show::clean(problem), paint.width(), "", "  ") {
            text.push_str(&paint.red(&line));
            text.push('\n');
        }
    }
    let of_secrets: Vec<_> = refresh::failures(&findings.secrets).collect();
    let of_templates: Vec<_> = causes::not_in(&of_secrets, refresh::failures(&findings.templates)).collect();
    let causes = causes::group(of_secrets.into_iter().chain(of_templates));
    text.push_str(&causes::lines(&causes, paint));
    let all = findings.secrets.len();
    let good = findings.secrets.iter().filter(|one| one.error.is_none()).count();
    text + &match (all, good == all) {
        (_, true) => paint.green(&format!("{} found in 1Password\n", show::count(all, "secret"))),
        _ => format!("{good} of {} found in 1Password\n", show::count(all, "secret")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_told_once() {
        let one = |name: &str, message: Option<&str>| Refreshed {
            name: name.into(),
            outcome: "changed".into(),
            version: None,
            warning: None,
            error: message
                .map(|text| Fault { name: "org.onecred.Error.NoToken".into(), message: text.into() }),
        };
        let why = Some("no token: there is none; onecred token set");
        let of_part = Some("op://v/i/f: no token: there is none; onecred token set");
        let mut findings = Findings {
            secrets: vec![one("a", why), one("b", None), one("c", why)],
            templates: vec![one("t", of_part), one("u", None), one("v", Some("the whole: too large"))],
            problems: vec!["x".into()],
            ..Findings::default()
        };
        let expected = "x\n2 secrets: no token: there is none; onecred token set\n    a, c\nv: the whole: too large\n1 of 3 secrets found in 1Password\n";
        assert_eq!(lines(&findings, Paint::NONE), expected);
        findings = Findings { secrets: vec![one("b", None)], ..Findings::default() };
        assert_eq!(lines(&findings, Paint::NONE), "1 secret found in 1Password\n");
    }

    #[test]
    fn another_configuration_is_noticed() {
        let file = std::path::Path::new("/etc/onecred/secrets.json");
        let text = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["a"] } ] }"#;
        let settings = crate::config::from_text(file, text).unwrap().settings;
        let mut known = Listed {
            name: "a".into(),
            reference: "op://v/i/f".into(),
            source: "default".into(),
            declared_at: "/etc/onecred/secrets.json:1".into(),
            ..Listed::default()
        };
        assert!(!differs(&settings, std::slice::from_ref(&known)));
        known.reference = "op://v/i/g".into();
        assert!(differs(&settings, &[known]));
        assert!(differs(&settings, &[]));
    }
}
