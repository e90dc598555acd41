//! The expectations of a Connect server: its OpenAPI document 1.7.1, the fake, and other known facts. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::connect::{Answer, Evidence, Exchange, Step};
use crate::fields;
use crate::finding::{Finding, Line};
use crate::item::{list, text};
use crate::shape::{Holds, Key, differences, is_id};
use crate::words::{Words, version};

const VAULT: &[Key] = &[
    ("id", true, Holds::Id),
    ("name", true, Holds::Text),
    ("description", false, Holds::Text),
    ("attributeVersion", true, Holds::Count),
    ("contentVersion", true, Holds::Count),
    ("items", true, Holds::Count),
    ("type", true, Holds::Text),
    ("createdAt", true, Holds::Time),
    ("updatedAt", true, Holds::Time),
];

/// An item in a list, and what a complete item has in common with it.
const ITEM: &[Key] = &[
    ("id", true, Holds::Id),
    ("title", true, Holds::Text),
    ("vault", true, Holds::WithId),
    ("category", true, Holds::Text),
    ("version", true, Holds::Count),
    ("createdAt", true, Holds::Time),
    ("updatedAt", true, Holds::Time),
    ("lastEditedBy", true, Holds::Text),
    ("state", false, Holds::Text),
    ("tags", false, Holds::List),
    ("urls", false, Holds::List),
    ("favorite", false, Holds::Truth),
];

const WHOLE: &[Key] =
    &[("sections", false, Holds::List), ("fields", true, Holds::List), ("files", false, Holds::List)];

const SECTION: &[Key] = &[("id", true, Holds::Text), ("label", false, Holds::Text)];

const FIELD: &[Key] = &[
    ("id", true, Holds::Text),
    ("type", true, Holds::Text),
    ("section", false, Holds::Object),
    ("purpose", false, Holds::Text),
    ("label", false, Holds::Text),
    ("value", false, Holds::Anything), // its form depends on the type
    ("totp", false, Holds::Text),
    ("generate", false, Holds::Truth),
    ("recipe", false, Holds::Object),
    ("entropy", false, Holds::Number),
];

const FILE: &[Key] = &[
    ("id", true, Holds::Id),
    ("name", true, Holds::Text),
    ("size", true, Holds::Count),
    ("content_path", true, Holds::Text),
    ("section", false, Holds::Object),
];

const ERROR: &[Key] = &[("status", true, Holds::Count), ("message", true, Holds::Text)];

const HEALTH: &[Key] =
    &[("name", true, Holds::Text), ("version", true, Holds::Text), ("dependencies", false, Holds::List)];

const DEPENDENCY: &[Key] =
    &[("service", true, Holds::Text), ("status", true, Holds::Text), ("message", false, Holds::Text)];

const CATEGORIES: [&str; 22] = [
    "LOGIN",
    "PASSWORD",
    "API_CREDENTIAL",
    "SERVER",
    "DATABASE",
    "CREDIT_CARD",
    "MEMBERSHIP",
    "PASSPORT",
    "SOFTWARE_LICENSE",
    "OUTDOOR_LICENSE",
    "SECURE_NOTE",
    "WIRELESS_ROUTER",
    "BANK_ACCOUNT",
    "DRIVER_LICENSE",
    "IDENTITY",
    "REWARD_PROGRAM",
    "DOCUMENT",
    "EMAIL_ACCOUNT",
    "SOCIAL_SECURITY_NUMBER",
    "MEDICAL_RECORD",
    "SSH_KEY",
    "CUSTOM",
];

/// The inputs of the judgement: the results, and the words that may be shown.
struct Judge<'a> {
    evidence: &'a Evidence,
    words: &'a Words,
    further: BTreeSet<String>,
}

/// An expectation: its name, its statement, how to judge it, and why it may not be observable.
type Expectation = (&'static str, &'static str, fn(&mut Judge<'_>) -> (usize, Vec<String>), &'static str);

const TABLE: &[Expectation] = &[
    ("connect.answers", "every call has an answer", answered, "no call was made"),
    (
        "connect.heartbeat",
        "GET /heartbeat answers 200 with a dot, without a token",
        heartbeat,
        "it was not asked",
    ),
    (
        "connect.health",
        "GET /health gives name, version and dependencies, without a token",
        health,
        "it was not asked",
    ),
    ("connect.statuses", "what exists is answered with status 200", statuses, "nothing was answered"),
    (
        "connect.json",
        "answers other than heartbeat and files are application/json",
        json,
        "nothing was answered",
    ),
    (
        "connect.version-header",
        "answers below /v1 name the version in 1Password-Connect-Version",
        version_header,
        "nothing was answered",
    ),
    (
        "connect.framing",
        "answers say how long they are and are not compressed",
        framing,
        "nothing was answered",
    ),
    ("connect.rate-limit", "no answer limits the rate of calls", rate_limit, "nothing was answered"),
    ("connect.vault", "a vault has the known shape", vault, "no vault was listed"),
    (
        "connect.vault-filter",
        "a filter for the name finds the vaults of that name",
        vault_filter,
        "there was no answer",
    ),
    (
        "connect.vault-filter-case",
        "a filter for the name in another case finds nothing",
        filter_case,
        "the name is the same in upper and lower case, or was not asked for",
    ),
    ("connect.vault-detail", "a vault by its ID is what the list says", vault_detail, "there was no answer"),
    (
        "connect.overview",
        "an item in the list has the known shape, in its vault, and no fields",
        overview,
        "the vault has no items",
    ),
    (
        "connect.item-filter",
        "a filter for the title finds the items of that title",
        item_filter,
        "the vault has no items",
    ),
    ("connect.count", "the vault counts its active items", count, "there was no answer"),
    ("connect.category", "categories are known", categories, "the vault has no items"),
    (
        "connect.item",
        "an item by its ID has the known shape and the version of the list",
        item,
        "no item was read",
    ),
    (
        "connect.section",
        "sections have the known shape, and fields name listed ones",
        sections,
        "no item that was read has sections",
    ),
    ("connect.field", "fields have the known shape", field, "no item that was read has fields"),
    ("connect.field-type", "types of fields are known", field_types, "no item that was read has fields"),
    (
        "connect.field-purpose",
        "purposes of fields are known",
        field_purposes,
        "no item that was read has fields",
    ),
    (
        "connect.field-value",
        "values have the form of their type",
        field_values,
        "no item that was read has fields",
    ),
    (
        "connect.file",
        "files have the known shape, in the item, in the list and by ID",
        file,
        "no item that was read has files",
    ),
    (
        "connect.file-content",
        "a file's content is an octet stream of its size",
        content,
        "no item that was read has files",
    ),
    (
        "connect.unknown-vault",
        "an unknown vault is a 404, or a 403, in Connect's words",
        unknown_vault,
        "it was not asked",
    ),
    ("connect.unknown-item", "an unknown item is a 404 in Connect's words", unknown_item, "it was not asked"),
    ("connect.malformed-id", "an ID of another form is a 400", malformed_id, "it was not asked"),
    ("connect.wrong-token", "a wrong token is a 401 in Connect's words", wrong_token, "it was not asked"),
];

/// Judges all results. The second part contains further observations.
pub(crate) fn judge(evidence: &Evidence, words: &Words) -> (Vec<Line>, Vec<String>) {
    let mut judge = Judge { evidence, words, further: BTreeSet::new() };
    let line = |(name, claim, decide, otherwise): &Expectation| {
        let (looked_at, found) = decide(&mut judge);
        Line { name, claim, finding: Finding::of(looked_at, found, otherwise) }
    };
    let lines = TABLE.iter().map(line).collect();
    let mut also = seen_besides(evidence, words);
    also.extend(judge.further.into_iter().map(|key| format!("a further key of {key}")));
    (lines, also)
}

fn seen_besides(evidence: &Evidence, words: &Words) -> Vec<String> {
    let mut also = BTreeSet::new();
    let health = evidence.json(Step::Health).and_then(|health| version(health["version"].as_str()?));
    also.insert(format!("version by /health: {}", health.unwrap_or("none of the form 1.7.1")));
    for (_, answer) in evidence.answers() {
        also.insert(format!("answers in {}", answer.version));
        if let Some(named) = answer.headers.get(VERSION).and_then(|named| version(named)) {
            also.insert(format!("version by header: {named}"));
        }
        for name in answer.headers.keys() {
            also.insert(format!("header {}", words.show(name)));
        }
    }
    if evidence.left_out > 0 {
        also.insert(format!("calls left out: {}", evidence.left_out));
    }
    also.into_iter().collect()
}

const VERSION: &str = "1password-connect-version";

fn answered(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let failed = it.evidence.exchanges.iter().filter_map(|exchange| {
        exchange.outcome.as_ref().err().map(|why| format!("{:?}: {why}", exchange.step))
    });
    (it.evidence.exchanges.len(), failed.collect())
}

fn heartbeat(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    of_answers(it.evidence, Step::Heartbeat, |answer| {
        let mut found = status(answer, &[200]);
        if !answer.is_dot {
            found.push(format!("the body is not a dot ({} long)", fields::class(answer.length)));
        }
        found.extend(content_type(answer, "text/plain"));
        found
    })
}

fn health(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    of_answers(evidence, Step::Health, |answer| {
        let mut found = status(answer, &[200]);
        let Some(json) = &answer.json else {
            found.push("the body is not JSON".into());
            return found;
        };
        found.extend(differences("the health", json, HEALTH, words, further));
        if json["name"].is_string() && json["name"] != "1Password Connect API" {
            found.push("the name is another than 1Password Connect API".into());
        }
        if json["version"].as_str().is_some_and(|text| version(text).is_none()) {
            found.push("the version is not of the form 1.7.1".into());
        }
        for dependency in list(&json["dependencies"]) {
            found.extend(differences("a dependency", dependency, DEPENDENCY, words, further));
        }
        found
    })
}

/// Steps that must be answered with 200.
const EXISTING: [Step; 10] = [
    Step::Vaults,
    Step::VaultByName,
    Step::VaultByOtherCase,
    Step::Vault,
    Step::Items,
    Step::ItemByTitle,
    Step::Item,
    Step::Files,
    Step::File,
    Step::Content,
];

fn statuses(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let answers = it.evidence.answers().filter(|(step, _)| EXISTING.contains(step)).collect::<Vec<_>>();
    let wrong = answers.iter().filter(|(_, answer)| answer.status != 200);
    (answers.len(), wrong.map(|(step, answer)| format!("{step:?}: status {}", answer.status)).collect())
}

fn json(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let is_file = |step, answer: &Answer| step == Step::Content && answer.status == 200;
    let answers =
        it.evidence.answers().filter(|(step, answer)| *step != Step::Heartbeat && !is_file(*step, answer));
    let answers = answers.collect::<Vec<_>>();
    let mut found = Vec::new();
    for (step, answer) in &answers {
        found.extend(content_type(answer, "application/json").map(|what| format!("{step:?}: {what}")));
        if answer.json.is_none() {
            found.push(format!("{step:?}: the body is not JSON"));
        }
    }
    (answers.len(), found)
}

fn version_header(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let below = |step: &Step| !matches!(step, Step::Heartbeat | Step::Health);
    let answers = it.evidence.answers().filter(|(step, _)| below(step)).collect::<Vec<_>>();
    let wrong = answers.iter().filter_map(|(step, answer)| match answer.headers.get(VERSION) {
        None => Some(format!("{step:?}: the header is missing")),
        Some(named) if version(named).is_none() => {
            Some(format!("{step:?}: the header is not of the form 1.7.1"))
        }
        Some(_) => None,
    });
    (answers.len(), wrong.collect())
}

fn framing(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let mut found = Vec::new();
    for (step, answer) in it.evidence.answers() {
        let has = |name: &str| answer.headers.contains_key(name);
        if answer.version == "HTTP/1.1" && !has("content-length") && !has("transfer-encoding") {
            found.push(format!("{step:?}: the length is not known before the end"));
        }
        if answer
            .headers
            .get("content-encoding")
            .is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"))
        {
            found.push(format!("{step:?}: the answer is compressed, which was not asked for"));
        }
    }
    (it.evidence.answers().count(), found)
}

fn rate_limit(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let mut found = Vec::new();
    for (number, (step, answer)) in it.evidence.answers().enumerate() {
        let retry_after = match answer.headers.get("retry-after") {
            None => "without Retry-After",
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => "with Retry-After in seconds",
            Some(_) => "with Retry-After in another form, such as a date",
        };
        match answer.status {
            429 => found.push(format!(
                "{step:?}: status 429 at answer {}, {retry_after}; nothing more was asked",
                number + 1
            )),
            408 | 500..=599 => found.push(format!("{step:?}: status {}, {retry_after}", answer.status)),
            _ if retry_after != "without Retry-After" => {
                found.push(format!("{step:?}: status {} {retry_after}", answer.status))
            }
            _ => {}
        }
        for name in
            answer.headers.keys().filter(|name| name.contains("ratelimit") || name.contains("rate-limit"))
        {
            found.push(format!("{step:?}: header {}", it.words.show(name)));
        }
    }
    (it.evidence.answers().count(), found)
}

fn vault(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    let vaults = evidence.json(Step::Vaults).map(list).unwrap_or_default();
    let each = vaults.iter().flat_map(|vault| differences("a vault", vault, VAULT, words, further));
    (vaults.len(), each.collect())
}

fn vault_filter(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    by_filter(it.evidence, Step::VaultByName, Step::Vaults, "name", it.evidence.vault["name"].as_str())
}

fn item_filter(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let items = it.evidence.json(Step::Items).map(list).unwrap_or_default();
    let title = items.iter().find_map(|item| item["title"].as_str().filter(|title| !title.is_empty()));
    by_filter(it.evidence, Step::ItemByTitle, Step::Items, "title", title)
}

/// Whether a filtered list contains the entries of the full list with this name.
fn by_filter(
    evidence: &Evidence,
    step: Step,
    whole: Step,
    key: &str,
    name: Option<&str>,
) -> (usize, Vec<String>) {
    let ids = |list: &[Value]| -> BTreeSet<String> {
        let named = list.iter().filter(|thing| thing[key].as_str() == name);
        named.map(|thing| text(&thing["id"])).collect()
    };
    let Some(filtered) = evidence.json(step).map(list) else { return (0, Vec::new()) };
    let (expected, got) = (ids(evidence.json(whole).map(list).unwrap_or_default()), ids(filtered));
    let mut found = Vec::new();
    if filtered.len() != got.len() {
        found.push("the filtered list has things of another name".into());
    }
    if expected != got {
        found.push(format!("the filtered list has {} of {} of that name", got.len(), expected.len()));
    }
    (1, found)
}

fn filter_case(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Some(filtered) = it.evidence.json(Step::VaultByOtherCase).map(list) else { return (0, Vec::new()) };
    let name = it.evidence.vault["name"].as_str();
    let found = filtered.iter().any(|vault| vault["name"].as_str() == name);
    (1, found.then(|| "it finds the vault: the filter does not regard case".into()).into_iter().collect())
}

fn vault_detail(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    let Some(detail) = evidence.json(Step::Vault) else { return (0, Vec::new()) };
    let mut found = differences("a vault by its ID", detail, VAULT, words, further);
    for key in ["id", "name", "contentVersion"] {
        if detail[key] != evidence.vault[key] {
            found.push(format!("{key:?} differs from the list"));
        }
    }
    (1, found)
}

fn overview(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    let items = evidence.json(Step::Items).map(list).unwrap_or_default();
    let mut found = Vec::new();
    for item in items {
        found.extend(differences("an item in the list", item, ITEM, words, further));
        if item["vault"]["id"] != evidence.vault["id"] {
            found.push("an item in the list is of another vault".into());
        }
        if !item["fields"].is_null() {
            found.push("an item in the list has fields".into());
        }
        match item["state"].as_str() {
            None | Some("ARCHIVED" | "DELETED") => {}
            Some(other) => found.push(format!("an item has the unknown state {}", words.show(other))),
        }
    }
    (items.len(), found)
}

fn count(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Some(items) = it.evidence.json(Step::Items).map(list) else { return (0, Vec::new()) };
    let active = items.iter().filter(|item| item["state"].is_null()).count() as u64;
    let differs = it.evidence.vault["items"].as_u64() != Some(active);
    (
        1,
        differs
            .then(|| "\"items\" of the vault is not the number of active items in its list".into())
            .into_iter()
            .collect(),
    )
}

fn categories(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let items = it.evidence.json(Step::Items).map(list).unwrap_or_default();
    let unknown =
        items.iter().filter_map(|item| item["category"].as_str().filter(|name| !CATEGORIES.contains(name)));
    (
        items.len(),
        unknown.map(|name| format!("an item of the unknown category {}", it.words.show(name))).collect(),
    )
}

fn item(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    let shape = [ITEM, WHOLE].concat();
    let overviews = evidence.json(Step::Items).map(list).unwrap_or_default();
    let mut found = Vec::new();
    for item in evidence.jsons(Step::Item) {
        found.extend(differences("an item", item, &shape, words, further));
        let listed = overviews.iter().find(|overview| overview["id"] == item["id"]);
        if listed
            .is_none_or(|listed| listed["version"] != item["version"] || listed["title"] != item["title"])
        {
            found.push("an item has another ID, title or version than in the list".into());
        }
        if item["vault"]["id"] != evidence.vault["id"] {
            found.push("an item is of another vault".into());
        }
    }
    for Exchange { asked, outcome, .. } in
        evidence.exchanges.iter().filter(|exchange| exchange.step == Step::Item)
    {
        let id = outcome.as_ref().ok().and_then(|answer| answer.json.as_ref()?["id"].as_str());
        if id.is_some_and(|id| id != asked) {
            found.push("another item came than was asked for".into());
        }
    }
    (evidence.jsons(Step::Item).count(), found)
}

fn sections(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    let (mut looked_at, mut found) = (0, Vec::new());
    for item in evidence.jsons(Step::Item) {
        let listed = list(&item["sections"]);
        looked_at += listed.len();
        found.extend(
            listed.iter().flat_map(|section| differences("a section", section, SECTION, words, further)),
        );
        for field in list(&item["fields"]).iter().filter(|field| field["section"].is_object()) {
            if listed.iter().all(|section| section["id"] != field["section"]["id"]) {
                found.push("a field is in a section that the item does not list".into());
            }
        }
    }
    (looked_at, found)
}

fn field(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    let all = evidence.jsons(Step::Item).flat_map(|item| list(&item["fields"])).collect::<Vec<_>>();
    let each = all.iter().flat_map(|field| differences("a field", field, FIELD, words, further));
    let found = each.collect();
    (all.len(), found)
}

fn field_count(evidence: &Evidence) -> usize {
    evidence.items.iter().map(|item| item.fields.len()).sum()
}

fn field_types(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    (field_count(it.evidence), fields::unknown_types(fields::CONNECT, &it.evidence.items, it.words))
}

fn field_purposes(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    (field_count(it.evidence), fields::unknown_purposes(&it.evidence.items, it.words))
}

fn field_values(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    (field_count(it.evidence), fields::other_forms(fields::CONNECT, &it.evidence.items))
}

fn file(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    let inline = evidence.jsons(Step::Item).flat_map(|item| list(&item["files"]));
    let listed = evidence.json(Step::Files).map(list).unwrap_or_default();
    let all = inline.chain(listed).chain(evidence.json(Step::File)).collect::<Vec<_>>();
    let mut found = Vec::new();
    for file in &all {
        found.extend(differences("a file", file, FILE, words, further));
        let path = text(&file["content_path"]);
        let parts = path.trim_start_matches('/').split('/').collect::<Vec<_>>();
        let is_path = matches!(*parts, ["v1", "vaults", vault, "items", item, "files", id, "content"] if [vault, item, id].into_iter().all(is_id));
        if file["content_path"].is_string() && !is_path {
            found.push("\"content_path\" is not /v1/vaults/ID/items/ID/files/ID/content".into());
        }
    }
    if let Some(detail) = evidence.json(Step::File)
        && listed.iter().all(|file| file["id"] != detail["id"] || file["size"] != detail["size"])
    {
        found.push("a file by its ID is not in the item's list, or of another size".into());
    }
    (all.len(), found)
}

fn content(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    let size = it.evidence.json(Step::File).and_then(|file| file["size"].as_u64());
    of_answers(it.evidence, Step::Content, |answer| {
        let mut found = status(answer, &[200]);
        found.extend(content_type(answer, "application/octet-stream"));
        if size != Some(answer.length as u64) {
            found.push("the content is not as long as the file's size".into());
        }
        let named = answer.headers.get("content-disposition");
        if named.is_none_or(|text| !text.starts_with("attachment; filename=")) {
            found.push("the header Content-Disposition does not name a file".into());
        }
        found
    })
}

fn unknown_vault(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    error(it, Step::UnknownVault, &[404, 403], &["vault {id} not found", "vault {id} is not in scope"])
}

fn unknown_item(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    error(it, Step::UnknownItem, &[404], &["item {id} not found"])
}

fn malformed_id(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    error(it, Step::MalformedId, &[400], &["Invalid Vault UUID"])
}

fn wrong_token(it: &mut Judge<'_>) -> (usize, Vec<String>) {
    error(it, Step::WrongToken, &[401], &["Invalid token signature"])
}

/// An error's status, shape and message. The message is compared without its IDs, and never shown.
fn error(it: &mut Judge<'_>, step: Step, statuses: &[u16], messages: &[&str]) -> (usize, Vec<String>) {
    let Judge { evidence, words, further } = it;
    of_answers(evidence, step, |answer| {
        let mut found = status(answer, statuses);
        let Some(json) = &answer.json else {
            found.push("the error is not JSON".into());
            return found;
        };
        found.extend(differences("the error", json, ERROR, words, further));
        if json["status"].is_u64() && json["status"] != answer.status {
            found.push("\"status\" of the error is not the status of the answer".into());
        }
        if let Some(message) = json["message"].as_str()
            && !messages.contains(&without_ids(message).as_str())
        {
            found.push(format!("the message has other words ({} long)", fields::class(message.len())));
        }
        found
    })
}

fn without_ids(message: &str) -> String {
    message.split(' ').map(|word| if is_id(word) { "{id}" } else { word }).collect::<Vec<_>>().join(" ")
}

fn of_answers(
    evidence: &Evidence,
    step: Step,
    mut judge: impl FnMut(&Answer) -> Vec<String>,
) -> (usize, Vec<String>) {
    let answers = evidence.of(step).filter_map(|outcome| outcome.as_ref().ok()).collect::<Vec<_>>();
    let found = answers.iter().flat_map(|answer| judge(answer)).collect();
    (answers.len(), found)
}

fn status(answer: &Answer, expected: &[u16]) -> Vec<String> {
    if expected.contains(&answer.status) {
        Vec::new()
    } else {
        vec![format!("the status is {}", answer.status)]
    }
}

fn content_type(answer: &Answer, expected: &str) -> Option<String> {
    let named = answer.headers.get("content-type").map(String::as_str).unwrap_or_default();
    let essence = named.split(';').next().unwrap_or_default().trim();
    match essence {
        essence if essence.eq_ignore_ascii_case(expected) => None,
        "" => Some("the header Content-Type is missing".into()),
        "text/plain" | "text/html" | "application/json" | "application/octet-stream" => {
            Some(format!("the content type is {essence}"))
        }
        _ => Some("the content type is another one".into()),
    }
}
