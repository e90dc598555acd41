//! The expectations of a service account, from what 1Password's SDK core 0.4.2 returns with the fake. Pure.

use std::collections::BTreeSet;

use onecred::ipc::Class;
use serde_json::Value;

use crate::account::{Evidence, Refused, Step};
use crate::fields;
use crate::finding::{Finding, Line};
use crate::item::{list, text};
use crate::own::{Expected, Outcome, Resolved, Wanted, Way};
use crate::shape::{Holds, Key, differences};
use crate::words::Words;

const VAULT: &[Key] = &[
    ("id", true, Holds::Id),
    ("title", true, Holds::Text),
    ("description", false, Holds::Text),
    ("vaultType", true, Holds::Text),
    ("activeItemCount", true, Holds::Count),
    ("contentVersion", true, Holds::Count),
    ("attributeVersion", true, Holds::Count),
    ("createdAt", true, Holds::Time),
    ("updatedAt", true, Holds::Time),
];

const OVERVIEW: &[Key] = &[
    ("id", true, Holds::Id),
    ("title", true, Holds::Text),
    ("category", true, Holds::Text),
    ("vaultId", true, Holds::Id),
    ("websites", true, Holds::List),
    ("tags", true, Holds::List),
    ("createdAt", true, Holds::Time),
    ("updatedAt", true, Holds::Time),
    ("state", true, Holds::Text),
];

const ITEM: &[Key] = &[
    ("id", true, Holds::Id),
    ("title", true, Holds::Text),
    ("category", true, Holds::Text),
    ("vaultId", true, Holds::Id),
    ("fields", true, Holds::List),
    ("sections", true, Holds::List),
    ("notes", true, Holds::Text),
    ("tags", true, Holds::List),
    ("websites", true, Holds::List),
    ("version", true, Holds::Count),
    ("files", true, Holds::List),
    ("document", false, Holds::Object),
    ("createdAt", true, Holds::Time),
    ("updatedAt", true, Holds::Time),
];

const FIELD: &[Key] = &[
    ("id", true, Holds::Text),
    ("title", true, Holds::Text),
    ("sectionId", false, Holds::Text),
    ("fieldType", true, Holds::Text),
    ("value", true, Holds::Text),
    ("details", false, Holds::Object),
];

const SECTION: &[Key] = &[("id", true, Holds::Text), ("title", true, Holds::Text)];

const FILE: &[Key] =
    &[("attributes", true, Holds::Object), ("sectionId", true, Holds::Text), ("fieldId", true, Holds::Text)];

const ATTRIBUTES: &[Key] =
    &[("id", true, Holds::Id), ("name", true, Holds::Text), ("size", true, Holds::Count)];

struct Judge<'a> {
    evidence: &'a Evidence,
    resolved: &'a Resolved,
    words: &'a Words,
    further: BTreeSet<String>,
}

type Expectation = (&'static str, &'static str, fn(&mut Judge<'_>) -> (usize, Vec<String>), &'static str);

const TABLE: &[Expectation] = &[
    ("account.core", "the core is a release that is known by its SHA-256", release, ""),
    ("account.answers", "the core brings what exists", answers, "no call was made"),
    ("account.rate-limit", "no call is limited", rate_limit, "no call was made"),
    ("account.vault", "a vault has the known shape", vault, "no vault was listed"),
    (
        "account.overview",
        "an item in the list has the known shape, is active, and in its vault",
        overview,
        "the vault has no items",
    ),
    ("account.count", "the vault counts its active items", count, "there was no answer"),
    (
        "account.archived",
        "archived items are listed when asked for, and only then",
        archived,
        "the vault has no archived items",
    ),
    (
        "account.archived-item",
        "an archived item is refused as not found",
        archived_item,
        "the vault has no archived items",
    ),
    ("account.batch", "a batch brings each item that was asked for", batch, "the vault has no items"),
    ("account.item", "an item has the known shape", item, "no item was read"),
    ("account.item-alone", "an item alone is as in a batch", item_alone, "no item was read"),
    (
        "account.field",
        "fields have the known shape, and name listed sections",
        field,
        "no item that was read has fields",
    ),
    ("account.field-type", "types of fields are known", field_types, "no item that was read has fields"),
    (
        "account.field-value",
        "values have the form of their type",
        field_values,
        "no item that was read has fields",
    ),
    ("account.file", "files have the known shape", file, "no item that was read has files"),
    (
        "account.file-content",
        "a file is a list of bytes of its size",
        content,
        "no item that was read has files",
    ),
    ("account.unknown-vault", "an unknown vault is refused as not found", unknown_vault, "it was not asked"),
    ("account.unknown-item", "an unknown item is refused as not found", unknown_item, "it was not asked"),
    (
        "account.official",
        "the core itself resolves fields to what onecred makes of them",
        official,
        "it was not asked",
    ),
    (
        "account.headers",
        "headers, statuses and the account's quota",
        invisible,
        "the core does not show them",
    ),
    (
        "account.wrong-token",
        "a wrong token is refused",
        invisible,
        "it is never sent, since 1Password locks accounts after several",
    ),
];

/// Judges all results. The second part contains further observations.
pub(crate) fn judge(evidence: &Evidence, resolved: &Resolved, words: &Words) -> (Vec<Line>, Vec<String>) {
    let mut judge = Judge { evidence, resolved, words, further: BTreeSet::new() };
    let line = |(name, claim, decide, otherwise): &Expectation| {
        let (looked_at, found) = decide(&mut judge);
        Line { name, claim, finding: Finding::of(looked_at, found, otherwise) }
    };
    let lines = TABLE.iter().map(line).collect();
    let mut also = BTreeSet::from([format!("the core's release: {}", evidence.release.unwrap_or("unknown"))]);
    if evidence.left_out > 0 {
        also.insert(format!("calls left out: {}", evidence.left_out));
    }
    let names = evidence.exchanges.iter().filter_map(|(_, outcome)| outcome.as_ref().err()?.name.as_deref());
    also.extend(names.map(|name| format!("the core's name of a refusal: {}", words.show(name))));
    let categories =
        list(evidence.json(Step::Items).unwrap_or(&Value::Null)).iter().map(|item| text(&item["category"]));
    also.extend(categories.map(|category| format!("category {}", words.show(&category))));
    also.extend(judge.further.into_iter().map(|key| format!("a further key of {key}")));
    (lines, also.into_iter().collect())
}

fn release(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let unknown = it.evidence.release.is_none();
    (1, unknown.then(|| "its SHA-256 is that of no known release".into()).into_iter().collect())
}

/// Steps that request something that exists.
fn exists(step: Step) -> bool {
    !matches!(step, Step::UnknownVault | Step::UnknownItem | Step::ArchivedItem)
}

fn answers(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let asked = it.evidence.exchanges.iter().filter(|(step, _)| exists(*step)).collect::<Vec<_>>();
    let refused = asked.iter().filter_map(|(step, outcome)| Some(refusal(*step, outcome.as_ref().err()?)));
    (asked.len(), refused.collect())
}

fn refusal(step: Step, refused: &Refused) -> String {
    format!("{step:?}: refused as {}", refused.class.as_str())
}

fn rate_limit(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let calls = &it.evidence.exchanges;
    let limited = calls
        .iter()
        .enumerate()
        .filter(|(_, (_, outcome))| outcome.as_ref().is_err_and(|refused| refused.class == Class::Limited));
    (
        calls.len(),
        limited
            .map(|(number, (step, _))| {
                format!("{step:?}: rate limited at call {}; nothing more was asked", number + 1)
            })
            .collect(),
    )
}

fn vault(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further, .. } = it;
    let vaults = evidence.json(Step::Vaults).map(list).unwrap_or_default();
    (
        vaults.len(),
        vaults.iter().flat_map(|vault| differences("a vault", vault, VAULT, words, further)).collect(),
    )
}

fn overview(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further, .. } = it;
    let items = evidence.json(Step::Items).map(list).unwrap_or_default();
    let mut found = Vec::new();
    for item in items {
        found.extend(differences("an item in the list", item, OVERVIEW, words, further));
        if item["vaultId"] != evidence.vault["id"] {
            found.push("an item in the list is of another vault".into());
        }
        if item["state"].is_string() && item["state"] != "active" {
            found.push(format!(
                "an item in the list is in the state {}",
                words.show(item["state"].as_str().unwrap_or_default())
            ));
        }
    }
    (items.len(), found)
}

fn count(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Some(items) = it.evidence.json(Step::Items).map(list) else { return (0, Vec::new()) };
    let differs = it.evidence.vault["activeItemCount"].as_u64() != Some(items.len() as u64);
    (
        1,
        differs
            .then(|| "\"activeItemCount\" is not the number of items in the list".into())
            .into_iter()
            .collect(),
    )
}

fn archived(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further, .. } = it;
    let archived = evidence.json(Step::Archived).map(list).unwrap_or_default();
    let active = evidence.json(Step::Items).map(list).unwrap_or_default();
    let mut found = Vec::new();
    for item in archived {
        found.extend(differences("an archived item in the list", item, OVERVIEW, words, further));
        if item["state"] != "archived" {
            found.push("an item in the list of archived ones is in another state".into());
        }
        if active.iter().any(|other| other["id"] == item["id"]) {
            found.push("an archived item is in the list of active ones".into());
        }
    }
    (archived.len(), found)
}

fn archived_item(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    refused_as_not_found(it.evidence, Step::ArchivedItem)
}

fn unknown_vault(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    refused_as_not_found(it.evidence, Step::UnknownVault)
}

fn unknown_item(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    refused_as_not_found(it.evidence, Step::UnknownItem)
}

fn refused_as_not_found(evidence: &Evidence, step: Step) -> (usize, Vec<String>) {
    let outcomes = evidence.of(step).collect::<Vec<_>>();
    let other = outcomes.iter().filter_map(|outcome| match outcome {
        Ok(_) => Some("it is not refused".to_owned()),
        Err(refused) if refused.class == Class::NotFound => None,
        Err(refused) => Some(format!("it is refused as {}", refused.class.as_str())),
    });
    (outcomes.len(), other.collect())
}

fn batch(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Some(batch) = it.evidence.json(Step::Batch) else { return (0, Vec::new()) };
    let listed = it.evidence.json(Step::Items).map(list).unwrap_or_default();
    let listed = listed.iter().map(|item| text(&item["id"])).take(50).collect::<BTreeSet<_>>();
    let got = list(&batch["individualResponses"])
        .iter()
        .map(|one| text(&one["content"]["id"]))
        .collect::<BTreeSet<_>>();
    let missing = listed.difference(&got).map(|_| "an item that was asked for is missing".to_owned());
    let more = got.difference(&listed).map(|_| "an item came that was not asked for".to_owned());
    (listed.len(), missing.chain(more).collect())
}

/// All items that arrived completely.
fn whole(evidence: &Evidence) -> Vec<&Value> {
    let batch =
        evidence.json(Step::Batch).map(|batch| list(&batch["individualResponses"])).unwrap_or_default();
    batch.iter().map(|one| &one["content"]).filter(|item| item.is_object()).collect()
}

fn item(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further, .. } = it;
    let items = whole(evidence);
    let mut found = Vec::new();
    for item in &items {
        found.extend(differences("an item", item, ITEM, words, further));
        if item["vaultId"] != evidence.vault["id"] {
            found.push("an item is of another vault".into());
        }
    }
    (items.len(), found)
}

fn item_alone(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Some(alone) = it.evidence.json(Step::Item) else { return (0, Vec::new()) };
    // codes change between two calls
    let without_codes = |item: &Value| {
        let mut item = item.clone();
        item["fields"].as_array_mut().into_iter().flatten().for_each(|field| field["details"] = Value::Null);
        item
    };
    let asked = it.evidence.json(Step::Items).and_then(|items| list(items).first());
    let batched =
        whole(it.evidence).into_iter().find(|item| asked.is_some_and(|asked| asked["id"] == item["id"]));
    let same = batched.is_some_and(|item| without_codes(item) == without_codes(alone));
    (1, (!same).then(|| "it differs from the one in the batch".into()).into_iter().collect())
}

fn field(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further, .. } = it;
    let (mut looked_at, mut found) = (0, Vec::new());
    for item in whole(evidence) {
        let sections = list(&item["sections"]);
        found.extend(
            sections.iter().flat_map(|section| differences("a section", section, SECTION, words, further)),
        );
        for field in list(&item["fields"]) {
            looked_at += 1;
            found.extend(differences("a field", field, FIELD, words, further));
            let section = text(&field["sectionId"]);
            if !section.is_empty() && sections.iter().all(|known| known["id"] != section.as_str()) {
                found.push("a field is in a section that the item does not list".into());
            }
        }
    }
    (looked_at, found)
}

fn field_count(evidence: &Evidence) -> usize {
    evidence.items.iter().map(|item| item.fields.len()).sum()
}

fn field_types(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    (field_count(it.evidence), fields::unknown_types(fields::CORE, &it.evidence.items, it.words))
}

fn field_values(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    (field_count(it.evidence), fields::other_forms(fields::CORE, &it.evidence.items))
}

fn file(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further, .. } = it;
    let (mut looked_at, mut found) = (0, Vec::new());
    for item in whole(evidence) {
        for file in list(&item["files"]) {
            looked_at += 1;
            found.extend(differences("a file", file, FILE, words, further));
            found.extend(differences("a file's attributes", &file["attributes"], ATTRIBUTES, words, further));
        }
        if item["document"].is_object() {
            looked_at += 1;
            found.extend(differences("a document", &item["document"], ATTRIBUTES, words, further));
        }
    }
    (looked_at, found)
}

fn content(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Some(content) = it.evidence.json(Step::File) else { return (0, Vec::new()) };
    let mut found = Vec::new();
    match content.as_array() {
        Some(bytes) if bytes.iter().all(|byte| byte.as_u64().is_some_and(|byte| byte < 256)) => {
            if Some(bytes.len() as u64) != it.evidence.file_size {
                found.push("the content is not as long as the file's size".into());
            }
        }
        _ => found.push("the content is not a list of bytes".into()),
    }
    (1, found)
}

/// The core's own result for a reference, compared with onecred's.
fn official(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Some(json) = it.evidence.json(Step::Resolve) else { return (0, Vec::new()) };
    let responses = &json["individualResponses"];
    let asked = it
        .resolved
        .outcomes
        .iter()
        .filter(|(wanted, _)| !matches!(wanted.way, Way::Otp | Way::File))
        .collect::<Vec<_>>();
    let found = asked
        .iter()
        .filter_map(|(wanted, outcome)| beside(wanted, outcome, &responses[&wanted.reference], it.words));
    (asked.len(), found.collect())
}

fn beside(wanted: &Wanted, outcome: &Outcome, response: &Value, words: &Words) -> Option<String> {
    let kind = if fields::form(fields::CORE, &wanted.kind).is_some() {
        &wanted.kind
    } else {
        words.show(&wanted.kind)
    };
    let secret = response["content"]["secret"].as_str();
    let is_empty = matches!(&wanted.expected, Expected::Text(text) if text.is_empty());
    match (outcome, secret) {
        // exposed: it is compared with the core's result
        (Ok(value), Some(secret)) if value.expose() == secret.as_bytes() => None,
        // OpenSSH's format contains a random number
        (Ok(value), Some(secret)) if wanted.way == Way::OpenSsh && value.len() == secret.len() => None,
        (Ok(_), Some(_)) => Some(format!("{kind}: the core resolves to another value")),
        (Err(_), None) => None,
        // an unset field is empty for onecred, and sometimes an error for the core
        (Ok(value), None) if value.is_empty() && is_empty => None,
        (Ok(_), None) => {
            let error = response["error"]["type"].as_str().unwrap_or_default();
            Some(format!("{kind}: onecred resolves what the core refuses as {}", words.show(error)))
        }
        (Err(class), Some(_)) => {
            Some(format!("{kind}: onecred refuses as {} what the core resolves", class.as_str()))
        }
    }
}

fn invisible(_: &mut Judge<'_>) -> (usize, Vec<String>) {
    (0, Vec::new())
}
