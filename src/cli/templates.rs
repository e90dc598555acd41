//! Templates and rules, which `onecred list` shows below the secrets.

use std::collections::HashMap;

use serde::Serialize;
use zbus::OwnedVariant;

use super::bus::{Fault, ManagerProxy};
use super::common::state::state;
use super::common::table::{Cell, Row, table};
use crate::cli::common::show::Paint;

/// A template and its state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TemplateStatus {
    /// Its name.
    pub(super) name: String,
    /// Its references in 1Password.
    pub(super) references: Vec<String>,
    /// The units that may have it.
    pub(super) units: Vec<String>,
    /// The state of its worst part, or `failing` if units are refused the result.
    pub(super) state: String,
    /// Why units are refused the template.
    pub(super) error: Option<Fault>,
    /// Why the sealed socket refuses the template, if the plain socket serves it.
    pub(super) sealed_error: Option<String>,
    /// The file that it is published to.
    pub(super) target: Option<String>,
    /// The units whose restart or reload is withheld although one of its values has changed, each with the
    /// reason.
    pub(super) withheld: Vec<String>,
    /// The units that run with another value of one of its parts than the current one, each with the version of
    /// that value.
    pub(super) outdated: Vec<String>,
    /// Where it was declared, as FILE:LINE.
    pub(super) declared_at: String,
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    /// Its reference, with placeholders.
    reference: String,
    /// The source that resolves it.
    source: String,
    /// The units that may have it.
    pub(super) units: Vec<String>,
    /// The credential IDs, as globs.
    credentials: Vec<String>,
    /// Where it was declared, as FILE:LINE.
    pub(super) declared_at: String,
}

type Dict = HashMap<String, OwnedVariant>;

fn text(dict: &mut Dict, key: &str) -> Option<String> {
    let text = dict.remove(key).and_then(|value| String::try_from(value).ok());
    text.filter(|text| !text.is_empty())
}

fn list(dict: &mut Dict, key: &str) -> Vec<String> {
    dict.remove(key).and_then(|value| value.try_into().ok()).unwrap_or_default()
}

impl TemplateStatus {
    fn of(mut dict: Dict) -> Self {
        let dict = &mut dict;
        let name = text(dict, "LastErrorName").unwrap_or_default();
        Self {
            name: text(dict, "Name").unwrap_or_default(),
            references: list(dict, "References"),
            units: list(dict, "Units"),
            state: text(dict, "State").unwrap_or_default(),
            error: text(dict, "LastError").map(|message| Fault { name, message }),
            sealed_error: text(dict, "SealedError"),
            target: text(dict, "Target"),
            withheld: list(dict, "Withheld"),
            outdated: list(dict, "Outdated"),
            declared_at: text(dict, "DeclaredAt").unwrap_or_default(),
        }
    }
}

impl TemplateStatus {
    /// Why some or all units are refused the template. The template's name is removed.
    pub(super) fn problem(&self) -> Option<&str> {
        let message =
            self.error.as_ref().map(|error| error.message.as_str()).or(self.sealed_error.as_deref())?;
        Some(message.strip_prefix(&format!("template {}: ", self.name)).unwrap_or(message))
    }
}

impl Rule {
    fn of(mut dict: Dict) -> Self {
        let dict = &mut dict;
        Self {
            reference: text(dict, "Reference").unwrap_or_default(),
            source: text(dict, "Source").unwrap_or_default(),
            units: list(dict, "Units"),
            credentials: list(dict, "Credentials"),
            declared_at: text(dict, "DeclaredAt").unwrap_or_default(),
        }
    }
}

/// All templates and rules that the user may see. Empty if onecred is too old to list them.
pub(super) async fn all(manager: &ManagerProxy<'_>) -> Result<(Vec<TemplateStatus>, Vec<Rule>), Fault> {
    let templates = known(manager.list_templates().await)?;
    let rules = known(manager.list_rules().await)?;
    Ok((templates.into_iter().map(TemplateStatus::of).collect(), rules.into_iter().map(Rule::of).collect()))
}

fn known(listed: zbus::Result<Vec<Dict>>) -> Result<Vec<Dict>, Fault> {
    match listed {
        Err(zbus::Error::MethodError(name, ..))
            if name.as_str() == "org.freedesktop.DBus.Error.UnknownMethod" =>
        {
            Ok(Vec::new())
        }
        // a unit may be granted secrets, but no templates or rules
        other => match other.map_err(Fault::from) {
            Err(fault) if fault.is_not_authorized() => Ok(Vec::new()),
            other => other,
        },
    }
}

/// The templates in columns, with their references.
pub(super) fn templates(templates: &[TemplateStatus], paint: Paint) -> String {
    let row = |template: &TemplateStatus| Row {
        cells: vec![
            template.name.as_str().into(),
            state(&template.state, None),
            template.units.join(", ").into(),
        ],
        below: (!template.references.is_empty())
            .then(|| format!("of {}", template.references.join(", ")).into())
            .into_iter()
            .collect(),
    };
    section(&["TEMPLATE", "STATE", "UNITS"], templates.iter().map(row), paint)
}

/// The rules in columns, with their references.
pub(super) fn rules(rules: &[Rule], paint: Paint) -> String {
    let row = |rule: &Rule| Row {
        cells: vec![
            rule.declared_at.as_str().into(),
            rule.credentials.join(", ").into(),
            rule.units.join(", ").into(),
        ],
        below: vec![format!("gives {}", rule.reference).into()],
    };
    section(&["RULE", "CREDENTIALS", "UNITS"], rules.iter().map(row), paint)
}

/// Rows with a heading after an empty line; nothing if there are no rows.
fn section(head: &[&str], rows: impl Iterator<Item = Row>, paint: Paint) -> String {
    let head = Row::new(head.iter().map(|title| Cell::bold(title)).collect());
    let rows: Vec<Row> = std::iter::once(head).chain(rows).collect();
    if rows.len() == 1 { String::new() } else { format!("\n{}", table(&rows, paint)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(pairs: &[(&str, zbus::Variant<'_>)]) -> Dict {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.try_to_owned().unwrap())).collect()
    }

    #[test]
    fn templates_and_rules_are_shown() {
        let strings = |strings: &[&str]| {
            zbus::Variant::from(strings.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>())
        };
        let template = TemplateStatus::of(dict(&[
            ("Name", "app-env".into()),
            ("References", strings(&["op://Servers/postgres/password", "op://Servers/openai/credential"])),
            ("Units", strings(&["app.service"])),
            ("State", "failing".into()),
            ("LastErrorName", "org.onecred.Error.NotFound".into()),
            ("LastError", "template app-env: op://v/i/f: not found: x; do y".into()),
            ("SealedError", "too large: x".into()),
            ("Target", "".into()),
        ]));
        assert_eq!(template.target, None);
        assert_eq!(template.problem(), Some("op://v/i/f: not found: x; do y"));
        assert_eq!(TemplateStatus { error: None, ..template.clone() }.problem(), Some("too large: x"));
        let rule = Rule::of(dict(&[
            ("Reference", "op://Servers/{instance}/password".into()),
            ("Units", strings(&["web@*.service"])),
            ("Credentials", strings(&["*"])),
            ("DeclaredAt", "/etc/onecred/secrets.json:7".into()),
        ]));
        let expected = "
TEMPLATE  STATE    UNITS
app-env   failing  app.service
    of op://Servers/postgres/password, op://Servers/openai/credential

RULE                         CREDENTIALS  UNITS
/etc/onecred/secrets.json:7  *            web@*.service
    gives op://Servers/{instance}/password
";
        assert_eq!(templates(&[template], Paint::NONE) + &rules(&[rule], Paint::NONE), expected);
        assert_eq!(templates(&[], Paint::NONE) + &rules(&[], Paint::NONE), "");
    }
}
