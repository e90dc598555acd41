//! Which fields of an item a fetch asks for. By a rule, units may ask for any number of them, so those are limited. Pure.

use std::collections::BTreeSet;

use crate::domain::reference::FieldRef;

/// The maximum number of fields with a value that are kept of an item without being configured.
const MOST: usize = 256;

/// The fields to fetch: those that are configured, those with a value that units have asked for before, the newest ones only, and those that are
/// waited for. `known` are the fields with a value, in the order in which units first asked.
pub(super) fn to_fetch(
    configured: &[FieldRef],
    known: Vec<FieldRef>,
    awaited: BTreeSet<FieldRef>,
) -> Vec<FieldRef> {
    let configured: BTreeSet<&FieldRef> = configured.iter().collect();
    let awaited: Vec<FieldRef> = awaited.into_iter().filter(|field| !configured.contains(field)).collect();
    let is_other = |field: &FieldRef| !configured.contains(field) && awaited.binary_search(field).is_err();
    let others: Vec<FieldRef> = known.into_iter().filter(is_other).collect();
    let given_up = others.len().saturating_sub(MOST.saturating_sub(awaited.len()));
    let mut fields: Vec<FieldRef> = configured.into_iter().cloned().collect();
    fields.extend(others.into_iter().skip(given_up));
    fields.extend(awaited);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reference::Reference;

    fn field(name: &str) -> FieldRef {
        Reference::parse(&format!("op://v/i/{name}")).unwrap().field
    }

    #[test]
    fn the_newest_fields_are_kept_and_all_that_is_configured_or_awaited() {
        // how many fields are known, how many awaited; how many of each are fetched
        for (known, awaited, expected) in [
            (0, 0, (0, 0)),
            (3, 1, (3, 1)),
            (256, 0, (256, 0)),
            (257, 0, (256, 0)),
            (256, 10, (246, 10)),
            (256, 1000, (0, 1000)),
        ] {
            let configured = [field("password"), field("username")];
            let mut all: Vec<FieldRef> = (0..known).map(|n| field(&format!("known{n}"))).collect();
            all.push(field("password"));
            let awaited: BTreeSet<FieldRef> = (0..awaited).map(|n| field(&format!("awaited{n}"))).collect();
            let fields = to_fetch(&configured, all, awaited);
            let count = |prefix: &str| fields.iter().filter(|it| it.to_string().starts_with(prefix)).count();
            assert_eq!((count("known"), count("awaited")), expected);
            assert_eq!(fields[..2], configured);
            assert_eq!(fields.len(), 2 + expected.0 + expected.1, "each once");
            if known > MOST {
                assert!(
                    !fields.contains(&field("known0")) && fields.contains(&field("known256")),
                    "the oldest goes"
                );
            }
        }
    }

    #[test]
    fn what_is_awaited_is_asked_for_once() {
        let known = vec![field("known0"), field("known1")];
        let awaited = BTreeSet::from([field("known1"), field("password")]);
        let fields = to_fetch(&[field("password")], known, awaited);
        assert_eq!(fields, [field("password"), field("known0"), field("known1")]);
    }
}
