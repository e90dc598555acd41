//! The names in the configuration of this machine, for completions. Files and entries with errors are skipped.

use std::collections::BTreeSet;

use super::files::{self, Origin, Paths};
use super::problem::Problems;
use crate::domain::name::{SecretName, SourceName};

/// The names of what a configuration declares.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) secrets: BTreeSet<SecretName>,
    pub(crate) templates: BTreeSet<SecretName>,
    pub(crate) sources: BTreeSet<SourceName>,
}

/// Reads the names as the current user. What this user cannot read is omitted.
pub(crate) fn names(paths: &Paths) -> Names {
    let mut names = Names::default();
    let mut problems = Problems::default();
    for file in files::find(paths, &mut problems) {
        let Some(number) = files::read(&file, Origin::Installed, &mut problems) else { continue };
        let Some(written) = super::read(number, &mut problems) else { continue };
        let secrets = written.secrets.into_iter().filter_map(|secret| secret.value.name);
        names.secrets.extend(secrets.filter_map(|name| SecretName::parse(&name.value).ok()));
        let templates = written.templates.into_iter().filter_map(|template| template.value.name);
        names.templates.extend(templates.filter_map(|name| SecretName::parse(&name.value).ok()));
        let default = written.source.map(|_| "default".to_owned());
        let sources = written.sources.into_keys().chain(default);
        names.sources.extend(sources.filter_map(|name| SourceName::parse(&name).ok()));
    }
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_come_from_all_files_and_errors_are_skipped() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths { dir: dir.path().into() };
        assert_eq!(names(&paths), Names::default(), "nothing is configured");
        fs::create_dir(dir.path().join("secrets.d")).expect("a directory");
        for (file, text) in [
            (
                "secrets.json",
                r#"{ "source": {}, "secrets": [{ "name": "db", "reference": 1 }, { "nome": "x" }, { "name": "a b" }], "audt": 1 }"#,
            ),
            ("secrets.d/a.json", r#"{ "secrets": ["#),
            (
                "secrets.d/b.json",
                r#"{ "sources": { "staging": { "kind": "connect" } }, "secrets": [{ "name": "api" }], "templates": [{ "name": "app.env", "content": "" }] }"#,
            ),
        ] {
            fs::write(dir.path().join(file), text).expect("written");
        }
        let found = names(&paths);
        assert_eq!(texts(&found.secrets), ["api", "db"]);
        assert_eq!(texts(&found.templates), ["app.env"]);
        assert_eq!(texts(&found.sources), ["default", "staging"]);
    }

    fn texts(names: &BTreeSet<impl ToString>) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }
}
