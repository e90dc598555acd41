//! Which units this host has, by the unit files in systemd's folders: good enough to know what is worth fetching ahead.

use std::collections::BTreeSet;
use std::fs;

use crate::name::UnitName;
use crate::policy::UnitPattern;

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

/// The names of the unit files of this host.
#[derive(Debug, Default)]
pub struct UnitFiles(BTreeSet<String>);

impl UnitFiles {
    /// Looks at the host.
    pub fn read() -> Self {
        let folders = FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok());
        Self(folders.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Whether some unit of this host matches: by its file, or as an instance of a template.
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
        assert!(!any("other") && !any("other@1") && !any("x*"));
    }
}
