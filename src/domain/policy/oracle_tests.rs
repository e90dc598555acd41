//! Compares the policy with a second implementation. That one is slow and uses none of the program's types,
//! so both agree only if both are right.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value as Json, json};

use super::*;
use crate::config::from_text;

const UNITS: [&str; 9] = [
    "a.service",
    "b.service",
    "ab.service",
    "a@1.service",
    "a@b-c.service",
    r"a@\x20.service",
    r"b@x\x2fy.service",
    "a.mount",
    "a@1.mount",
];
const IDS: [&str; 5] = ["a", "b", "k", "db", "a b"];
const PATTERNS: [&str; 14] =
    ["a", "b", "ab", "a@1", "a.mount", "*", "a*", "?", "a@*", "*@1", "[a-b]", "[!a]", "*.mount", "a@1.*"];
const REFERENCES: [&str; 8] = [
    "op://v/i/f",
    "op://{prefix}/i/f",
    "op://v/{instance}/{credential}",
    "op://v/{unit}/f",
    "op://v/{credential}{credential}/f",
    "op://v/x{prefix}-{instance}/s/{credential}?attribute=otp",
    "op://v/i/{credential}",
    "op://{instance}/i/f",
];

/// Whether a pattern matches a name, tested character by character.
fn means(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|taken| means(rest, &name[taken..])),
        Some(('?', rest)) => !name.is_empty() && means(rest, &name[1..]),
        Some(('[', rest)) => {
            let end = 1 + rest.iter().skip(1).position(|c| *c == ']').expect("closed");
            let (class, not) = match rest[0] == '!' {
                true => (&rest[1..end], true),
                false => (&rest[..end], false),
            };
            let within = |c: char| match class {
                [low, '-', high] => (*low..=*high).contains(&c),
                members => members.contains(&c),
            };
            name.first().is_some_and(|c| within(*c) != not) && means(&rest[end + 1..], &name[1..])
        }
        Some((c, rest)) => name.first() == Some(c) && means(rest, &name[1..]),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    means(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
}

/// Whether a pattern matches a unit. A pattern without a type means a service.
fn is_unit(pattern: &str, unit: &str) -> bool {
    let typed = pattern == "*" || [".service", ".mount"].iter().any(|kind| pattern.ends_with(kind));
    matches(&if typed { pattern.to_owned() } else { format!("{pattern}.service") }, unit)
}

fn texts<'j>(entry: &'j Json, key: &str) -> Vec<&'j str> {
    entry[key].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

/// What a file grants to a unit for an ID, reading it from top to bottom: references, or nothing.
fn given(file: &Json, unit: &str, id: &str) -> Option<Vec<String>> {
    let holders = || {
        let all = ["secrets", "templates"].into_iter().filter_map(|key| file[key].as_array());
        all.flatten().map(|holder| (holder["name"].as_str().unwrap_or_default(), holder))
    };
    for by_glob in [false, true] {
        let holds = |(name, holder): &(&str, &Json)| {
            texts(holder, "units").into_iter().any(|entry| {
                let (pattern, asked) = entry.split_once('/').unwrap_or((entry, name));
                asked == id && pattern.contains(['*', '?', '[']) == by_glob && is_unit(pattern, unit)
            })
        };
        match *holders().filter(holds).collect::<Vec<_>>().as_slice() {
            [] => {}
            [(_, holder)] => return Some(parts(file, holder)),
            _ => return None,
        }
    }
    let rules = file["rules"].as_array().into_iter().flatten();
    let mut rules = rules.filter(|rule| {
        let credentials = texts(rule, "credentials");
        texts(rule, "units").iter().any(|pattern| is_unit(pattern, unit))
            && (rule.get("credentials").is_none() || credentials.iter().any(|pattern| matches(pattern, id)))
    });
    let reference = rules.next()?["reference"].as_str().unwrap_or_default();
    let stem = unit.rsplit_once('.').expect("typed").0;
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let plain = |text: &str| text.replace(r"\x20", " ").replace(r"\x2f", "/");
    let values = [("unit", stem), ("prefix", prefix), ("instance", instance), ("credential", id)];
    let mut filled = reference.to_owned();
    for (placeholder, value) in values {
        let (hole, value) = (format!("{{{placeholder}}}"), plain(value));
        let fit = value.chars().all(|c| c.is_ascii_alphanumeric() || "_.- ".contains(c));
        if filled.contains(&hole) && (!fit || value.trim().is_empty()) {
            return None;
        }
        filled = filled.replace(&hole, &value);
    }
    Some(vec![filled])
}

/// The references of a secret or template.
fn parts(file: &Json, holder: &Json) -> Vec<String> {
    let Some(content) = holder["content"].as_str() else { return vec![text(&holder["reference"])] };
    let mut parts = Vec::new();
    for piece in content.split("{{").skip(1) {
        let name = piece.split("}}").next().unwrap_or_default();
        let secrets = file["secrets"].as_array().into_iter().flatten();
        let mut named =
            secrets.filter(|secret| secret["name"] == name).map(|secret| text(&secret["reference"]));
        let reference = named.next_back().unwrap_or_else(|| name.to_owned());
        if !parts.contains(&reference) {
            parts.push(reference);
        }
    }
    parts
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn entries() -> impl Strategy<Value = Vec<String>> {
    let entry = (select(&PATTERNS[..]), select(&IDS[..]), any::<bool>());
    vec(
        entry.prop_map(|(pattern, id, own)| if own { pattern.to_owned() } else { format!("{pattern}/{id}") }),
        0..3,
    )
}

fn holders() -> impl Strategy<Value = Json> {
    let names = proptest::sample::subsequence(vec!["a", "b", "db", "k"], 0..=3);
    (names, vec(entries(), 3), vec(any::<bool>(), 3)).prop_map(|(names, units, templates)| {
        let (mut secrets, mut texts) = (vec![], vec![]);
        for ((name, units), template) in names.iter().zip(units).zip(templates) {
            // a template of the first secret and of a reference, if there is a first secret
            match secrets.first().map(|first: &Json| text(&first["name"])).filter(|_| template) {
                Some(first) => {
                    let content = format!("{{{{op://t/{name}/f}}}} {{{{{first}}}}} {{{{{first}}}}}");
                    texts.push(json!({ "name": name, "content": content, "units": units }));
                }
                None => secrets
                    .push(json!({ "name": name, "reference": format!("op://s/{name}/f"), "units": units })),
            }
        }
        json!({ "secrets": secrets, "templates": texts })
    })
}

fn rules() -> impl Strategy<Value = Json> {
    let patterns = vec(select(&PATTERNS[..]), 1..3);
    let ids = proptest::option::of(vec(select(&["a", "k*", "?", "[a-b]", "d*", "a b"][..]), 1..3));
    let rule = (patterns, ids, select(&REFERENCES[..])).prop_map(|(units, ids, reference)| match ids {
        Some(ids) => json!({ "units": units, "credentials": ids, "reference": reference }),
        None => json!({ "units": units, "reference": reference }),
    });
    vec(rule, 0..4).prop_map(Json::from)
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: u32::MAX, ..Default::default() })]

    #[test]
    fn no_unit_gets_what_its_file_does_not_give(holders in holders(), rules in rules()) {
        let mut file = holders;
        file["rules"] = rules;
        let Ok(loaded) = from_text(Path::new("secrets.json"), &file.to_string()) else { return Err(TestCaseError::reject("no configuration")) };
        for unit in UNITS {
            for id in IDS {
                let (name, credential) = (UnitName::parse(unit).expect(unit), CredentialId::parse(id).expect(id));
                let got = loaded.settings.policy.judge(&name, &credential).ok();
                let got = got.map(|given| given.parts().iter().map(|part| part.reference.to_string()).collect::<Vec<_>>());
                prop_assert_eq!(got, given(&file, unit, id), "{} asks for {} of {}", unit, id, file);
            }
        }
    }
}

#[test]
fn the_second_reading_tells_gifts_from_refusals() {
    let file = json!({
        "secrets": [{ "name": "db", "reference": "op://s/db/f", "units": ["a", "a*/k"] }, { "name": "k", "reference": "op://s/k/f", "units": ["*"] }],
        "templates": [{ "name": "t", "content": "{{db}}{{op://x/y/z}}", "units": ["ab"] }],
        "rules": [{ "units": ["a@*"], "reference": "op://v/{instance}/{credential}" }]
    });
    let one = |reference: &str| Some(vec![reference.to_owned()]);
    assert_eq!(given(&file, "a.service", "db"), one("op://s/db/f"));
    assert_eq!(given(&file, "a.service", "k"), None, "two globs");
    assert_eq!(given(&file, "b.service", "k"), one("op://s/k/f"));
    assert_eq!(given(&file, "ab.service", "t").map(|parts| parts.len()), Some(2));
    assert_eq!(given(&file, "a@1.service", "x"), one("op://v/1/x"));
    assert_eq!(given(&file, r"b@x\x2fy.service", "x"), None);
    assert_eq!(given(&file, "b.service", "db"), None);
}
