//! Generates docs/configuration.md from the schema.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::schema::{IGNORED, schema};

const HEAD: &str = "# Configuration reference\n\n\
    <!-- generated from the JSON Schema: UPDATE_EXPECTED=1 cargo test -p onecred the_reference_is_current -->\n";

/// The sections, in their order on the page.
const PARTS: [&str; 11] = [
    "Secret", "Rule", "Template", "Wave", "Escape", "Source", "Kind", "Defaults", "Publish", "Limits",
    "Audit",
];

fn reference(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    let _ = write!(page, "\n{}\n", text(schema, "description"));
    let _ = write!(page, "\nA minimal configuration:\n\n```json\n{:#}\n```\n", schema["examples"][0]);
    let _ = writeln!(
        page,
        "\nEvery object may have a comment, with the key `\"//\"`, and a `$schema`. Other unknown keys are errors."
    );
    keys(&mut page, schema);
    for part in PARTS {
        let schema = &schema["$defs"][part];
        let _ = write!(page, "\n## {part}\n\n{}\n", text(schema, "description"));
        keys(&mut page, schema);
        for value in
            schema["oneOf"].as_array().into_iter().flatten().filter(|value| value["const"].is_string())
        {
            let _ = write!(
                page,
                "\n- `{}`: {}",
                value["const"].as_str().unwrap_or_default(),
                text(value, "description")
            );
        }
        if schema["oneOf"][0]["const"].is_string() {
            page.push('\n');
        }
    }
    page
}

/// A table of an object's keys: required ones first.
fn keys(page: &mut String, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut keys: Vec<_> = properties.iter().filter(|(key, _)| !IGNORED.contains(&key.as_str())).collect();
    keys.sort_by_key(|(key, _)| required.iter().position(|known| known == key).unwrap_or(usize::MAX));
    page.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for (key, property) in keys {
        let default = match &property["default"] {
            Value::Null if required.contains(&key.as_str()) => "required".to_owned(),
            Value::Null => String::new(),
            default => code(default),
        };
        let mut meaning = text(property, "description").replace('|', "\\|");
        if let Some(example) = property["examples"].get(0).filter(|example| **example != property["default"])
        {
            let _ = write!(meaning, " Example: {}", code(example));
        }
        let _ = writeln!(page, "| `{key}` | {} | {default} | {meaning} |", kind(property));
    }
}

/// The type of a value, with a link to its section.
fn kind(property: &Value) -> String {
    let link = |target: &str| {
        let part = target.trim_start_matches("#/$defs/");
        format!("[{part}](#{})", part.to_lowercase())
    };
    if let Some(target) = property["anyOf"][0]["$ref"].as_str().or(property["$ref"].as_str()) {
        return link(target);
    }
    let named = match &property["type"] {
        Value::Array(several) => several[0].as_str(),
        one => one.as_str(),
    };
    match named.unwrap_or_default() {
        "array" => format!("list of {}", plural(kind(&property["items"]))),
        "object" => format!("map of {}", plural(kind(&property["additionalProperties"]))),
        "boolean" => "boolean".into(),
        "integer" => "number".into(),
        "string" => "string".into(),
        other => panic!("the reference has no name for the type {other:?}"),
    }
}

fn plural(kind: String) -> String {
    if kind == "string" { "strings".into() } else { kind }
}

fn code(value: &Value) -> String {
    let value = value.to_string().replace('|', "\\|");
    format!("`{value}`")
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema[key].as_str().unwrap_or_else(|| panic!("no {key}: {schema}"))
}

#[test]
fn the_reference_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let schema = schema();
    let current = reference(&schema);
    for (part, _) in schema["$defs"].as_object().expect("parts") {
        assert!(PARTS.contains(&part.as_str()), "the reference has no section {part}");
    }
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, &current).expect("written");
    }
    let published = fs::read_to_string(&file).unwrap_or_default();
    assert!(published == current, "run: UPDATE_EXPECTED=1 cargo test -p onecred the_reference_is_current");
}
