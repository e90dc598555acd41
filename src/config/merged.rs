//! Merges the files of a configuration: appends lists, merges sources, and reports keys that occur twice.

use std::collections::{BTreeMap, HashMap};

use super::at::At;
use super::problem::{Offset, Problems};
use super::written::{Audit, Defaults, Limits, Publish, Rule, Secret, Source, Template, Written};

/// The content of all files.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) source: Option<At<Source>>,
    pub(super) sources: BTreeMap<String, At<Source>>,
    pub(super) defaults: Option<At<Defaults>>,
    pub(super) limits: Option<At<Limits>>,
    pub(super) publish: Option<At<Publish>>,
    pub(super) recover: Option<At<bool>>,
    pub(super) audit: Option<At<Audit>>,
    pub(super) strict: Option<At<bool>>,
    pub(super) secrets: Vec<At<Secret>>,
    pub(super) templates: Vec<At<Template>>,
    pub(super) rules: Vec<At<Rule>>,
}

impl Merged {
    /// Whether no unit or file could get a value.
    pub(super) fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.templates.is_empty() && self.rules.is_empty()
    }
}

/// Merges the files in the given order.
pub(super) fn merge(files: Vec<Written>, problems: &mut Problems) -> Merged {
    let mut merged = Merged::default();
    for file in files {
        once("source", &mut merged.source, file.source, problems);
        once("defaults", &mut merged.defaults, file.defaults, problems);
        once("limits", &mut merged.limits, file.limits, problems);
        once("publish", &mut merged.publish, file.publish, problems);
        once("recover", &mut merged.recover, file.recover, problems);
        once("audit", &mut merged.audit, file.audit, problems);
        once("strict", &mut merged.strict, file.strict, problems);
        for (name, source) in file.sources {
            match merged.sources.get(&name) {
                Some(first) => twice("source", &name, first.place, source.place, problems),
                None => drop(merged.sources.insert(name, source)),
            }
        }
        merged.secrets.extend(file.secrets);
        merged.templates.extend(file.templates);
        merged.rules.extend(file.rules);
    }
    names("secret", merged.secrets.iter().map(|secret| secret.name.as_ref()), problems);
    names("template", merged.templates.iter().map(|template| template.name.as_ref()), problems);
    merged
}

fn once<T>(key: &str, slot: &mut Option<At<T>>, value: Option<At<T>>, problems: &mut Problems) {
    match (&slot, value) {
        (Some(first), Some(second)) => {
            let first = problems.show(first.place);
            let remedy = format!("it is also at {first}; remove one of them");
            problems.error(second.place, format!("{key:?} may be in only one file"), remedy);
        }
        (None, value) => *slot = value,
        _ => {}
    }
}

fn names<'a>(kind: &str, names: impl Iterator<Item = Option<&'a At<String>>>, problems: &mut Problems) {
    let mut seen: HashMap<&str, Offset> = HashMap::new();
    for name in names.flatten() {
        match seen.get(name.as_str()) {
            Some(first) => twice(kind, name, *first, name.place, problems),
            None => drop(seen.insert(name, name.place)),
        }
    }
}

fn twice(kind: &str, name: &str, first: Offset, second: Offset, problems: &mut Problems) {
    let first = problems.show(first);
    let what = format!("there are two {kind}s with the name {name:?}: here and at {first}");
    problems.error(second, what, "give one of them another name, or remove it");
}
