//! The keys of each type of source, as JSON Schema.

use serde_json::{Value, json};

/// A schema that restricts the keys of a source by its type.
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
        { "if": of_kind("file"), "then": { "required": ["path"], "properties": besides(&["url", "insecure", "connectUsers", "caFile", "token"]) } },
        { "if": { "not": { "anyOf": [of_kind("connect"), of_kind("file")] } }, "then": { "properties": without(&["url", "insecure", "connectUsers", "path"]) } },
    ])
}
