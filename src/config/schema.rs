//! The JSON Schema of a configuration file, generated from the types of [`super::written`].

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::at::MARK;
use super::written::Written;

/// The published schema, for editors and other tools.
pub fn schema() -> Value {
    let mut schema = marked().clone();
    publish(&mut schema);
    schema
}

/// The schema with [`MARK`] for values whose position is needed.
pub(super) fn marked() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Written>().into()
    });
    &SCHEMA
}

/// Keys that every object may have, and that onecred ignores.
pub(super) const IGNORED: [&str; 2] = ["$schema", "//"];

/// Removes the marks, joins the lines of descriptions, and adds the ignored keys to all objects.
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

#[cfg(test)]
mod tests;
