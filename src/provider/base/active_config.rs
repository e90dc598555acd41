//! The configuration in force, and which fields of which items it wants for which units.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::{Settings, Source, SourceKind, Template};
use crate::domain::name::SourceName;
use crate::domain::reference::FieldRef;
use crate::domain::secret::{Grant, Secret, Wanted};
use crate::domain::unit_pattern::UnitPattern;
use crate::ipc::{Declarations, Declared};
use crate::provider::base::item_key::ItemKey;

/// Owns the configuration in force. A reload replaces it; who has taken it keeps what it took.
#[derive(Debug, Default)]
pub struct CurrentConfig(RwLock<Arc<ActiveConfig>>);

impl CurrentConfig {
    /// Starts with this configuration.
    pub fn new(active: ActiveConfig) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(active))))
    }

    /// The configuration in force at this moment.
    pub fn get(&self) -> Arc<ActiveConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one in force.
    pub(in crate::provider) fn replace(&self, next: ActiveConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// A valid configuration, or the reason why none can be used.
#[derive(Debug, Default)]
pub struct ActiveConfig {
    /// What is configured.
    pub settings: Settings,
    /// Why nothing is configured, where the configuration could not be read.
    pub error: Option<String>,
    /// A digest of the files it was loaded from; empty without any.
    pub digest: String,
    /// When these were loaded first, in seconds of the Unix epoch.
    pub loaded: u64,
    items: BTreeMap<ItemKey, Item>,
    declarations: Declarations,
    /// Where each secret is in the policy's order.
    names: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Item {
    fields: Vec<FieldRef>,
    grants: Vec<UnitPattern>,
}

impl ActiveConfig {
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
        let declared = |source: &Source| Declared {
            print: source.print(),
            definition: serde_json::to_string(source).ok(),
        };
        let declarations = settings.sources.iter().map(|(name, source)| (name.clone(), declared(source)));
        let declarations = declarations.collect();
        let names = settings.policy.secrets().enumerate();
        let names = names.map(|(at, secret)| (secret.name.to_string(), at)).collect();
        Self { settings, error: None, digest: String::new(), loaded: 0, items, declarations, names }
    }

    /// Arranges a configuration that was loaded from files of this digest, first at this time.
    pub fn of_files(settings: Settings, digest: String, loaded: u64) -> Self {
        Self { digest, loaded, ..Self::new(settings) }
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

    /// All sources, for the resolver. It learns nothing else of the configuration, no unit's name in particular.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// The fingerprint of a source's definition; see [`Source::print`](crate::config::Source::print).
    pub fn print(&self, source: &SourceName) -> &str {
        self.declarations.get(source).map(|source| source.print.as_str()).unwrap_or_default()
    }

    /// A source's definition as JSON, for the resolver.
    pub fn definition(&self, source: &SourceName) -> Option<String> {
        self.declarations.get(source)?.definition.clone()
    }

    /// Whether calls to a source cost something: a request over a network, or a part of a quota.
    pub fn calls_cost(&self, source: &SourceName) -> bool {
        let source = self.settings.sources.get(source);
        source.is_some_and(|source| !matches!(source.kind, SourceKind::File { .. }))
    }

    /// Whether an item that was fetched for a rule or not, from a source with this fingerprint, still belongs to this configuration.
    pub fn keeps(&self, key: &ItemKey, by_rule: bool, source_print: &str) -> bool {
        let wanted = self.items.contains_key(key)
            || by_rule && self.settings.policy.rules().iter().any(|rule| rule.wanted.source == key.source);
        let source = self.declarations.get(&key.source);
        wanted && source.is_some_and(|source| source.print == source_print)
    }
}
