//! The units on this host, by the unit files in systemd's directories. This is precise enough to decide what
//! to fetch ahead.

use std::collections::BTreeSet;
use std::fs;

use crate::domain::name::UnitName;
use crate::domain::nearest::nearest;
use crate::domain::unit_pattern::UnitPattern;

/// The system manager's load path (systemd.unit(5)).
const FOLDERS: [&str; 9] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/run/systemd/generator",
    "/run/systemd/generator.late",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The names of the unit files on this host.
#[derive(Debug, Default)]
pub struct UnitFiles(BTreeSet<String>);

impl UnitFiles {
    /// Reads the directories.
    pub fn read() -> Self {
        let folders = FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok());
        Self(folders.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Adds names, such as those of loaded units without a file.
    pub fn add(&mut self, names: impl IntoIterator<Item = String>) {
        self.0.extend(names);
    }

    /// Whether this host has a unit, as a file or as an instance of a template.
    pub fn has(&self, unit: &UnitName) -> bool {
        self.0.contains(unit.as_str()) || unit.template().is_some_and(|template| self.0.contains(&template))
    }

    /// The unit on this host whose name is most similar to one that does not exist. It has the same type, or
    /// the misspelt type to which `.service` was added.
    pub fn nearest(&self, unit: &UnitName) -> Option<&str> {
        let written = unit.as_str().strip_suffix(".service").filter(|written| written.contains('.'));
        let names = || self.0.iter().map(String::as_str);
        self.nearest_of_type(unit).or_else(|| nearest(written?, names()))
    }

    fn nearest_of_type(&self, unit: &UnitName) -> Option<&str> {
        let suffix = unit.as_str().rsplit_once('.').map_or("", |(_, suffix)| suffix);
        let (stem, ending) = (unit.as_str().strip_suffix(suffix)?, format!(".{suffix}"));
        let stems = self.0.iter().filter_map(|name| name.strip_suffix(&ending));
        let near = nearest(stem.trim_end_matches('.'), stems)?;
        self.0.get(&format!("{near}{ending}")).map(String::as_str)
    }

    /// The unit files whose names match a pattern.
    pub fn matching(&self, pattern: &UnitPattern) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|name| pattern.glob().matches(name))
    }

    /// Whether any unit on this host matches, as a file or as an instance of a template.
    pub fn any(&self, pattern: &UnitPattern) -> bool {
        match pattern.glob().literal() {
            Some(name) => {
                let template = UnitName::parse(name).ok().and_then(|unit| unit.template());
                self.0.contains(name) || template.is_some_and(|template| self.0.contains(&template))
            }
            None => self.0.iter().any(|name| pattern.glob().matches(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_templates() {
        let files = UnitFiles(["app.service", "web@.service"].into_iter().map(str::to_owned).collect());
        let any = |pattern: &str| files.any(&UnitPattern::parse(pattern).unwrap());
        assert!(any("app") && any("web@1") && any("web@*") && any("a*"));
        let unit = |name: &str| UnitName::parse_lenient(name).unwrap();
        assert!(files.has(&unit("app")) && files.has(&unit("web@1")) && files.has(&unit("web@")));
        assert!(!files.has(&unit("ap")) && !files.has(&unit("app.mount")));
        assert_eq!(files.nearest(&unit("apps")), Some("app.service"));
        assert_eq!(files.nearest(&unit("app.servce")), Some("app.service"));
        assert_eq!(files.nearest(&unit("web@.servic")), Some("web@.service"));
        assert_eq!((files.nearest(&unit("apps.mount")), files.nearest(&unit("postgresql"))), (None, None));
        assert!(!any("other") && !any("other@1") && !any("x*"));
    }
}
