//! Validates a file against the schema: unknown and missing keys, and values of the wrong type. Invalid parts
//! are reported and omitted, so that the rest can be checked.

use serde_json::{Map, Value as Json, json};

use super::at::MARK;
use super::json::{JsonValue, Member, Node};
use super::problem::{Offset, Problems};
use super::schema::{IGNORED, marked};
use super::written::Written;

/// Converts the tree of a file to its type. `None` if no part of it can be used.
pub(super) fn read(file: usize, tree: &Node, problems: &mut Problems) -> Option<Written> {
    let root = marked();
    let value = Shape { root, file, problems }.value(tree, root, "the file")?;
    match serde_json::from_value(value) {
        Ok(written) => Some(written),
        Err(error) => {
            // The schema is generated from these types, so every value that it accepts can be converted.
            problems.error(Offset { file, byte: tree.byte }, format!("the file can't be read: {error}"), "");
            None
        }
    }
}

struct Shape<'a> {
    root: &'a Json,
    file: usize,
    problems: &'a mut Problems,
}

impl<'a> Shape<'a> {
    /// The value in the form of the types, with positions if the schema needs them. `label` describes it in
    /// messages ("`\"mode\"`").
    fn value(&mut self, node: &Node, schema: &'a Json, label: &str) -> Option<Json> {
        let (schema, mark) = self.resolve(schema);
        let before = self.problems.errors();
        let value = match (&node.value, wanted(schema)) {
            (JsonValue::Object(members), "object") => self.object(node, members, schema, label),
            (JsonValue::Array(nodes), "array") => {
                let label = format!("an entry of {label}");
                nodes.iter().filter_map(|entry| self.value(entry, &schema["items"], &label)).collect()
            }
            (JsonValue::Text(text), "string") => self.text(node, text, schema, label)?,
            (JsonValue::Bool(value), "boolean") => json!(value),
            (JsonValue::Number(number), "integer") if number.is_u64() => json!(number),
            (_, "any") => Json::Null,
            (_, kind) => {
                let what = format!("{label} must be {}, not {}", in_words(kind), found(&node.value));
                let example = schema["examples"].get(0).map(|example| format!("write for example {example}"));
                self.error(node.byte, what, example.unwrap_or_default());
                return None;
            }
        };
        let whole = self.problems.errors() == before;
        Some(if mark { vec![value, self.file.into(), node.byte.into(), whole.into()].into() } else { value })
    }

    /// Resolves `$ref` and `anyOf: [it, null]` of a schema, and returns whether a position is needed.
    fn resolve(&self, mut schema: &'a Json) -> (&'a Json, bool) {
        let mut mark = false;
        loop {
            mark |= schema[MARK] == true;
            let definition =
                schema["$ref"].as_str().and_then(|r| self.root.pointer(r.trim_start_matches('#')));
            schema = match definition.or_else(|| schema["anyOf"].get(0)) {
                Some(inner) => inner,
                None => return (schema, mark),
            };
        }
    }

    fn object(&mut self, node: &Node, members: &[Member], schema: &'a Json, label: &str) -> Json {
        let mut out = Map::new();
        let mut seen: Map<String, Json> = Map::new();
        for member in members.iter().filter(|m| !IGNORED.contains(&m.key.as_str())) {
            if let Some(first) = seen.get(&member.key).and_then(Json::as_u64) {
                let first = self.problems.show(Offset { file: self.file, byte: first as usize });
                self.error(
                    member.byte,
                    format!("the key {:?} appears twice", member.key),
                    format!("it is also at {first}; remove one"),
                );
                continue;
            }
            seen.insert(member.key.clone(), member.byte.into());
            let known = schema["properties"].get(&member.key);
            let Some(inner) =
                known.or_else(|| schema.get("additionalProperties").filter(|inner| inner.is_object()))
            else {
                self.unknown(member, schema, label);
                continue;
            };
            if member.value.value == JsonValue::Null && allows_null(inner) {
                continue; // ignore it
            }
            if let Some(value) = self.value(&member.value, inner, &format!("{:?}", member.key)) {
                out.insert(member.key.clone(), value);
            }
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !seen.contains_key(key) {
                let inner = &schema["properties"][key];
                let example =
                    inner["examples"].get(0).map(|example| format!("add it, for example {key:?}: {example}"));
                self.error(
                    node.byte,
                    format!("{label} has no {key:?}"),
                    example.unwrap_or_else(|| "add it".into()),
                );
            }
        }
        out.into()
    }

    fn text(&mut self, node: &Node, text: &str, schema: &Json, label: &str) -> Option<Json> {
        let words: Vec<&str> = match schema["oneOf"].as_array() {
            Some(variants) => variants.iter().filter_map(|variant| variant["const"].as_str()).collect(),
            None => return Some(json!(text)),
        };
        if words.contains(&text) {
            return Some(json!(text));
        }
        let remedy = match nearest(text, words.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("it can be {}", quoted(&words)),
        };
        self.error(node.byte, format!("{label} can't be {text:?}"), remedy);
        None
    }

    fn unknown(&mut self, member: &Member, schema: &Json, label: &str) {
        let keys: Vec<&str> =
            schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let remedy = match nearest(&member.key, keys.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("{label} can have {}; a comment goes under the key \"//\"", quoted(&keys)),
        };
        self.error(member.byte, format!("unknown key {:?}", member.key), remedy);
    }

    fn error(&mut self, byte: usize, what: String, remedy: String) {
        self.problems.error(Offset { file: self.file, byte }, what, remedy);
    }
}

fn wanted(schema: &Json) -> &str {
    match &schema["type"] {
        Json::String(kind) => kind,
        Json::Array(kinds) => {
            kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null").unwrap_or("any")
        }
        _ if schema["oneOf"].is_array() => "string",
        _ => "any",
    }
}

fn allows_null(schema: &Json) -> bool {
    let null = |schema: &Json| schema["type"] == "null";
    schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"))
        || schema["anyOf"].as_array().is_some_and(|options| options.iter().any(null))
}

fn in_words(kind: &str) -> &str {
    match kind {
        "object" => "an object in {}",
        "array" => "a list in []",
        "string" => "a string in double quotes",
        "boolean" => "true or false",
        _ => "a whole number",
    }
}

fn found(value: &JsonValue) -> &'static str {
    match value {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "true or false",
        JsonValue::Number(_) => "a number",
        JsonValue::Text(_) => "a string",
        JsonValue::Array(_) => "a list",
        JsonValue::Object(_) => "an object",
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// The most similar known key.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |word: &str| word.replace(['_', '-', ' '], "").to_lowercase();
    let given: String = plain(word).chars().take(64).collect();
    let begins = |candidate: &str| given.len() >= 3 && candidate.starts_with(&given);
    known
        .map(|candidate| (plain(candidate), candidate))
        .map(|(text, candidate)| {
            (if begins(&text) { 1 } else { strsim::osa_distance(&given, &text) }, candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4 && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
