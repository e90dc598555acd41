//! What the fuzzer tries on configurations: our JSON against serde_json's, and no unit with anything that its file does not give.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use super::json::{JsonValue, Member, Node};
use super::*;
use crate::domain::name::UnitName;
use crate::domain::policy::Deliverable;
use crate::fuzzing::{Input, text};

/// A file.
pub(crate) fn config(data: &[u8]) {
    let file = text(data);
    reads_as_serde_json(&file);
    let path = Path::new("/etc/onecred/secrets.json");
    let loaded = match from_text(path, &file) {
        Ok(loaded) => loaded,
        Err(report) => {
            assert!(report.errors() > 0, "refused for nothing: {file}");
            return places_are_there(&report.problems, &file);
        }
    };
    places_are_there(&loaded.warnings, &file);
    assert!(loaded.warnings.iter().all(|problem| problem.severity == Severity::Warning));
    let Settings { sources, policy, templates, limits, roots, .. } = &loaded.settings;
    assert!((1..=512).contains(&limits.connections) && (1 << 20..=4 << 30).contains(&limits.store_bytes));
    let mut names = BTreeSet::new();
    for secret in policy.secrets() {
        assert!(names.insert(secret.name.as_str().to_owned()), "{} twice", secret.name);
        assert!(sources.contains_key(&secret.wanted.source));
        assert!(secret.wanted.deadline.as_secs() <= 600);
    }
    for template in templates {
        assert!(names.insert(template.name.as_str().to_owned()), "{} twice", template.name);
        assert_eq!(template.filling.parts.len(), template.filling.template.names.len());
    }
    let targets = policy.secrets().filter_map(|secret| secret.target.as_ref());
    let mut paths = BTreeSet::new();
    for target in targets.chain(templates.iter().filter_map(|template| template.target.as_ref())) {
        assert!(paths.insert(&target.path), "two files at {}", target.path.display());
        let plain = target.path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        assert!(plain && roots.iter().any(|root| target.path.starts_with(root)), "{}", target.path.display());
        assert!(target.mode & 0o022 == 0 && target.mode <= 0o777, "{:o}", target.mode);
    }
    for unit in ["app.service", "a.service", "web@1.service", "x.mount"] {
        let Ok(unit) = UnitName::parse(unit) else { continue };
        let ids = names.iter().map(String::as_str).chain(["a", "db-password"]);
        ids.for_each(|id| is_given(&unit, id, &loaded.settings));
    }
}

/// What a unit gets, some line of the file gives.
fn is_given(unit: &UnitName, id: &str, settings: &Settings) {
    let Ok(id) = CredentialId::parse(id) else { return };
    let Ok(got) = settings.policy.judge(unit, &id) else { return };
    let gives =
        |grants: &[Grant]| grants.iter().any(|grant| grant.credential == id && grant.units.matches(unit));
    let given = match &got {
        Deliverable::Secret(wanted) => {
            let by_name =
                settings.policy.secrets().any(|secret| secret.wanted == **wanted && gives(&secret.grants));
            by_name
                || settings.policy.rules().iter().any(|rule| {
                    rule.units.iter().any(|pattern| pattern.matches(unit))
                        && rule.credentials.iter().any(|glob| glob.matches(id.as_str()))
                })
        }
        Deliverable::Template(filling) => {
            settings.templates.iter().any(|template| template.filling == *filling && gives(&template.grants))
        }
    };
    assert!(given, "{unit} has {id}, and no line gives it");
}

/// Each problem has a place in the file.
fn places_are_there(problems: &[Problem], file: &str) {
    let lines: Vec<&str> = file.split('\n').collect();
    for Problem { at, what, .. } in problems {
        let Some(Position { line, column }) = at else { continue };
        let length = lines.get(line - 1).map(|line| line.chars().count());
        assert!(
            length.is_some_and(|length| *column <= length + 1),
            "{line}:{column} is not in the file: {what}"
        );
    }
}

/// The tree of ours is that of serde_json, but that ours keeps what stands twice, and is not as deep.
fn reads_as_serde_json(file: &str) {
    let (ours, theirs) = (json::parse(file), serde_json::from_str::<Json>(file));
    match (&ours, &theirs) {
        (Ok(node), Ok(json)) => assert_eq!(plain(node), *json),
        (Err(mistake), Ok(_)) => assert!(mistake.what.contains("too deep"), "{}", mistake.what),
        (Ok(_), Err(error)) => panic!("serde_json says {error}"),
        (Err(mistake), Err(_)) => assert!(file.is_char_boundary(mistake.byte)),
    }
}

fn plain(node: &Node) -> Json {
    match &node.value {
        JsonValue::Null => Json::Null,
        JsonValue::Bool(value) => Json::from(*value),
        JsonValue::Number(number) => Json::Number(number.clone()),
        JsonValue::Text(text) => Json::from(text.as_str()),
        JsonValue::Array(nodes) => nodes.iter().map(plain).collect(),
        JsonValue::Object(members) => {
            let member = |Member { key, value, .. }: &Member| (key.clone(), plain(value));
            Json::Object(members.iter().map(member).collect::<Map<_, _>>())
        }
    }
}

/// A file of OpNix's: what is made of it is read as what OpNix's file itself is, and nothing of it is lost without a word.
pub(crate) fn opnix(data: &[u8]) {
    let mut input = Input(data);
    // a beginning that the fuzzer need not find
    let file = match input.byte() {
        b'+' => format!(
            r#"{{"secrets":[{{"path":"{}","reference":"op://a/b/c"{}}}]}}"#,
            text(input.upto(b'\n')),
            text(input.rest())
        ),
        _ => text(data).into_owned(),
    };
    let Ok(imported) = import_opnix(&file) else { return };
    let Ok(made) = serde_json::from_str::<Json>(&imported.json) else { panic!("no JSON: {}", imported.json) };
    let Ok(tree) = json::parse(&file) else { panic!("read once, and not twice") };
    let secrets = made["secrets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let written = match &tree.value {
        JsonValue::Object(members) => {
            members.iter().find(|member| member.key == "secrets").map_or(0, |member| {
                match &member.value.value {
                    JsonValue::Array(list) => list.len(),
                    _ => 0,
                }
            })
        }
        _ => 0,
    };
    let left_out = imported.notes.iter().filter(|note| note.contains("a secret is left out")).count();
    assert_eq!(secrets.len() + left_out, written, "secrets are lost without a word");
    let mut names = BTreeSet::new();
    for secret in secrets {
        let (name, target) =
            (secret["name"].as_str().unwrap_or_default(), secret["target"].as_str().unwrap_or_default());
        assert!(SecretName::parse(name).is_ok(), "{name:?} is no name");
        assert!(names.insert(name), "{name:?} twice");
        assert!(target.starts_with("/run/secrets/") && !target.contains("/../"), "{target}");
        assert!(secret.get("units").is_none(), "OpNix gives no unit anything");
    }
    // read as it stands, it is what is made of it
    let (as_it_is, made) = (from_text(Path::new("a"), &file), from_text(Path::new("a"), &imported.json));
    assert_eq!(as_it_is.is_ok(), made.is_ok(), "{}", imported.json);
    if let (Ok(one), Ok(two)) = (as_it_is, made) {
        let shown = |settings: &Settings| {
            settings
                .policy
                .secrets()
                .map(|s| (s.name.clone(), s.wanted.clone(), s.target.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(&one.settings), shown(&two.settings));
    }
}
