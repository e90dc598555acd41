//! Finds conflicts: two secrets for one unit and ID, two secrets for one file, a rule that an earlier one
//! hides.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::super::problem::{Offset, Problems};
use crate::domain::name::CredentialId;
use crate::domain::policy::Rule;
use crate::domain::secret::Grant;

/// An entry of `units`, and the secret that it grants.
pub(super) struct Claimed {
    pub(super) grant: Grant,
    pub(super) holder: String,
    pub(super) place: Offset,
}

/// Reports entries of the same precedence that grant one unit two secrets under one ID.
pub(super) fn claims(claims: &[Claimed], problems: &mut Problems) {
    let mut seen: HashMap<(&CredentialId, &str), &Claimed> = HashMap::new();
    let mut globs: HashMap<&CredentialId, Vec<&Claimed>> = HashMap::new();
    for claim in claims {
        let (id, glob) = (&claim.grant.credential, claim.grant.units.glob());
        match seen.get(&(id, glob.as_str())) {
            Some(first) if first.holder == claim.holder => {
                problems.warn(
                    claim.place,
                    format!("{} names {} twice for credential {id}", claim.holder, glob.as_str()),
                    "remove one of the two",
                );
            }
            Some(first) => clash(first, claim, problems),
            None => {
                seen.insert((id, glob.as_str()), claim);
                if glob.literal().is_none() {
                    globs.entry(id).or_default().push(claim);
                }
            }
        }
    }
    for same_id in globs.values() {
        for (index, second) in same_id.iter().enumerate() {
            let glob = second.grant.units.glob();
            let covers = |first: &&&Claimed| {
                let other = first.grant.units.glob();
                first.holder != second.holder && (other.covers(glob) || glob.covers(other))
            };
            if let Some(first) = same_id[..index].iter().find(covers) {
                clash(first, second, problems);
            }
        }
    }
}

fn clash(first: &Claimed, second: &Claimed, problems: &mut Problems) {
    let units = [first, second].map(|claim| claim.grant.units.glob().as_str());
    let unit = if units[0] == units[1] {
        units[0].to_owned()
    } else {
        format!("units that both {} and {} match", units[0], units[1])
    };
    let (id, place) = (&second.grant.credential, problems.show(first.place));
    let what = format!(
        "{unit} would get credential {id} from two secrets: {} here, and {} at {place}",
        second.holder, first.holder
    );
    problems.error(second.place, what, "give one of them another ID, as UNIT/ID, or remove an entry");
}

/// A file, and the secret that is published to it.
pub(super) struct Published {
    pub(super) path: PathBuf,
    pub(super) holder: String,
    pub(super) place: Offset,
}

/// Reports two secrets for one file, and a file whose path is the directory of another file.
pub(super) fn targets(published: &[Published], problems: &mut Problems) {
    let mut by_path: BTreeMap<&PathBuf, &Published> = BTreeMap::new();
    for second in published {
        match by_path.get(&second.path) {
            Some(first) => {
                let place = problems.show(first.place);
                let what =
                    format!("{} and {} (at {place}) have the same target", second.holder, first.holder);
                problems.error(second.place, what, "give each another file");
            }
            None => drop(by_path.insert(&second.path, second)),
        }
    }
    for inner in by_path.values() {
        if let Some(outer) = inner.path.ancestors().skip(1).find_map(|dir| by_path.get(&dir.to_path_buf())) {
            let place = problems.show(outer.place);
            let what = format!(
                "the target {} is below the one of {} at {place}",
                inner.path.display(),
                outer.holder
            );
            problems.error(inner.place, what, "a file cannot be a directory; move one of them");
        }
    }
}

/// Reports rules that never apply, because an earlier one matches everything that they match.
pub(super) fn rules(rules: &[(Rule, Offset)], problems: &mut Problems) {
    for (index, (rule, place)) in rules.iter().enumerate() {
        let hides = |(earlier, _): &&(Rule, Offset)| {
            !(rule.units.is_empty() || rule.credentials.is_empty())
                && rule
                    .units
                    .iter()
                    .all(|inner| earlier.units.iter().any(|outer| outer.glob().covers(inner.glob())))
                && rule
                    .credentials
                    .iter()
                    .all(|inner| earlier.credentials.iter().any(|outer| outer.covers(inner)))
        };
        if let Some((_, first)) = rules[..index].iter().find(hides) {
            let first = problems.show(*first);
            let what = format!(
                "the rule never applies: the rule at {first} matches everything that it matches, and comes first"
            );
            problems.error(*place, what, "put the narrower rule first, or remove it");
        }
    }
}

#[cfg(test)]
mod tests;
