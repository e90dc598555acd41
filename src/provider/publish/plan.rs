//! Which files should be published according to the configuration, their content, and which of them belong
//! together.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::digest;
use crate::config::Settings;
use crate::domain::name::SecretName;
use crate::domain::policy::Deliverable;
use crate::domain::secret::{MaxAge, Target, Wanted};
use crate::domain::template::Filling;
use crate::provider::base::item_key::ItemKey;
use crate::provider::base::publish_error::Fault;
use crate::provider::base::refusal::Refusal;

/// A file that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// The name of the secret or template.
    pub(super) name: SecretName,
    /// Its content.
    pub(super) content: Deliverable,
    /// Its path, owner and mode.
    pub(super) target: Target,
    /// The root that contains it.
    pub(super) root: PathBuf,
    /// The item of all its parts, if there is only one.
    pub(super) item: Option<ItemKey>,
    /// A digest of its definition, so that the file of another secret is never mistaken for this one.
    pub(super) print: String,
}

/// The files that should exist. Files of the same item are adjacent.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) files: Vec<File>,
    /// The directories that may contain files.
    pub(super) roots: Vec<PathBuf>,
    /// The files of templates that use an item.
    templates: HashMap<ItemKey, Vec<usize>>,
}

/// Some of the files.
#[derive(Debug, Clone)]
pub(super) enum Which {
    All,
    /// Those that use this item.
    OfItem(ItemKey),
    /// Those that use this secret.
    OfSecret(String),
}

impl Plan {
    /// The plan of a configuration.
    pub(super) fn of(settings: &Settings) -> Self {
        let root = |path: &Path| {
            let roots = settings.roots.iter().filter(|root| path.starts_with(root));
            roots.max_by_key(|root| root.components().count()).cloned()
        };
        let file = |name: &SecretName, content: Deliverable, item, target: Option<&Target>| {
            let target = target?.clone();
            let print = print(name, &content);
            Some(File { name: name.clone(), content, item, root: root(&target.path)?, target, print })
        };
        let secrets = settings.policy.secrets().filter_map(|secret| {
            let item = Some(item_of(&secret.wanted));
            let content = Deliverable::Secret(Arc::new(secret.wanted.clone()));
            file(&secret.name, content, item, secret.target.as_ref())
        });
        let templates = settings.templates.iter().filter_map(|template| {
            let content = Deliverable::Template(Arc::clone(&template.filling));
            file(&template.name, content, None, template.target.as_ref())
        });
        let mut files: Vec<File> = secrets.chain(templates).collect();
        files.sort_by(|one, other| one.item.cmp(&other.item));
        let mut templates: HashMap<ItemKey, Vec<usize>> = HashMap::new();
        for (at, file) in files.iter().enumerate().filter(|(_, file)| file.item.is_none()) {
            let items: HashSet<ItemKey> = file.content.parts().iter().map(|part| item_of(part)).collect();
            items.into_iter().for_each(|item| templates.entry(item).or_default().push(at));
        }
        Self { files, roots: settings.roots.clone(), templates }
    }

    /// The files of a secret or template.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.name.as_str() == name)
    }

    /// The current definition of a file, and its group including itself. `None` if the definition has
    /// changed.
    pub(super) fn group_of(&self, file: &File) -> Option<(&File, &[File])> {
        let start = self.files.partition_point(|other| other.item < file.item);
        let end = start + self.files[start..].partition_point(|other| other.item == file.item);
        let now = self.files[start..end].iter().find(|now| *now == file)?;
        Some((now, if file.item.is_some() { &self.files[start..end] } else { std::slice::from_ref(now) }))
    }

    /// Some of the files, in groups that belong together: files of one item have the same version.
    pub(super) fn select(&self, which: &Which) -> Vec<&[File]> {
        let together = |one: &File, other: &File| one.item.is_some() && one.item == other.item;
        match which {
            Which::All => self.files.chunk_by(together).collect(),
            Which::OfItem(key) => {
                let start = self.files.partition_point(|file| file.item.as_ref() < Some(key));
                let end = start + self.files[start..].partition_point(|file| file.item.as_ref() == Some(key));
                let own = Some(&self.files[start..end]).filter(|files| !files.is_empty());
                let templates = self.templates.get(key).into_iter().flatten();
                own.into_iter().chain(templates.map(|&at| &self.files[at..=at])).collect()
            }
            Which::OfSecret(name) => {
                let is_of = |file: &File| file.content.parts().iter().any(|wanted| wanted.label == *name);
                let all = (0..self.files.len()).filter(|&at| is_of(&self.files[at]));
                all.map(|at| &self.files[at..=at]).collect()
            }
        }
    }
}

impl File {
    /// The parts that come from an item.
    pub(super) fn parts_of(&self, key: &ItemKey) -> impl Iterator<Item = &Arc<Wanted>> {
        self.content.parts().iter().filter(move |wanted| item_of(wanted) == *key)
    }

    /// Its content with values of any age.
    pub(super) fn of_any_age(&self) -> Deliverable {
        let any_age =
            |wanted: &Arc<Wanted>| Arc::new(Wanted { max_age: MaxAge::Session, ..Wanted::clone(wanted) });
        match &self.content {
            Deliverable::Secret(wanted) => Deliverable::Secret(any_age(wanted)),
            Deliverable::Template(filling) => Deliverable::Template(Arc::new(Filling {
                parts: filling.parts.iter().map(any_age).collect(),
                ..Filling::clone(filling)
            })),
        }
    }
}

fn print(name: &SecretName, content: &Deliverable) -> String {
    let mut text = name.to_string();
    for part in content.parts() {
        text.push_str(&format!("\n{} {}", part.source, part.reference));
    }
    digest(text.as_bytes())
}

fn item_of(wanted: &Wanted) -> ItemKey {
    ItemKey::new(&wanted.source, &wanted.reference.item)
}

pub(super) fn unpublished(file: &File) -> impl Fn(Fault) -> Refusal {
    let path = file.target.path.clone();
    move |fault| Refusal::Unpublished { path: path.clone(), fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::SourceName;
    use crate::domain::reference::Reference;

    fn plan() -> Plan {
        let text = r#"{
            "secrets": [
                { "name": "a", "reference": "op://v/x/f", "target": "/run/secrets/a" },
                { "name": "b", "reference": "op://v/y/f", "target": "/run/secrets/b" },
                { "name": "c", "reference": "op://v/x/g", "target": "/run/secrets/c" },
                { "name": "unpublished", "reference": "op://v/y/g", "units": ["app"] } ],
            "templates": [
                { "name": "t", "content": "{{a}} {{b}}", "target": "/run/secrets/t" },
                { "name": "u", "content": "{{op://v/z/f}}", "target": "/run/secrets/u" } ] }"#;
        Plan::of(&crate::config::from_text(Path::new("test.json"), text).unwrap().settings)
    }

    fn item(name: &str) -> ItemKey {
        let reference = Reference::parse(&format!("op://v/{name}/f")).unwrap();
        ItemKey::new(&SourceName::default_source(), &reference.item)
    }

    fn names(files: &[File]) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn files_of_one_item_belong_together() {
        let plan = plan();
        let (x, y, z, unknown) = (item("x"), item("y"), item("z"), item("w"));
        let tables: [(Which, &[&[&str]]); 8] = [
            (Which::All, &[&["t"], &["u"], &["a", "c"], &["b"]]),
            (Which::OfItem(x.clone()), &[&["a", "c"], &["t"]]),
            (Which::OfItem(y.clone()), &[&["b"], &["t"]]),
            (Which::OfItem(z.clone()), &[&["u"]]),
            (Which::OfItem(unknown.clone()), &[]),
            (Which::OfSecret("a".to_owned()), &[&["t"], &["a"]]),
            (Which::OfSecret("c".to_owned()), &[&["c"]]),
            (Which::OfSecret("unpublished".to_owned()), &[]),
        ];
        for (which, expected) in tables {
            let groups: Vec<_> = plan.select(&which).into_iter().map(names).collect();
            assert_eq!(groups, expected, "{which:?}");
        }
        for (name, group) in [("a", &["a", "c"][..]), ("b", &["b"]), ("c", &["a", "c"]), ("t", &["t"])] {
            let file: Vec<&File> = plan.named(name).collect();
            let [file] = file[..] else { panic!("{file:?}") };
            let (now, files) = plan.group_of(file).unwrap();
            assert_eq!((now.name.as_str(), names(files)), (name, group.to_vec()));
        }
    }

    #[test]
    fn values_of_any_age_have_no_maximum_age() {
        for file in &plan().files {
            let content = file.of_any_age();
            assert_eq!(content.references(), file.content.references());
            for part in content.parts() {
                assert_eq!(part.max_age, MaxAge::Session, "{}", file.name);
            }
        }
    }
}
