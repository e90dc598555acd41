//! Checks units and credential IDs: the meaning of an entry of `units`, and whether systemd could ever
//! request it.

use super::super::at::At;
use super::super::problem::Offset;
use super::{Checker, clash};
use crate::domain::name::{Claim, CredentialId, SecretName};
use crate::domain::policy::Glob;
use crate::domain::secret::Grant;
use crate::domain::unit_pattern::UnitPattern;

impl Checker<'_> {
    /// The grants from the `units` of a secret or a template. `holder` is its name, for messages.
    pub(super) fn grants(
        &mut self,
        units: &[At<String>],
        name: Option<&SecretName>,
        holder: &str,
    ) -> Vec<Grant> {
        let mut grants = Vec::new();
        for entry in units {
            let (pattern, id) = match entry.split_once('/') {
                Some((pattern, id)) => (pattern, Some(id)),
                None => (entry.as_str(), None),
            };
            let pattern = self.unit_pattern(pattern, entry.place);
            let remedy = "an entry is UNIT or UNIT/ID; ID is the part before the : in LoadCredential=ID:PATH";
            let credential = match id {
                Some(id) => self.parsed(entry.place, CredentialId::parse(id), remedy),
                None => name.map(SecretName::to_credential),
            };
            let (Some(units), Some(credential)) = (pattern, credential) else { continue };
            self.length(
                units.glob(),
                least(units.glob().as_str()),
                credential.as_str(),
                credential.as_str().len(),
                entry.place,
            );
            let grant = Grant { units, credential };
            self.claims.push(clash::Claimed {
                grant: grant.clone(),
                holder: holder.to_owned(),
                place: entry.place,
            });
            grants.push(grant);
        }
        grants
    }

    /// A unit or a glob without an ID, as in `restartUnits`.
    pub(super) fn unit_alone(&mut self, entry: &At<String>) -> Option<UnitPattern> {
        if let Some((unit, _)) = entry.split_once('/') {
            let remedy = format!("units have no credential ID here: write {unit:?}");
            self.problems.error(entry.place, format!("{:?} is not a unit", entry.value), remedy);
            return None;
        }
        self.unit_pattern(entry, entry.place)
    }

    fn unit_pattern(&mut self, text: &str, place: Offset) -> Option<UnitPattern> {
        let pattern =
            self.parsed(place, UnitPattern::parse(text), "write it like \"app\" or \"web@*.service\"")?;
        let template = pattern.glob().literal().and_then(|name| name.split_once("@."));
        if let Some((prefix, kind)) = template {
            let what = format!("{text:?} is a template, which cannot run");
            self.problems.error(
                place,
                what,
                format!("write \"{prefix}@*.{kind}\" for all of its instances, or name one"),
            );
        }
        Some(pattern)
    }

    /// The credential IDs of a rule, as globs.
    pub(super) fn credential_glob(&mut self, entry: &At<String>) -> Option<Glob> {
        let glob = self.parsed(entry.place, Glob::parse(entry), "write a credential ID or a glob of such")?;
        let stand_in = glob.as_str().replace(['*', '?', '['], "x");
        self.parsed(
            entry.place,
            CredentialId::parse(&stand_in),
            "no unit can request it; correct the entry",
        )?;
        Some(glob)
    }

    /// systemd puts both names into a socket address, and cuts it off if it is too long, so onecred would
    /// never receive these names.
    pub(super) fn length(
        &mut self,
        unit: &Glob,
        unit_bytes: usize,
        id: &str,
        id_bytes: usize,
        place: Offset,
    ) {
        let (total, max) = (unit_bytes + id_bytes, Claim::MAX);
        if total > max {
            let least = if unit.literal().is_some() { "" } else { "at least " };
            let what = format!(
                "unit {} and credential ID {id} have {least}{total} bytes together, and systemd allows {max} at most",
                unit.as_str()
            );
            self.problems.error(place, what, "give it a shorter ID, as UNIT/ID");
        }
    }
}

/// The minimum length in bytes of a text that a glob matches.
pub(super) fn least(glob: &str) -> usize {
    let (mut bytes, mut rest) = (0, glob.chars());
    while let Some(c) = rest.next() {
        match c {
            '*' => {}
            '[' => {
                let class = rest.as_str().trim_start_matches(['!', '^']);
                let inner = class
                    .char_indices()
                    .skip(1)
                    .find(|(_, c)| *c == ']')
                    .map_or(class.len(), |(index, _)| index + 1);
                rest = class[inner..].chars();
                bytes += 1;
            }
            other => bytes += other.len_utf8(),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn least_of_globs() {
        for (glob, bytes) in [
            ("", 0),
            ("app@*.service", 12),
            ("a?c", 3),
            ("[a-c]x", 2),
            ("[!]]x", 2),
            ("[]a]", 1),
            ("[", 1),
            ("[!", 1),
            ("*", 0),
        ] {
            assert_eq!(least(glob), bytes, "{glob}");
        }
    }

    proptest! {
        #[test]
        fn least_is_total(glob in "(\\PC|[\\[\\]!^*?a]){0,8}") {
            prop_assert!(least(&glob) <= glob.len());
        }

        #[test]
        fn nothing_shorter_matches(glob in "[a-c?*]{0,4}(\\[[!]?[a-c]\\])?[a-c*]{0,2}", text in "[a-c]{0,6}") {
            if Glob::parse(&glob).expect("valid").matches(&text) {
                prop_assert!(least(&glob) <= text.len(), "{} {}", glob, text);
            }
        }
    }
}
