//! The active configuration, and which fields of which items it grants to which units.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::{Settings, Source, SourceKind, Template};
use crate::domain::name::SourceName;
use crate::domain::reference::FieldRef;
use crate::domain::secret::{Grant, Secret, Wanted};
use crate::domain::unit_pattern::UnitPattern;
use crate::ipc::{Declarations, Declared};
use crate::provider::base::item_key::ItemKey;

/// Owns the active configuration. A reload replaces it; a caller that has already taken the old one keeps it.
#[derive(Debug, Default)]
pub struct CurrentConfig(RwLock<Arc<ActiveConfig>>);

impl CurrentConfig {
    /// Starts with this configuration.
    pub fn new(active: ActiveConfig) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(active))))
    }

    /// The currently active configuration.
    pub fn get(&self) -> Arc<ActiveConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes another configuration active.
    pub(in crate::provider) fn replace(&self, next: ActiveConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// A valid configuration, or the reason why no configuration can be used.
#[derive(Debug, Default)]
pub struct ActiveConfig {
    /// The settings.
    pub settings: Settings,
    /// Why nothing is configured, if the configuration could not be read.
    pub error: Option<String>,
    /// A digest of the files; empty without files.
    pub digest: String,
    /// When the files were first loaded with this content, in seconds since the Unix epoch.
    pub loaded: u64,
    items: BTreeMap<ItemKey, Item>,
    declarations: Declarations,
    /// The index of each secret in the policy.
    names: BTreeMap<String, usize>,
}

#[derive(Debug, Default)]
struct Item {
    fields: Vec<FieldRef>,
    grants: Vec<UnitPattern>,
    /// The indexes of its secrets in the policy.
    secrets: Vec<usize>,
}

impl ActiveConfig {
    /// Indexes a configuration.
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
        for (at, secret) in settings.policy.secrets().enumerate() {
            let wanted = &secret.wanted;
            items.entry(ItemKey::new(&wanted.source, &wanted.reference.item)).or_default().secrets.push(at);
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

    /// Indexes a configuration from files with this digest, which were first loaded at this time.
    pub fn of_files(settings: Settings, digest: String, loaded: u64) -> Self {
        Self { digest, loaded, ..Self::new(settings) }
    }

    /// A configuration that allows nothing, because the real one has errors.
    pub fn broken(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// Looks up a secret by its name.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.settings.policy.secrets().nth(*self.names.get(name)?)
    }

    /// Looks up a template by its name.
    pub fn template(&self, name: &str) -> Option<&Template> {
        self.settings.templates.iter().find(|template| template.name.as_str() == name)
    }

    /// The items that secrets and templates refer to.
    pub fn keys(&self) -> impl Iterator<Item = &ItemKey> {
        self.items.keys()
    }

    /// The fields of an item that secrets and templates refer to.
    pub fn fields(&self, key: &ItemKey) -> &[FieldRef] {
        self.items.get(key).map(|item| item.fields.as_slice()).unwrap_or_default()
    }

    /// The secrets whose names follow this one, in the order of their names.
    pub fn secrets_after<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Secret> {
        let following = self.names.range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
        following.filter_map(|(_, &at)| self.settings.policy.secrets().nth(at))
    }

    /// The secrets that use fields of an item; without `fields`, those that use any of its fields.
    pub fn secrets_of<'a>(
        &'a self,
        key: &ItemKey,
        fields: Option<&'a [FieldRef]>,
    ) -> impl Iterator<Item = &'a Secret> {
        let secrets = self.items.get(key).map(|item| item.secrets.as_slice()).unwrap_or_default();
        let secrets = secrets.iter().filter_map(|&at| self.settings.policy.secrets().nth(at));
        secrets
            .filter(move |secret| fields.is_none_or(|fields| fields.contains(&secret.wanted.reference.field)))
    }

    /// The units that may have a value of an item.
    pub fn grants(&self, key: &ItemKey) -> impl Iterator<Item = &UnitPattern> {
        self.items.get(key).into_iter().flat_map(|item| &item.grants)
    }

    /// All sources, for the resolver. It receives nothing else of the configuration, in particular no names
    /// of units.
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

    /// Whether calls to a source have a cost: a network request, or a part of a quota.
    pub fn calls_cost(&self, source: &SourceName) -> bool {
        let source = self.settings.sources.get(source);
        source.is_some_and(|source| !matches!(source.kind, SourceKind::File { .. }))
    }

    /// Whether a stored item still belongs to this configuration. `by_rule` is whether it was fetched for a
    /// rule, `source_print` the fingerprint of its source.
    pub fn keeps(&self, key: &ItemKey, by_rule: bool, source_print: &str) -> bool {
        let wanted = self.items.contains_key(key)
            || by_rule && self.settings.policy.rules().iter().any(|rule| rule.wanted.source == key.source);
        let source = self.declarations.get(&key.source);
        wanted && source.is_some_and(|source| source.print == source_print)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::domain::name::SourceName;
    use crate::domain::reference::Reference;

    fn active(text: &str) -> ActiveConfig {
        ActiveConfig::new(config::from_text(Path::new("test.json"), text).unwrap().settings)
    }

    #[test]
    fn secrets_are_found_by_name_and_by_item() {
        let active = active(
            r#"{ "secrets": [
            { "name": "b", "reference": "op://v/i/f", "units": ["app"] },
            { "name": "c", "reference": "op://v/i/g", "units": ["app"] },
            { "name": "a", "reference": "op://v/j/f", "units": ["app"] } ] }"#,
        );
        let names = |secrets: Vec<&Secret>| -> Vec<String> {
            secrets.iter().map(|secret| secret.name.to_string()).collect()
        };
        for (after, expected) in
            [("", vec!["a", "b", "c"]), ("a", vec!["b", "c"]), ("aa", vec!["b", "c"]), ("c", vec![])]
        {
            assert_eq!(names(active.secrets_after(after).collect()), expected, "after {after:?}");
        }
        let wanted = &active.secret("b").unwrap().wanted;
        let key = ItemKey::new(&SourceName::default_source(), &wanted.reference.item);
        assert_eq!(names(active.secrets_of(&key, None).collect()), ["b", "c"]);
        let field = [wanted.reference.field.clone()];
        assert_eq!(names(active.secrets_of(&key, Some(&field)).collect()), ["b"]);
    }

    #[test]
    fn an_item_has_the_fields_and_units_of_all_that_refers_to_it() {
        let active = active(
            r#"{ "secrets": [
            { "name": "b", "reference": "op://v/i/f", "units": ["app"] },
            { "name": "c", "reference": "op://v/i/f", "units": ["web@*"] },
            { "name": "other", "reference": "op://v/j/f", "units": ["other"] } ],
            "templates": [ { "name": "t", "content": "{{b}}{{op://v/i/g}}", "units": ["of-template"] } ] }"#,
        );
        let key = |name: &str| {
            ItemKey::new(&SourceName::default_source(), &active.secret(name).unwrap().wanted.reference.item)
        };
        let key = key("b");
        let fields = active.fields(&key).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(fields, ["f", "g"]);
        let grants = active.grants(&key).map(|units| units.glob().as_str().to_owned());
        let grants: std::collections::BTreeSet<String> = grants.collect();
        assert_eq!(
            grants.iter().map(String::as_str).collect::<Vec<_>>(),
            ["app.service", "of-template.service", "web@*.service"]
        );
        assert_eq!(active.keys().count(), 2);
        let template = active.template("t").map(|template| template.name.to_string());
        assert_eq!((template.as_deref(), active.template("b").is_none()), (Some("t"), true));
        assert!(active.secret("t").is_none() && active.secret("nothing").is_none());
    }

    #[test]
    fn an_item_is_kept_while_something_can_refer_to_it() {
        let with_rule = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["app"] } ],
            "rules": [ { "units": ["web@*"], "reference": "op://v/{instance}/f" } ] }"#;
        let without = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["app"] } ] }"#;
        let of_another = r#"{ "sources": { "default": { "kind": "file", "path": "/v.json" },
                "other": { "kind": "file", "path": "/w.json" } },
            "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["app"], "source": "default" } ],
            "rules": [ { "units": ["web@*"], "reference": "op://v/{instance}/f", "source": "other" } ] }"#;
        let (configured, by_rule) = ("i", "web");
        // the configuration, the item, whether it was fetched for a rule, whether its source is the same
        for (text, item, was_by_rule, same, kept) in [
            (without, configured, false, true, true),
            (without, configured, true, true, true),
            (without, configured, false, false, false),
            (without, by_rule, true, true, false),
            (with_rule, by_rule, true, true, true),
            (with_rule, by_rule, false, true, false),
            (with_rule, by_rule, true, false, false),
            (of_another, by_rule, true, true, false),
            (of_another, configured, true, true, true),
        ] {
            let active = active(text);
            let source = SourceName::default_source();
            let reference = Reference::parse(&format!("op://v/{item}/f")).unwrap();
            let key = ItemKey::new(&source, &reference.item);
            let print = if same { active.print(&source).to_owned() } else { "another".to_owned() };
            assert_eq!(active.keeps(&key, was_by_rule, &print), kept, "{item} of {text}");
        }
    }

    #[test]
    fn calls_to_a_vault_file_cost_nothing() {
        for (source, cost) in [
            (r#"{ "kind": "file", "path": "/v.json" }"#, false),
            (r#"{ "kind": "connect", "url": "http://127.0.0.1:1" }"#, true),
            (r#"{ "kind": "service-account" }"#, true),
        ] {
            let active = active(&format!(r#"{{ "source": {source}, "secrets": [] }}"#));
            assert_eq!(active.calls_cost(&SourceName::default_source()), cost, "{source}");
            let definition = active.definition(&SourceName::default_source()).unwrap();
            let source: Source = serde_json::from_str(&definition).unwrap();
            assert_eq!(source.print(), active.print(&SourceName::default_source()));
        }
    }
}
