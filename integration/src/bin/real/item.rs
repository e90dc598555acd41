//! An item in a form that both sources share: its fields and where they are. The types do not implement
//! `Debug`, because they contain secrets.

use serde_json::Value;

/// The section of a field or file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) id: String,
    pub(crate) label: String,
}

/// The value of a field.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// Missing or null.
    Absent,
    Text(String),
    /// An object, as for addresses.
    Parts,
    /// A number, a list or a boolean.
    Other,
}

/// A field.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) kind: String,
    pub(crate) purpose: String,
    pub(crate) section: Option<Section>,
    pub(crate) held: Held,
    /// The current code of a one-time password.
    pub(crate) code: Option<String>,
}

/// A file.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) section: Option<Section>,
    pub(crate) size: Option<u64>,
}

/// An item.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) is_active: bool,
    pub(crate) fields: Vec<Field>,
    pub(crate) files: Vec<File>,
}

impl Held {
    fn of(value: &Value) -> Held {
        match value {
            Value::Null => Held::Absent,
            Value::String(text) => Held::Text(text.clone()),
            Value::Object(_) => Held::Parts,
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => Held::Other,
        }
    }

    /// The text; empty if the value is missing.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Held::Absent => Some(""),
            Held::Text(text) => Some(text),
            Held::Parts | Held::Other => None,
        }
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The elements of a list; empty for anything else.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn section(sections: &Value, id: &str, label_key: &str) -> Option<Section> {
    let listed = list(sections).iter().find(|section| section["id"] == id);
    let label = listed.map(|section| text(&section[label_key])).unwrap_or_default();
    (!id.is_empty()).then(|| Section { id: id.to_owned(), label })
}

impl Item {
    /// Parses an item of Connect.
    pub(crate) fn of_connect(json: &Value) -> Item {
        let within = |thing: &Value| section(&json["sections"], &text(&thing["section"]["id"]), "label");
        let field = |field: &Value| Field {
            id: text(&field["id"]),
            label: text(&field["label"]),
            kind: text(&field["type"]),
            purpose: text(&field["purpose"]),
            section: within(field),
            held: Held::of(&field["value"]),
            code: field["totp"].as_str().map(str::to_owned),
        };
        let file = |file: &Value| File {
            id: text(&file["id"]),
            name: text(&file["name"]),
            section: within(file),
            size: file["size"].as_u64(),
        };
        Item {
            id: text(&json["id"]),
            title: text(&json["title"]),
            is_active: json["state"].is_null(),
            fields: list(&json["fields"]).iter().map(field).collect(),
            files: list(&json["files"]).iter().map(file).collect(),
        }
    }

    /// Parses an item of the SDK core, whose note is not among its fields.
    pub(crate) fn of_core(json: &Value) -> Item {
        let within = |id: &Value| section(&json["sections"], &text(id), "title");
        let field = |field: &Value| Field {
            id: text(&field["id"]),
            label: text(&field["title"]),
            kind: text(&field["fieldType"]),
            purpose: String::new(),
            section: within(&field["sectionId"]),
            held: Held::of(&field["value"]),
            code: field["details"]["content"]["code"].as_str().map(str::to_owned),
        };
        let note = Field {
            id: "notesPlain".into(),
            label: "notesPlain".into(),
            kind: "Text".into(),
            purpose: "NOTES".into(),
            section: None,
            held: Held::of(&json["notes"]),
            code: None,
        };
        let file = |attributes: &Value, section: Option<Section>| File {
            id: text(&attributes["id"]),
            name: text(&attributes["name"]),
            section,
            size: attributes["size"].as_u64(),
        };
        let attached = list(&json["files"]).iter().map(|f| file(&f["attributes"], within(&f["sectionId"])));
        let document = Some(&json["document"]).filter(|document| document.is_object());
        Item {
            id: text(&json["id"]),
            title: text(&json["title"]),
            is_active: true, // the core returns only active items
            fields: list(&json["fields"]).iter().map(field).chain([note]).collect(),
            files: attached.chain(document.map(|document| file(document, None))).collect(),
        }
    }
}
