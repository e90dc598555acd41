//! The JSON Schema of a configuration file, made from the types of [`super::written`].

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::at::MARK;
use super::written::Written;

/// The schema as it is published, for editors and other tools.
pub fn schema() -> Value {
    let mut schema = marked().clone();
    publish(&mut schema);
    schema
}

/// The schema with [`MARK`] where a place is wanted.
pub(super) fn marked() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Written>().into()
    });
    &SCHEMA
}

/// The keys that every object may have besides its own, and that mean nothing to us.
pub(super) const IGNORED: [&str; 2] = ["$schema", "//"];

/// Takes the marks out, joins the lines of descriptions, and lets every object have the ignored keys.
fn publish(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            keywords.remove(MARK);
            if let Some(Value::String(text)) = keywords.get_mut("description") {
                *text = text
                    .split("\n\n")
                    .map(|paragraph| paragraph.replace('\n', " "))
                    .collect::<Vec<_>>()
                    .join("\n\n");
            }
            let object = keywords.get("type").is_some_and(|t| t == "object");
            keywords.values_mut().for_each(publish);
            if object {
                let properties = keywords.entry("properties").or_insert_with(|| json!({}));
                properties["$schema"] =
                    json!({ "description": "The schema of this file, for editors.", "type": "string" });
                properties["//"] = json!({ "description": "A comment." });
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(publish),
        _ => {}
    }
}

/// Which keys of a source go with which kind, in the schema's words.
pub(super) fn keys_of_kinds() -> Value {
    let without = |keys: &[&str]| -> Value {
        keys.iter()
            .map(|key| ((*key).to_owned(), json!({ "type": "null" })))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let of_kind = |kind: &str| json!({ "properties": { "kind": { "const": kind } }, "required": ["kind"] });
    let account = ["library", "librarySha256", "allowedHosts", "proxy", "budget", "hosts"];
    let besides = |keys: &[&'static str]| without(&[keys, account.as_slice()].concat());
    json!([
        { "if": of_kind("connect"), "then": { "required": ["url"], "properties": besides(&["path"]) } },
        { "if": of_kind("file"), "then": { "required": ["path"], "properties": besides(&["url", "insecure", "caFile", "token"]) } },
        { "if": { "not": { "anyOf": [of_kind("connect"), of_kind("file")] } }, "then": { "properties": without(&["url", "insecure", "path"]) } },
    ])
}

#[cfg(test)]
mod tests;
