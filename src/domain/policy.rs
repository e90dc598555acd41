//! The policy: which unit may have which credential. Denies by default; a refusal names the line to add.
//! Pure: no I/O, no clock.

use std::collections::HashMap;
use std::sync::Arc;

pub use crate::domain::glob::{BadPattern, Glob};
use crate::domain::name::{CredentialId, SecretName, UnitName, unescape};
use crate::domain::reference::{BadTemplate, ReferenceTemplate};
use crate::domain::secret::{Grant, Secret, Wanted};
use crate::domain::template::Filling;
use crate::domain::unit_pattern::UnitPattern;

/// A rule: which units may have which credentials, and the reference of each.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The units.
    pub units: Vec<UnitPattern>,
    /// The credential IDs.
    pub credentials: Vec<Glob>,
    /// The reference, with placeholders.
    pub reference: ReferenceTemplate,
    /// The other properties of its values. The reference in it is a placeholder.
    pub wanted: Wanted,
    /// Where it was declared, as `FILE:LINE`.
    pub declared_at: String,
}

/// The result of a request: one value, or a template filled in with several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deliverable {
    /// A value.
    Secret(Arc<Wanted>),
    /// A template.
    Template(Arc<Filling>),
}

impl Deliverable {
    /// The parts that it needs, in the order of their use.
    pub fn parts(&self) -> &[Arc<Wanted>] {
        match self {
            Self::Secret(wanted) => std::slice::from_ref(wanted),
            Self::Template(filling) => &filling.parts,
        }
    }

    /// Its name in the configuration: of the secret or template, or the rule's place in its file.
    pub fn label(&self) -> &str {
        match self {
            Self::Secret(wanted) => &wanted.label,
            Self::Template(filling) => filling.name.as_str(),
        }
    }

    /// A description of its parts in 1Password.
    pub fn references(&self) -> String {
        let references: Vec<_> = self.parts().iter().map(|wanted| wanted.reference.to_string()).collect();
        references.join(", ")
    }
}

/// The maximum number of other IDs that a refusal names.
const OTHERS: usize = 3;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The configuration has no secret, template or rule with this ID, for any unit.
    Unknown {
        /// The IDs under which the unit may have something, the most similar first.
        others: Vec<(CredentialId, SecretName)>,
    },
    /// The secrets or templates with this ID name other units.
    NotNamed {
        /// `secret` or `template`.
        kind: &'static str,
        /// The secret or template with this credential ID.
        name: SecretName,
        /// Where it was declared.
        declared_at: String,
        /// The ID under which the secret names the unit.
        instead: Option<CredentialId>,
    },
    /// Two secrets or templates of equal rank match this unit and ID.
    Several(Vec<SecretName>),
    /// A rule allows it, but its reference is invalid for this request.
    Template {
        /// Where the rule was declared.
        declared_at: String,
        /// What is wrong.
        why: BadTemplate,
    },
}

impl Denial {
    /// The cause, as text for the refused request.
    pub fn cause(&self, unit: &UnitName, credential: &CredentialId) -> String {
        match self {
            Self::Unknown { .. } => {
                format!("not allowed: no secret, template or rule gives credential {credential} to any unit")
            }
            Self::NotNamed { kind, name, declared_at, instead } => {
                let instead = instead.as_ref().map(|id| format!(", but for credential {id}"));
                format!(
                    "not allowed: {kind} {name} ({declared_at}) does not name {unit} in its units for credential {credential}{}",
                    instead.unwrap_or_default()
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

    /// The remedy.
    pub fn remedy(&self, unit: &UnitName, credential: &CredentialId) -> String {
        let entry = |name: &SecretName| match name.as_str() == credential.as_str() {
            true => format!("{:?}", unit.as_str()),
            false => format!("{:?}", format!("{unit}/{credential}")),
        };
        match self {
            Self::Unknown { others } => {
                let declare = format!(
                    "declare it in /etc/onecred/secrets.json: {{ \"name\": \"{credential}\", \"reference\": \"op://VAULT/ITEM/FIELD\", \"units\": [\"{unit}\"] }}, then: onecred reload"
                );
                let others = others.iter().map(|(id, name)| match id.as_str() == name.as_str() {
                    true => id.to_string(),
                    false => format!("{id} (secret {name})"),
                });
                match others.collect::<Vec<_>>() {
                    others if others.is_empty() => declare,
                    others => format!(
                        "{unit} is allowed to load: {}; ask for one of these IDs, or {declare}",
                        others.join(", ")
                    ),
                }
            }
            Self::NotNamed { name, instead: Some(id), .. } => format!(
                "have the unit ask for {id}, which is {name}, or add {} to the units of {name}, then: onecred reload",
                entry(name)
            ),
            Self::NotNamed { name, .. } => {
                format!("to allow it, add {} to the units of {name}, then: onecred reload", entry(name))
            }
            Self::Several(_) => {
                format!("name {unit} in the units of only one of them, then: onecred reload")
            }
            Self::Template { .. } => {
                "declare a secret for this unit; secrets take precedence over rules".to_owned()
            }
        }
    }
}

/// All secrets, templates and rules, indexed for requests.
#[derive(Debug, Default)]
pub struct Policy {
    secrets: Vec<Secret>,
    rules: Vec<Rule>,
    entries: Vec<Entry>,
    /// Where each secret or template is in the entries.
    names: HashMap<String, usize>,
    exact: HashMap<CredentialId, HashMap<UnitName, Vec<usize>>>,
    globs: HashMap<CredentialId, Vec<(UnitPattern, usize)>>,
}

/// A secret or a template, as it is delivered.
#[derive(Debug)]
struct Entry {
    name: SecretName,
    declared_at: String,
    credentials: Vec<CredentialId>,
    gives: Deliverable,
}

impl Policy {
    /// Indexes the declarations of a configuration.
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
        self.names.entry(name.to_string()).or_insert(index);
        self.entries.push(Entry { name, declared_at, credentials, gives });
    }

    /// The secrets, in the order of their declaration.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter()
    }

    /// The rules, in order of precedence.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What a name means, for any unit. Secrets and templates share one namespace.
    pub fn by_name(&self, name: &str) -> Option<&Deliverable> {
        self.names.get(name).map(|&index| &self.entries[index].gives)
    }

    /// Judges a request. An entry that names the unit precedes an entry that matches it by glob; secrets and templates precede rules; the
    /// first rule that matches both unit and ID counts. If two secrets or templates of equal rank match, the request is refused.
    pub fn judge(&self, unit: &UnitName, credential: &CredentialId) -> Result<Deliverable, Denial> {
        if let Some(gives) = self.entry_for(unit, credential)? {
            return Ok(gives);
        }
        match self.rule_for(unit, credential) {
            Some(rule) => rule.fill(unit, credential).map(|wanted| Deliverable::Secret(Arc::new(wanted))),
            None => Err(self.why_not(unit, credential)),
        }
    }

    /// The rule that gives a credential by a pattern, if one does: the unit may have any number of others by it.
    pub fn rule_by_pattern(&self, unit: &UnitName, credential: &CredentialId) -> Option<&Rule> {
        if !matches!(self.entry_for(unit, credential), Ok(None)) {
            return None;
        }
        let is_literal = |glob: &Glob| glob.literal() == Some(credential.as_str());
        self.rule_for(unit, credential).filter(|rule| !rule.credentials.iter().any(is_literal))
    }

    /// The secret or template that a unit gets by this ID.
    fn entry_for(&self, unit: &UnitName, credential: &CredentialId) -> Result<Option<Deliverable>, Denial> {
        let named = self.exact.get(credential).and_then(|units| units.get(unit));
        if let Some(gives) = self.only(named.map(Vec::as_slice).unwrap_or_default())? {
            return Ok(Some(gives));
        }
        let globs = self.globs.get(credential).map(Vec::as_slice).unwrap_or_default();
        let matching: Vec<usize> =
            globs.iter().filter(|(p, _)| p.matches(unit)).map(|&(_, index)| index).collect();
        self.only(&matching)
    }

    /// The first rule for a unit and ID.
    fn rule_for(&self, unit: &UnitName, credential: &CredentialId) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            rule.units.iter().any(|p| p.matches(unit))
                && rule.credentials.iter().any(|g| g.matches(credential.as_str()))
        })
    }

    /// The entry that all of these refer to, if it is one: an entry may name a unit twice.
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

    /// Whether a unit may have anything.
    pub fn gives_any(&self, unit: &UnitName) -> bool {
        self.exact.values().any(|units| units.contains_key(unit))
            || self.globs.values().flatten().any(|(pattern, _)| pattern.matches(unit))
            || self.rules.iter().any(|rule| rule.units.iter().any(|pattern| pattern.matches(unit)))
    }

    /// The credentials for which secrets and templates name a unit, by its name and not by a glob.
    pub fn named(&self, unit: &UnitName) -> Vec<CredentialId> {
        let named = self.exact.iter().filter(|(_, units)| units.contains_key(unit));
        let mut named: Vec<_> = named.map(|(credential, _)| credential.clone()).collect();
        named.sort();
        named
    }

    /// The IDs under which a unit may have secrets and templates, with the indexes of their entries.
    fn given(&self, unit: &UnitName) -> impl Iterator<Item = (&CredentialId, usize)> {
        let exact = self.exact.iter().filter_map(|(id, units)| Some((id, units.get(unit)?)));
        let exact = exact.flat_map(|(id, entries)| entries.iter().map(move |&entry| (id, entry)));
        let globs =
            self.globs.iter().flat_map(|(id, all)| all.iter().map(move |(pattern, at)| (id, pattern, *at)));
        exact.chain(globs.filter(|(_, pattern, _)| pattern.matches(unit)).map(|(id, _, entry)| (id, entry)))
    }

    fn why_not(&self, unit: &UnitName, credential: &CredentialId) -> Denial {
        let by_name = self.names.get(credential.as_str()).copied();
        let by_id = || self.entries.iter().position(|entry| entry.credentials.contains(credential));
        match by_name.or_else(by_id) {
            Some(index) => {
                let Entry { name, declared_at, gives, .. } = &self.entries[index];
                let kind = if matches!(gives, Deliverable::Secret(_)) { "secret" } else { "template" };
                let given =
                    self.given(unit).filter(|(id, entry)| *entry == index && self.judge(unit, id).is_ok());
                let instead = given.map(|(id, _)| id).min();
                Denial::NotNamed {
                    kind,
                    name: name.clone(),
                    declared_at: declared_at.clone(),
                    instead: instead.cloned(),
                }
            }
            None => {
                let distance = |id: &CredentialId| strsim::osa_distance(id.as_str(), credential.as_str());
                let given = self.given(unit).filter(|(id, _)| self.judge(unit, id).is_ok());
                let mut others: Vec<_> = given.collect();
                others.sort_by_key(|(id, _)| (distance(id), *id));
                others.dedup();
                let name = |entry: usize| self.entries[entry].name.clone();
                let others = others.into_iter().take(OTHERS).map(|(id, entry)| (id.clone(), name(entry)));
                Denial::Unknown { others: others.collect() }
            }
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

/// Undoes `\xNN` but keeps `-`, which people far more often write literally than for `/`. The result is
/// checked anyway.
fn unescape_dashes_kept(text: &str) -> Option<String> {
    unescape(&text.replace('-', r"\x2d"))
}

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
