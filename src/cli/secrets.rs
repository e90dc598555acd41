//! The secrets as listed on D-Bus, for `onecred list` and other verbs.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;

use serde::Serialize;
use zbus::OwnedVariant;

use super::bus::{self, Fault, ManagerProxy};
use super::common::causes;
use super::common::state::state;
use super::common::table::{Cell, Row, table};
use super::templates::{self, Rule, TemplateStatus};
use crate::cli::common::show::{self, Paint};
use crate::ipc::version;

/// The arguments of `onecred list`.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// A secret and its state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    /// Its name.
    pub(super) name: String,
    /// Its reference in 1Password.
    pub(super) reference: String,
    /// The source that resolves it.
    pub(super) source: String,
    /// The units that may have it.
    pub(super) units: Vec<String>,
    /// `never-fetched`, `fresh`, `stale`, `failing` or `held`.
    pub(super) state: String,
    /// The version of its item, if it was fetched: 1Password's number, or the time of the change.
    pub(super) version: Option<String>,
    /// Seconds since it was known to be current.
    pub(super) age: Option<u64>,
    /// The origin of its override: `put` or `rollback`.
    pub(super) held: Option<String>,
    /// The last failure, or why units are refused the value.
    pub(super) error: Option<Fault>,
    /// Why the sealed socket refuses the secret, if the plain socket serves it.
    pub(super) sealed_error: Option<String>,
    /// The size of its value in bytes, if known.
    pub(super) size: Option<u64>,
    /// How often units received it since onecred started.
    pub(super) answers: u64,
    /// How often units were refused the secret since onecred started.
    pub(super) refusals: u64,
    /// The units whose restart or reload is withheld although it has changed, each with the reason.
    pub(super) withheld: Vec<String>,
    /// The units that run with a value other than the current one, each with the version of that value.
    pub(super) outdated: Vec<String>,
    /// Where it was declared, as FILE:LINE.
    pub(super) declared_at: String,
    /// Its object path on D-Bus.
    pub(super) path: String,
}

impl Listed {
    fn of(mut dict: HashMap<String, OwnedVariant>) -> Self {
        let mut text = |key: &str| {
            dict.remove(key).and_then(|value| String::try_from(value).ok()).filter(|text| !text.is_empty())
        };
        let error = text("LastError").map(|message| (text("LastErrorName").unwrap_or_default(), message));
        let mut listed = Self {
            name: text("Name").unwrap_or_default(),
            reference: text("Reference").unwrap_or_default(),
            source: text("Source").unwrap_or_default(),
            state: text("State").unwrap_or_default(),
            held: text("Held"),
            sealed_error: text("SealedError"),
            error: error.map(|(name, message)| Fault { name, message }),
            declared_at: text("DeclaredAt").unwrap_or_default(),
            path: text("Path").unwrap_or_default(),
            ..Self::default()
        };
        let mut take = |key: &str| dict.remove(key);
        let mut count = |key: &str| take(key).and_then(|count| count.try_into().ok()).unwrap_or_default();
        (listed.answers, listed.refusals) = (count("Answers"), count("Refusals"));
        listed.withheld = take("Withheld").and_then(|value| value.try_into().ok()).unwrap_or_default();
        listed.outdated = take("Outdated").and_then(|value| value.try_into().ok()).unwrap_or_default();
        listed.units = take("Units").and_then(|value| value.try_into().ok()).unwrap_or_default();
        // nothing was fetched: 0 and -1 on D-Bus
        listed.size =
            take("Size").and_then(|size| i64::try_from(size).ok()).and_then(|size| size.try_into().ok());
        listed.age = take("Age").and_then(|age| i64::try_from(age).ok()).and_then(|age| age.try_into().ok());
        listed.version = take("Version")
            .and_then(|version| version.try_into().ok())
            .filter(|version| *version > 0)
            .map(version::text);
        listed
    }
}

impl Listed {
    /// The secret's problem: why units are refused the value, or the last failure, or why some units are
    /// refused the secret.
    fn problem(&self) -> Option<&str> {
        self.error.as_ref().map(|error| error.message.as_str()).or(self.sealed_error.as_deref())
    }

    /// Whether units are refused the stored value.
    pub(super) fn is_unusable(&self) -> bool {
        let unusable = ["org.onecred.Error.Empty", "org.onecred.Error.TooLarge"];
        self.error.as_ref().is_some_and(|error| unusable.contains(&error.name.as_str()))
    }
}

/// Looks up one secret by its name, if the user may know it without entering a password.
pub(super) async fn one(manager: &ManagerProxy<'_>, name: &str) -> Option<Listed> {
    let secrets = manager.list_secrets_silently().await.ok()?;
    secrets.into_iter().map(Listed::of).find(|secret| secret.name == name)
}

/// All secrets by name.
pub(super) async fn all(manager: &ManagerProxy<'_>) -> Result<Vec<Listed>, Fault> {
    let mut secrets: Vec<Listed> = manager.list_secrets().await?.into_iter().map(Listed::of).collect();
    secrets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(secrets)
}

/// An entry of the JSON list, with `type` `secret`, `template` or `rule`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Entry<'a> {
    Secret(&'a Listed),
    Template(&'a TemplateStatus),
    Rule(&'a Rule),
}

/// Lists secrets, templates and rules.
pub fn list(args: &ListArgs, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (secrets, (templates, rules), sealing_error) = bus::talk(async |bus| {
        let manager = bus.manager().await?;
        let secrets = all(&manager).await;
        let others = templates::all(&manager).await?;
        let sealing_error = manager.sealing_error().await.ok().filter(|text| !text.is_empty());
        match secrets {
            // a unit may be granted a template but no secret
            Err(fault) if fault.is_not_authorized() && others != (Vec::new(), Vec::new()) => {
                Ok((Vec::new(), others, sealing_error))
            }
            secrets => Ok((secrets?, others, sealing_error)),
        }
    })?;
    if args.json {
        let secrets = secrets.iter().map(Entry::Secret);
        let all = secrets.chain(templates.iter().map(Entry::Template)).chain(rules.iter().map(Entry::Rule));
        show::json(out, &all.collect::<Vec<_>>())?;
    } else {
        let paint = Paint::of_stdout();
        write!(out, "{}", screen(&secrets, &templates, &rules, paint))?;
        if let Some(why) = sealing_error {
            let what =
                format!("no value can be sealed, so units that use the sealed socket are refused: {why}");
            write!(out, "\n{}", table(&[Row::new(vec![Cell::red(&what)])], paint))?;
        }
    }
    Ok(out.flush()?)
}

/// Everything in columns, then the problems of secrets and templates.
fn screen(secrets: &[Listed], templates: &[TemplateStatus], rules: &[Rule], paint: Paint) -> String {
    let tables =
        columns(secrets, paint) + &templates::templates(templates, paint) + &templates::rules(rules, paint);
    let of_secrets: Vec<_> = problems(secrets).collect();
    let of_templates =
        templates.iter().filter_map(|template| Some((template.name.as_str(), template.problem()?)));
    let of_templates: Vec<_> = causes::not_in(&of_secrets, of_templates).collect();
    let causes = causes::group(of_secrets.into_iter().chain(of_templates));
    let gap = if causes.is_empty() { "" } else { "\n" };
    let mut withheld = withheld(secrets);
    withheld.extend(
        templates.iter().flat_map(|template| &template.withheld).map(|text| Row::new(vec![Cell::red(text)])),
    );
    let before = if withheld.is_empty() { "" } else { "\nrestart or reload withheld:\n" };
    let outdated = outdated(secrets, templates);
    let title = if outdated.is_empty() { "" } else { "\nrunning with an old value:\n" };
    let (causes, withheld) = (causes::lines(&causes, paint), table(&withheld, paint));
    format!("{tables}{gap}{causes}{before}{withheld}{title}{}", table(&outdated, paint))
}

/// Withheld restarts and reloads, one row per unit.
pub(super) fn withheld(secrets: &[Listed]) -> Vec<Row> {
    let all = secrets.iter().flat_map(|secret| &secret.withheld);
    all.map(|withheld| Row::new(vec![Cell::red(withheld)])).collect()
}

/// The units that run with an old value, one row per unit and secret or template.
fn outdated(secrets: &[Listed], templates: &[TemplateStatus]) -> Vec<Row> {
    let of_secrets = secrets.iter().map(|secret| (&secret.name, &secret.outdated));
    let of_templates = templates.iter().map(|template| (&template.name, &template.outdated));
    let row = |name: &String, unit: &String| Row::new(vec![name.as_str().into(), unit.as_str().into()]);
    let all = of_secrets.chain(of_templates);
    all.flat_map(|(name, units)| units.iter().map(move |unit| row(name, unit))).collect()
}

/// The secrets in columns.
fn columns(secrets: &[Listed], paint: Paint) -> String {
    let head = ["NAME", "STATE", "VERSION", "AGE", "SOURCE", "UNITS"];
    let head = Row::new(head.iter().map(|title| Cell::bold(title)).collect());
    let row = |secret: &Listed| {
        Row::new(vec![
            secret.name.as_str().into(),
            state(&secret.state, secret.held.as_deref()),
            secret.version.as_deref().unwrap_or("-").into(),
            secret.age.map_or("-".into(), show::age).into(),
            secret.source.as_str().into(),
            secret.units.join(", ").into(),
        ])
    };
    let rows: Vec<Row> = std::iter::once(head).chain(secrets.iter().map(row)).collect();
    if secrets.is_empty() {
        return "no secrets are declared\n".into();
    }
    table(&rows, paint)
}

/// The problems: each secret's name with its message.
fn problems(secrets: &[Listed]) -> impl Iterator<Item = (&str, &str)> {
    secrets.iter().filter_map(|secret| Some((secret.name.as_str(), secret.problem()?)))
}

#[cfg(test)]
pub(super) mod tests;
