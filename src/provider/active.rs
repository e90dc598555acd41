//! The configuration in force, arranged for the broker: which fields of which items are wanted, and whose they are.

use std::collections::{BTreeMap, HashMap};

use super::store::{ItemKey, Snapshot};
use crate::config::{Settings, Template};
use crate::name::SourceName;
use crate::policy::UnitPattern;
use crate::reference::FieldRef;
use crate::secret::{Grant, Secret, Wanted};
use crate::wire::Prints;

/// The configuration in force.
#[derive(Debug, Default)]
pub struct Active {
    /// What is configured.
    pub settings: Settings,
    /// Why nothing is configured, where the configuration could not be read.
    pub error: Option<String>,
    items: BTreeMap<ItemKey, Item>,
    prints: Prints,
    /// Where each secret is in the policy's order.
    names: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Item {
    fields: Vec<FieldRef>,
    grants: Vec<UnitPattern>,
}

impl Active {
    /// Arranges a configuration.
    pub fn new(settings: Settings) -> Self {
        let mut items: BTreeMap<ItemKey, Item> = BTreeMap::new();
        let mut add = |wanted: &Wanted, grants: &[Grant]| {
            let key = ItemKey::new(&wanted.source, &wanted.reference.item);
            let item = items.entry(key).or_default();
            if !item.fields.contains(&wanted.reference.field) {
                item.fields.push(wanted.reference.field.clone());
            }
            item.grants.extend(grants.iter().map(|grant| grant.units.clone()));
        };
        settings.policy.secrets().for_each(|secret| add(&secret.wanted, &secret.grants));
        for template in &settings.templates {
            template.filling.parts.iter().for_each(|part| add(part, &template.grants));
        }
        let prints = settings.sources.iter().map(|(name, source)| (name.clone(), source.print())).collect();
        let names = settings.policy.secrets().enumerate();
        let names = names.map(|(at, secret)| (secret.name.to_string(), at)).collect();
        Self { settings, error: None, items, prints, names }
    }

    /// A configuration that allows nothing, since the real one has errors.
    pub fn broken(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// A secret by its name.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.settings.policy.secrets().nth(*self.names.get(name)?)
    }

    /// A template by its name.
    pub fn template(&self, name: &str) -> Option<&Template> {
        self.settings.templates.iter().find(|template| template.name.as_str() == name)
    }

    /// The items that secrets and templates name.
    pub fn keys(&self) -> impl Iterator<Item = &ItemKey> {
        self.items.keys()
    }

    /// The fields of an item that secrets and templates name.
    pub fn fields(&self, key: &ItemKey) -> &[FieldRef] {
        self.items.get(key).map(|item| item.fields.as_slice()).unwrap_or_default()
    }

    /// The secrets that fields of an item are; of all its fields, where none are said.
    pub fn secrets_of<'a>(
        &'a self,
        key: &'a ItemKey,
        fields: Option<&'a [FieldRef]>,
    ) -> impl Iterator<Item = &'a Secret> {
        self.settings.policy.secrets().filter(move |secret| {
            let wanted = &secret.wanted;
            ItemKey::new(&wanted.source, &wanted.reference.item) == *key
                && fields.is_none_or(|fields| fields.contains(&wanted.reference.field))
        })
    }

    /// The units that may have something of an item.
    pub fn grants(&self, key: &ItemKey) -> impl Iterator<Item = &UnitPattern> {
        self.items.get(key).into_iter().flat_map(|item| &item.grants)
    }

    /// The fingerprints of all sources' definitions.
    pub fn prints(&self) -> &Prints {
        &self.prints
    }

    /// The fingerprint of a source's definition; see [`Source::print`](crate::config::Source::print).
    pub fn print(&self, source: &SourceName) -> &str {
        self.prints.get(source).map(String::as_str).unwrap_or_default()
    }

    /// Whether a snapshot still belongs to this configuration.
    pub fn keeps(&self, snapshot: &Snapshot) -> bool {
        let wanted = self.items.contains_key(&snapshot.key)
            || snapshot.by_rule
                && self.settings.policy.rules().iter().any(|rule| rule.wanted.source == snapshot.key.source);
        wanted && self.prints.get(&snapshot.key.source) == Some(&snapshot.source_print)
    }
}
