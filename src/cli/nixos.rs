//! NixOS: unit files are generated from the system configuration. Instead of writing a drop-in, onecred
//! prints the lines for that configuration.

use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::domain::name::{CredentialId, SecretName, SourceName, UnitName};
use crate::domain::policy::attribute;
use crate::domain::reference::Reference;

pub(super) use crate::config::STORE;

/// Whether a directory, or the place where it would be created, is read-only even for root.
pub(super) fn is_read_only(folder: &Path) -> bool {
    let there = folder.ancestors().find(|folder| folder.exists());
    there.and_then(|folder| statvfs(folder).ok()).is_some_and(|of| of.flags().contains(FsFlags::ST_RDONLY))
}

/// The lines for a secret that units request.
pub(super) struct Lines<'a> {
    pub(super) name: &'a SecretName,
    pub(super) reference: &'a Reference,
    pub(super) units: &'a [UnitName],
    pub(super) id: &'a CredentialId,
    pub(super) source: Option<&'a SourceName>,
    pub(super) plain: bool,
}

impl Lines<'_> {
    /// The lines, each indented and with a line break. Only services have an option for it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let what = match self.source {
            None => self.reference.to_string(),
            Some(source) => {
                let secret = format!("services.onecred.secrets.{}", attribute(self.name.as_str()));
                text += &format!("  {secret}.reference = \"{}\";\n", self.reference);
                text += &format!("  {secret}.source = \"{source}\";\n");
                self.name.to_string()
            }
        };
        for service in self.units.iter().filter_map(|unit| unit.as_str().strip_suffix(".service")) {
            let onecred = format!("systemd.services.{}.onecred", attribute(service));
            text += &format!("  {onecred}.credentials.{} = \"{what}\";\n", attribute(self.id.as_str()));
            if self.plain {
                text += &format!("  {onecred}.sealed = false;\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(units: &[&str], id: &str, source: Option<&str>, plain: bool) -> String {
        let units: Vec<_> = units.iter().map(|unit| UnitName::parse_lenient(unit).unwrap()).collect();
        let source = source.map(|source| SourceName::parse(source).unwrap());
        Lines {
            name: &SecretName::parse("db").unwrap(),
            reference: &Reference::parse("op://Servers/postgres/password").unwrap(),
            units: &units,
            id: &CredentialId::parse(id).unwrap(),
            source: source.as_ref(),
            plain,
        }
        .text()
    }

    #[test]
    fn a_line_for_each_service() {
        assert_eq!(
            lines(&["app", "web@"], "db.password", None, false),
            "  systemd.services.app.onecred.credentials.\"db.password\" = \"op://Servers/postgres/password\";\n  \
               systemd.services.\"web@\".onecred.credentials.\"db.password\" = \"op://Servers/postgres/password\";\n"
        );
        assert_eq!(
            lines(&["app", "x.mount"], "db", Some("staging"), true),
            "  services.onecred.secrets.db.reference = \"op://Servers/postgres/password\";\n  \
               services.onecred.secrets.db.source = \"staging\";\n  \
               systemd.services.app.onecred.credentials.db = \"db\";\n  \
               systemd.services.app.onecred.sealed = false;\n"
        );
    }
}
