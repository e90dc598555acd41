//! Who may have what: deny by default, and a refusal says which line to add. Pure: no I/O, no clock.

use std::collections::HashMap;
use std::sync::Arc;

pub use crate::glob::{BadPattern, Glob};
use crate::name::{CredentialId, SecretName, UnitName, has_unit_type, unescape};
use crate::reference::{BadTemplate, ReferenceTemplate};
use crate::secret::{Grant, Secret, Wanted};

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

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// Nothing in the configuration goes by this ID, for whatever unit.
    Unknown,
    /// Secrets that could be meant name other units.
    NotNamed {
        /// The secret that goes by this ID.
        secret: SecretName,
        /// Where it was declared.
        declared_at: String,
    },
    /// Two secrets of equal rank claim this unit and ID.
    Several(Vec<SecretName>),
    /// A template goes by this ID for this unit, and templates are not served yet. No rule stands in for it.
    NotServed(SecretName),
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
                format!("not allowed: no secret or rule gives credential {credential} to any unit")
            }
            Self::NotNamed { secret, declared_at } => {
                format!(
                    "not allowed: secret {secret} ({declared_at}) does not name {unit} in its units for credential {credential}"
                )
            }
            Self::Several(names) => {
                let names: Vec<_> = names.iter().map(SecretName::as_str).collect();
                format!(
                    "not allowed: several secrets ({}) match {unit} for credential {credential}",
                    names.join(", ")
                )
            }
            Self::NotServed(name) => {
                format!("not allowed: {name} is a template, and this version does not fill templates in")
            }
            Self::Template { declared_at, why } => {
                format!("not allowed: the rule at {declared_at} gives no reference here: {why}")
            }
        }
    }

    /// What to do about it.
    pub fn remedy(&self, unit: &UnitName, credential: &CredentialId) -> String {
        let entry = |secret: &SecretName| match secret.as_str() == credential.as_str() {
            true => format!("{:?}", unit.as_str()),
            false => format!("{:?}", format!("{unit}/{credential}")),
        };
        match self {
            Self::Unknown => format!(
                "declare it in /etc/onecred/secrets.json: {{ \"name\": \"{credential}\", \"reference\": \"op://VAULT/ITEM/FIELD\", \"units\": [\"{unit}\"] }}, then: systemctl reload onecred"
            ),
            Self::NotNamed { secret, .. } => {
                format!(
                    "if it may have it, add {} to the units of {secret}, then: systemctl reload onecred",
                    entry(secret)
                )
            }
            Self::Several(_) => {
                format!("name {unit} in the units of only one of them, then: systemctl reload onecred")
            }
            Self::NotServed(_) => "serve the secrets in it by themselves".to_owned(),
            Self::Template { .. } => {
                "declare a secret of its own for this unit, which goes before rules".to_owned()
            }
        }
    }
}

/// All secrets and rules, arranged to be asked.
#[derive(Debug, Default)]
pub struct Policy {
    secrets: Vec<(Secret, Arc<Wanted>)>,
    rules: Vec<Rule>,
    templates: Vec<(Grant, SecretName)>,
    exact: HashMap<CredentialId, HashMap<UnitName, Vec<usize>>>,
    globs: HashMap<CredentialId, Vec<(UnitPattern, usize)>>,
}

impl Policy {
    /// Arranges what a configuration declares.
    pub fn new(secrets: Vec<Secret>, rules: Vec<Rule>) -> Self {
        let mut policy = Self { rules, ..Self::default() };
        for (index, secret) in secrets.into_iter().enumerate() {
            for grant in &secret.grants {
                let name = grant.units.glob().literal().and_then(|name| UnitName::parse(name).ok());
                match name {
                    Some(unit) => policy
                        .exact
                        .entry(grant.credential.clone())
                        .or_default()
                        .entry(unit)
                        .or_default()
                        .push(index),
                    None => policy
                        .globs
                        .entry(grant.credential.clone())
                        .or_default()
                        .push((grant.units.clone(), index)),
                }
            }
            let wanted = Arc::new(secret.wanted.clone());
            policy.secrets.push((secret, wanted));
        }
        policy
    }

    /// Keeps what templates have been given to units for them.
    pub fn with_templates(self, templates: Vec<(Grant, SecretName)>) -> Self {
        Self { templates, ..self }
    }

    /// The secrets, in the order of their declaration.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().map(|(secret, _)| secret)
    }

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Judges a request. An entry that names the unit goes before one that matches it by glob; secrets go before rules; the first rule that
    /// matches both unit and ID counts. Where two secrets of equal rank match, none is picked.
    pub fn judge(&self, unit: &UnitName, credential: &CredentialId) -> Result<Arc<Wanted>, Denial> {
        let named = self
            .exact
            .get(credential)
            .and_then(|units| units.get(unit))
            .map(Vec::as_slice)
            .unwrap_or_default();
        if let Some(wanted) = self.only(named)? {
            return Ok(wanted);
        }
        let globs = self.globs.get(credential).map(Vec::as_slice).unwrap_or_default();
        let mut matching: Vec<usize> =
            globs.iter().filter(|(p, _)| p.matches(unit)).map(|&(_, index)| index).collect();
        matching.dedup(); // one secret may name a unit by two globs
        if let Some(wanted) = self.only(&matching)? {
            return Ok(wanted);
        }
        let by_template =
            |(grant, _): &&(Grant, SecretName)| grant.credential == *credential && grant.units.matches(unit);
        if let Some((_, name)) = self.templates.iter().find(by_template) {
            return Err(Denial::NotServed(name.clone()));
        }
        let matches = |rule: &&Rule| {
            rule.units.iter().any(|p| p.matches(unit))
                && rule.credentials.iter().any(|g| g.matches(credential.as_str()))
        };
        match self.rules.iter().find(matches) {
            Some(rule) => rule.fill(unit, credential).map(Arc::new),
            None => Err(self.why_not(credential)),
        }
    }

    fn only(&self, indexes: &[usize]) -> Result<Option<Arc<Wanted>>, Denial> {
        match indexes {
            [] => Ok(None),
            [first, rest @ ..] if rest.iter().all(|index| index == first) => {
                Ok(Some(Arc::clone(&self.secrets[*first].1)))
            }
            several => Err(Denial::Several(
                several.iter().map(|&index| self.secrets[index].0.name.clone()).collect(),
            )),
        }
    }

    fn why_not(&self, credential: &CredentialId) -> Denial {
        let by_name = self.secrets().find(|s| s.name.as_str() == credential.as_str());
        let by_id = || self.secrets().find(|s| s.grants.iter().any(|g| g.credential == *credential));
        match by_name.or_else(by_id) {
            Some(s) => Denial::NotNamed { secret: s.name.clone(), declared_at: s.declared_at.clone() },
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
#[path = "policy_tests.rs"]
mod tests;
