//! Who may have what: deny by default, and a refusal says which line to add. Pure: no I/O, no clock.

use std::collections::HashMap;
use std::sync::Arc;

pub use crate::glob::{BadPattern, Glob};
use crate::name::{CredentialId, SecretName, UnitName, has_unit_type, unescape};
use crate::reference::{BadTemplate, ReferenceTemplate};
use crate::secret::{Grant, Secret, Wanted};
use crate::template::Filling;

/// One unit by name, or many by glob; `.service` is understood where no type stands.
#[derive(Debug, Clone)]
pub struct UnitPattern(Glob);

impl UnitPattern {
    /// Reads a unit's name or a glob of such.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let whole =
            if has_unit_type(text) || text == "*" { text.to_owned() } else { format!("{text}.service") };
        let glob = Glob::parse(&whole)?;
        if let Some(name) = glob.literal() {
            UnitName::parse(name).map_err(|error| BadPattern(text.into(), error.to_string()))?;
        } else if whole.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(BadPattern(text.into(), "a unit's name holds neither / nor white space".into()));
        }
        Ok(Self(glob))
    }

    /// Whether a unit matches.
    pub fn matches(&self, unit: &UnitName) -> bool {
        self.0.matches(unit.as_str())
    }

    /// The pattern as a glob.
    pub fn glob(&self) -> &Glob {
        &self.0
    }
}

/// A rule: which units may have which credentials, and the reference that each of them stands for.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The units.
    pub units: Vec<UnitPattern>,
    /// The credential IDs.
    pub credentials: Vec<Glob>,
    /// The reference, with placeholders.
    pub reference: ReferenceTemplate,
    /// Everything else of what it gives; the reference in it is a stand-in.
    pub wanted: Wanted,
    /// Where it was declared, as `FILE:LINE`.
    pub declared_at: String,
}

/// What a request gives: one value, or a template filled in with several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deliverable {
    /// A value.
    Secret(Arc<Wanted>),
    /// A template.
    Template(Arc<Filling>),
}

impl Deliverable {
    /// What has to be got for it, in the order of its use.
    pub fn parts(&self) -> &[Arc<Wanted>] {
        match self {
            Self::Secret(wanted) => std::slice::from_ref(wanted),
            Self::Template(filling) => &filling.parts,
        }
    }

    /// What the configuration calls it: the name of a secret or template, or the rule's place in its file.
    pub fn label(&self) -> &str {
        match self {
            Self::Secret(wanted) => &wanted.label,
            Self::Template(filling) => filling.name.as_str(),
        }
    }

    /// What it is made of in 1Password, in words.
    pub fn references(&self) -> String {
        let references: Vec<_> = self.parts().iter().map(|wanted| wanted.reference.to_string()).collect();
        references.join(", ")
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// Nothing in the configuration goes by this ID, for whatever unit.
    Unknown,
    /// Secrets or templates that could be meant name other units.
    NotNamed {
        /// `secret` or `template`.
        kind: &'static str,
        /// The one that goes by this ID.
        name: SecretName,
        /// Where it was declared.
        declared_at: String,
    },
    /// Two secrets or templates of equal rank claim this unit and ID.
    Several(Vec<SecretName>),
    /// A rule allows it, and gives no reference for it.
    Template {
        /// Where the rule was declared.
        declared_at: String,
        /// What is wrong.
        why: BadTemplate,
    },
}

impl Denial {
    /// The cause in words, for the request that was refused.
    pub fn cause(&self, unit: &UnitName, credential: &CredentialId) -> String {
        match self {
            Self::Unknown => {
                format!("not allowed: no secret, template or rule gives credential {credential} to any unit")
            }
            Self::NotNamed { kind, name, declared_at } => {
                format!(
                    "not allowed: {kind} {name} ({declared_at}) does not name {unit} in its units for credential {credential}"
                )
            }
            Self::Several(names) => {
                let names: Vec<_> = names.iter().map(SecretName::as_str).collect();
                format!(
                    "not allowed: several ({}) match {unit} for credential {credential}",
                    names.join(", ")
                )
            }
            Self::Template { declared_at, why } => {
                format!("not allowed: the rule at {declared_at} gives no reference here: {why}")
            }
        }
    }

    /// What to do about it.
    pub fn remedy(&self, unit: &UnitName, credential: &CredentialId) -> String {
        let entry = |name: &SecretName| match name.as_str() == credential.as_str() {
            true => format!("{:?}", unit.as_str()),
            false => format!("{:?}", format!("{unit}/{credential}")),
        };
        match self {
            Self::Unknown => format!(
                "declare it in /etc/onecred/secrets.json: {{ \"name\": \"{credential}\", \"reference\": \"op://VAULT/ITEM/FIELD\", \"units\": [\"{unit}\"] }}, then: onecred reload"
            ),
            Self::NotNamed { name, .. } => {
                format!("if it may have it, add {} to the units of {name}, then: onecred reload", entry(name))
            }
            Self::Several(_) => {
                format!("name {unit} in the units of only one of them, then: onecred reload")
            }
            Self::Template { .. } => {
                "declare a secret of its own for this unit, which goes before rules".to_owned()
            }
        }
    }
}

/// All secrets, templates and rules, arranged to be asked.
#[derive(Debug, Default)]
pub struct Policy {
    secrets: Vec<Secret>,
    rules: Vec<Rule>,
    entries: Vec<Entry>,
    exact: HashMap<CredentialId, HashMap<UnitName, Vec<usize>>>,
    globs: HashMap<CredentialId, Vec<(UnitPattern, usize)>>,
}

/// A secret or a template, as it is given out.
#[derive(Debug)]
struct Entry {
    name: SecretName,
    declared_at: String,
    credentials: Vec<CredentialId>,
    gives: Deliverable,
}

impl Policy {
    /// Arranges what a configuration declares.
    pub fn new(secrets: Vec<Secret>, rules: Vec<Rule>) -> Self {
        let mut policy = Self { rules, ..Self::default() };
        for secret in &secrets {
            let gives = Deliverable::Secret(Arc::new(secret.wanted.clone()));
            policy.add(&secret.name, &secret.grants, &secret.declared_at, gives);
        }
        Self { secrets, ..policy }
    }

    /// Adds a template.
    pub fn add_template(&mut self, filling: Arc<Filling>, grants: &[Grant], declared_at: &str) {
        let name = filling.name.clone();
        self.add(&name, grants, declared_at, Deliverable::Template(filling));
    }

    fn add(&mut self, name: &SecretName, grants: &[Grant], declared_at: &str, gives: Deliverable) {
        let index = self.entries.len();
        for Grant { units, credential } in grants {
            match units.glob().literal().and_then(|name| UnitName::parse(name).ok()) {
                Some(unit) => {
                    let units = self.exact.entry(credential.clone()).or_default();
                    units.entry(unit).or_default().push(index);
                }
                None => self.globs.entry(credential.clone()).or_default().push((units.clone(), index)),
            }
        }
        let credentials = grants.iter().map(|grant| grant.credential.clone()).collect();
        let (name, declared_at) = (name.clone(), declared_at.to_owned());
        self.entries.push(Entry { name, declared_at, credentials, gives });
    }

    /// The secrets, in the order of their declaration.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter()
    }

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What a name stands for, whoever asks; secrets and templates have their names in common.
    pub fn by_name(&self, name: &str) -> Option<&Deliverable> {
        self.entries.iter().find(|entry| entry.name.as_str() == name).map(|entry| &entry.gives)
    }

    /// Judges a request. An entry that names the unit goes before one that matches it by glob; secrets and templates go before rules; the
    /// first rule that matches both unit and ID counts. Where two secrets or templates of equal rank match, none is picked.
    pub fn judge(&self, unit: &UnitName, credential: &CredentialId) -> Result<Deliverable, Denial> {
        let named = self
            .exact
            .get(credential)
            .and_then(|units| units.get(unit))
            .map(Vec::as_slice)
            .unwrap_or_default();
        if let Some(gives) = self.only(named)? {
            return Ok(gives);
        }
        let globs = self.globs.get(credential).map(Vec::as_slice).unwrap_or_default();
        let matching: Vec<usize> =
            globs.iter().filter(|(p, _)| p.matches(unit)).map(|&(_, index)| index).collect();
        if let Some(gives) = self.only(&matching)? {
            return Ok(gives);
        }
        let matches = |rule: &&Rule| {
            rule.units.iter().any(|p| p.matches(unit))
                && rule.credentials.iter().any(|g| g.matches(credential.as_str()))
        };
        match self.rules.iter().find(matches) {
            Some(rule) => rule.fill(unit, credential).map(|wanted| Deliverable::Secret(Arc::new(wanted))),
            None => Err(self.why_not(credential)),
        }
    }

    /// The one that all these are; one may name a unit twice.
    fn only(&self, indexes: &[usize]) -> Result<Option<Deliverable>, Denial> {
        match indexes {
            [] => Ok(None),
            [first, rest @ ..] if rest.iter().all(|index| index == first) => {
                Ok(Some(self.entries[*first].gives.clone()))
            }
            several => {
                Err(Denial::Several(several.iter().map(|&index| self.entries[index].name.clone()).collect()))
            }
        }
    }

    fn why_not(&self, credential: &CredentialId) -> Denial {
        let by_name = self.entries.iter().find(|entry| entry.name.as_str() == credential.as_str());
        let by_id = || self.entries.iter().find(|entry| entry.credentials.contains(credential));
        match by_name.or_else(by_id) {
            Some(Entry { name, declared_at, gives, .. }) => {
                let kind = if matches!(gives, Deliverable::Secret(_)) { "secret" } else { "template" };
                Denial::NotNamed { kind, name: name.clone(), declared_at: declared_at.clone() }
            }
            None => Denial::Unknown,
        }
    }
}

impl Rule {
    fn fill(&self, unit: &UnitName, credential: &CredentialId) -> Result<Wanted, Denial> {
        let value = |placeholder: &str| match placeholder {
            "unit" => unit.as_str().rsplit_once('.').map(|(stem, _)| stem.to_owned()),
            "prefix" => unescape_dashes_kept(unit.prefix()),
            "instance" => unit.instance().and_then(unescape_dashes_kept),
            "credential" => Some(credential.as_str().to_owned()),
            _ => None,
        };
        let reference = self.reference.fill(&|placeholder| value(placeholder).unwrap_or_default());
        match reference {
            Ok(reference) => Ok(Wanted { reference, ..self.wanted.clone() }),
            Err(why) => Err(Denial::Template { declared_at: self.declared_at.clone(), why }),
        }
    }
}

/// Undoes `\xNN`, and keeps `-`, which people write for itself far more often than for `/`; what comes out is checked anyway.
fn unescape_dashes_kept(text: &str) -> Option<String> {
    unescape(&text.replace('-', r"\x2d"))
}

#[cfg(test)]
#[path = "policy_oracle_tests.rs"]
mod oracle_tests;
#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
