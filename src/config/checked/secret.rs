//! Checks secrets: the reference, the units, and the published file.

use super::super::at::At;
use super::super::written;
use super::Checker;
use crate::domain::name::SecretName;
use crate::domain::reference::Reference;
use crate::domain::secret::{Secret, Wanted};

/// The name of an entry in messages: its `name`, or the text that was written for it.
pub(super) fn holder(what: &str, name: Option<&SecretName>, written: Option<&At<String>>) -> String {
    match (name, written) {
        (Some(name), _) => format!("{what} {name}"),
        (None, Some(written)) => format!("{what} {:?}", written.value),
        (None, None) => format!("a {what} without a name"),
    }
}

impl Checker<'_> {
    /// A secret; `None` if a required part of it is invalid.
    pub(super) fn secret(&mut self, written: &At<written::Secret>) -> Option<Secret> {
        let name = self.name(written.name.as_ref());
        let holder = holder("secret", name.as_ref(), written.name.as_ref());
        let reference = self.reference(written);
        let source = self.source(written.source.as_ref(), Some(written.place));
        let max_age = self.max_age(written.max_age.as_ref());
        let deadline = self.deadline(written.deadline.as_ref());
        let grants = self.grants(&written.units, name.as_ref(), &holder);
        let target = self.target(&super::target::Written::of_secret(written), &holder);
        let rotation = self.rotation(&super::rotation::Written::of_secret(written));
        let declared_at = self.problems.line(written.place);
        let name = name?;
        let allow_empty = written.allow_empty.as_ref().is_some_and(|allow| allow.value);
        let trim = written.trim.as_ref().is_some_and(|trim| trim.value);
        let label = name.to_string();
        let wanted =
            Wanted { label, reference: reference?, source: source?, max_age, deadline, allow_empty, trim };
        Some(Secret { name, wanted, grants, target, rotation, declared_at })
    }

    pub(super) fn name(&mut self, name: Option<&At<String>>) -> Option<SecretName> {
        let name = name?;
        self.parsed(name.place, SecretName::parse(name), "give it a name such as \"db-password\"")
    }

    fn reference(&mut self, written: &At<written::Secret>) -> Option<Reference> {
        match (&written.reference, &written.op_item, &written.op_field) {
            (Some(reference), None, None) => self.parsed_reference(reference.place, reference),
            (Some(_), Some(other), _) | (Some(_), None, Some(other)) => {
                let what = "a secret has either \"reference\" or \"opItem\" with \"opField\"";
                self.problems.error(other.place, what, "remove one of them");
                None
            }
            (None, Some(item), field) => self.op_item(item, field.as_ref()),
            (None, None, Some(field)) => {
                self.problems.error(
                    field.place,
                    "\"opField\" requires \"opItem\"",
                    "add \"opItem\": \"VAULT/ITEM\"",
                );
                None
            }
            (None, None, None) => {
                if written.whole {
                    let remedy = "add for example \"reference\": \"op://VAULT/ITEM/FIELD\"";
                    self.problems.error(written.place, "the secret has no reference", remedy);
                }
                None
            }
        }
    }

    fn op_item(&mut self, item: &At<String>, field: Option<&At<String>>) -> Option<Reference> {
        if item.starts_with("op://") {
            let what =
                format!("{:?} is a complete reference, but \"opItem\" has the form VAULT/ITEM", item.value);
            self.problems.error(item.place, what, "write it under \"reference\"");
            return None;
        }
        let parts = item.split('/').count();
        if parts != 2 || item.contains('?') || item.split('/').any(str::is_empty) {
            let what = format!("{:?} is not an opItem: the form is VAULT/ITEM", item.value);
            self.problems.error(
                item.place,
                what,
                "if a name contains a / or ?, use the ID of the vault or item",
            );
            return None;
        }
        let place = field.map_or(item.place, |field| field.place);
        let name = field.map_or("password", |field| field.as_str());
        if name.split('/').count() > 2 || name.split('?').next().is_some_and(str::is_empty) {
            let what = format!("{name:?} is not an opField: the form is FIELD or SECTION/FIELD");
            self.problems.error(place, what, "if a name contains a /, use the ID of the section or field");
            return None;
        }
        // Parse the item first, so that its errors are reported at its position.
        self.parsed(item.place, Reference::parse(&format!("op://{}/password", item.value)), "")?;
        self.parsed_reference(place, &format!("op://{}/{name}", item.value))
    }
}
