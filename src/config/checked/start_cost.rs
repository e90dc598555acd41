//! Compares the number of calls that look up everything once with the budget of a service account.

use std::collections::{BTreeMap, BTreeSet};

use super::super::merged::Merged;
use super::super::problem::{Offset, Problems};
use super::super::{Settings, SourceKind};
use crate::domain::name::SourceName;

/// The calls of a session and of the list of vaults.
const SESSION: u64 = 5 + 1;
/// How many items of a vault one call returns.
const BATCH: u64 = 50;

/// The position of a warning about each source: its `hosts`, its `budget`, or the source itself.
pub(super) fn places(merged: &Merged) -> BTreeMap<SourceName, Offset> {
    let one = merged.source.iter().map(|source| (SourceName::default_source(), source));
    let many =
        merged.sources.iter().filter_map(|(name, source)| Some((SourceName::parse(name).ok()?, source)));
    let place = |(name, source): (SourceName, &super::super::at::At<super::written::Source>)| {
        let key = source.hosts.as_ref().or(source.budget.as_ref()).map(|key| key.place);
        (name, key.unwrap_or(source.place))
    };
    one.chain(many).map(place).collect()
}

/// Warns about service accounts whose budget is lower than one start of all hosts needs.
pub(super) fn check(settings: &Settings, places: &BTreeMap<SourceName, Offset>, problems: &mut Problems) {
    for (name, source) in &settings.sources {
        let (SourceKind::ServiceAccount(account), Some(place)) = (&source.kind, places.get(name)) else {
            continue;
        };
        let cost = of(settings, name);
        let (hosts, budget) = (u64::from(account.hosts), u64::from(account.budget));
        if hosts.saturating_mul(cost) > budget {
            let each = if hosts == 1 { "this host".to_owned() } else { format!("each of {hosts} hosts") };
            let what = format!(
                "a start of {each} costs about {cost} calls to source {name}, {} together, which is more than its \"budget\" of {budget} a day",
                hosts.saturating_mul(cost)
            );
            let remedy = "raise \"budget\" if 1Password allows more, use fewer vaults, or use a Connect server, which has no quota";
            problems.warn(*place, what, remedy);
        }
    }
}

/// The calls for a login and for all secrets of a source: two lists, and for each vault a list and its items
/// in batches.
fn of(settings: &Settings, name: &SourceName) -> u64 {
    let secrets = settings.policy.secrets().map(|secret| &secret.wanted);
    let parts =
        settings.templates.iter().flat_map(|template| template.filling.parts.iter().map(|part| &**part));
    let mut vaults: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for wanted in secrets.chain(parts).filter(|wanted| wanted.source == *name) {
        let item = &wanted.reference.item;
        let fold = |text: &str| text.to_ascii_lowercase();
        vaults.entry(fold(&item.vault.text)).or_default().insert(fold(&item.item.text));
    }
    if vaults.is_empty() {
        return 0;
    }
    SESSION + vaults.values().map(|items| 1 + (items.len() as u64).div_ceil(BATCH)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_budget_that_is_not_enough_for_a_start_is_a_warning() {
        let warnings = |keys: &str, items: usize, vaults: usize| {
            let secrets: Vec<String> = (0..items)
                .map(|i| {
                    format!(
                        r#"{{ "name": "s{i}", "reference": "op://v{}/i{i}/f", "units": ["app"] }}"#,
                        i % vaults
                    )
                })
                .collect();
            let text = format!(r#"{{ "source": {{ {keys} }}, "secrets": [ {} ] }}"#, secrets.join(", "));
            let loaded = crate::config::from_text(Path::new("s.json"), &text).unwrap();
            loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        // 5 + 1, and a list and a batch for each vault
        for (keys, items, vaults, is_warned) in [
            (r#""budget": 8"#, 50, 1, false),
            (r#""budget": 8"#, 51, 1, true),
            (r#""budget": 7"#, 1, 1, true),
            (r#""budget": 26"#, 10, 10, false),
            (r#""budget": 25"#, 10, 10, true),
            (r#""budget": 800, "hosts": 100"#, 1, 1, false),
            (r#""budget": 800, "hosts": 101"#, 1, 1, true),
            (r#""kind": "connect", "url": "https://c""#, 100, 100, false),
        ] {
            let said = warnings(keys, items, vaults);
            assert_eq!(
                said.len(),
                usize::from(is_warned),
                "{keys}, {items} items in {vaults} vaults: {said:?}"
            );
        }
        let said = &warnings(r#""budget": 800, "hosts": 101"#, 1, 1)[0];
        let words = "a start of each of 101 hosts costs about 8 calls to source default, 808 together, which is more than its \"budget\" of 800 a day; raise";
        assert!(said.contains("s.json:1:") && said.contains(words), "{said}");
    }
}
