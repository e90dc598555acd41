//! Tests of the schema, with an independent validator.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{from_text, json};
use super::*;
use crate::config::problem::Problems;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// An independent JSON Schema validator.
struct Validator(boon::Schemas, boon::SchemaIndex);

impl Validator {
    fn new(schema: &Value) -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("schema.json", schema.clone()).expect("a resource");
        let index = compiler.compile("schema.json", &mut schemas).expect("a valid schema");
        Self(schemas, index)
    }

    /// Validates a value. The error contains the position and the cause.
    fn judge(&self, instance: &Value) -> Result<(), String> {
        self.0.validate(instance, self.1).map_err(|error| format!("{error:#}"))
    }
}

fn files(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join("integration/fixtures/config").join(dir)).expect(dir);
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn read(file: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(file).expect("text")).ok()
}

#[test]
fn the_published_file_is_current() {
    let file = Path::new(ROOT).join("units/schema/secrets.schema.json");
    let current = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        fs::write(&file, &current).expect("written");
    }
    let published = fs::read_to_string(&file).unwrap_or_default();
    assert!(published == current, "run: onecred schema > units/schema/secrets.schema.json");
}

#[test]
fn good_files_are_valid() {
    let validator = Validator::new(&schema());
    for dir in ["good", "good/in-parts", "good/in-parts/secrets.d"] {
        for file in files(dir) {
            let verdict = validator.judge(&read(&file).expect("JSON"));
            assert_eq!(verdict, Ok(()), "{}", file.display());
        }
    }
}

#[test]
fn examples_of_the_schema_are_valid_and_can_be_loaded() {
    let validator = Validator::new(&schema());
    for example in schema()["examples"].as_array().expect("examples") {
        assert_eq!(validator.judge(example), Ok(()));
        from_text(Path::new("example"), &example.to_string()).expect("fine");
    }
    let secret = &schema()["$defs"]["Secret"]["examples"][0];
    assert_eq!(validator.judge(&json!({ "secrets": [secret] })), Ok(()));
    let rule = &schema()["$defs"]["Rule"]["examples"][0];
    assert_eq!(validator.judge(&json!({ "rules": [rule] })), Ok(()));
}

/// Files with valid structure, whose errors a schema cannot find.
const OF_RIGHT_SHAPE: [&str; 13] = [
    "names",
    "no-source-said",
    "references",
    "rules",
    "slips",
    "targets",
    "templates",
    "the-same-key-twice",
    "token-pasted",
    "too-long",
    "two-for-one-unit",
    "quantities",
    "sources",
];

#[test]
fn bad_shapes_are_invalid() {
    let validator = Validator::new(&schema());
    for file in files("bad") {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name");
        if let (Some(instance), false) = (read(&file), OF_RIGHT_SHAPE.contains(&name)) {
            assert!(validator.judge(&instance).is_err(), "{name}");
        }
    }
}

/// Whether onecred accepts the structure of a text.
fn shape_is_right(text: &str) -> bool {
    let mut problems = Problems::default();
    let file = problems.add_file(Path::new("x"), text.to_owned());
    let tree = json::parse(text).expect("JSON");
    super::super::shape::read(file, &tree, &mut problems);
    problems.errors() == 0
}

/// Changes one thing in each object and value of the valid files. onecred and the validator must agree.
#[test]
fn our_verdict_on_shapes_is_the_validators() {
    let mut plain = marked().clone(); // without patterns and rules between keys
    publish(&mut plain);
    strip(&mut plain);
    let validator = Validator::new(&plain);
    let mut wrong = 0;
    for file in files("good") {
        let whole = read(&file).expect("JSON");
        for pointer in pointers(&whole, String::new()) {
            for change in [
                json!(null),
                json!(true),
                json!(1),
                json!(1.5),
                json!("x"),
                json!([]),
                json!([1]),
                json!({}),
                json!({ "x": 1 }),
            ] {
                let mut changed = whole.clone();
                *changed.pointer_mut(&pointer).expect("there") = change.clone();
                let verdict = validator.judge(&changed);
                wrong += usize::from(verdict.is_err());
                assert_eq!(
                    shape_is_right(&changed.to_string()),
                    verdict.is_ok(),
                    "{pointer} = {change}: {verdict:?}"
                );
            }
        }
    }
    assert!(wrong > 300, "{wrong}");
}

fn pointers(value: &Value, at: String) -> Vec<String> {
    let inner: Vec<String> = match value {
        Value::Object(members) => members
            .iter()
            .filter(|(key, _)| !IGNORED.contains(&key.as_str()))
            .flat_map(|(key, value)| pointers(value, format!("{at}/{key}")))
            .collect(),
        Value::Array(entries) => entries
            .iter()
            .enumerate()
            .flat_map(|(index, value)| pointers(value, format!("{at}/{index}")))
            .collect(),
        _ => Vec::new(),
    };
    std::iter::once(at).chain(inner).collect()
}

fn strip(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            for keyword in ["pattern", "allOf", "minimum", "maximum", "dependentRequired"] {
                keywords.remove(keyword);
            }
            if keywords.get("properties").is_some() {
                keywords.remove("oneOf");
            }
            keywords.values_mut().for_each(strip);
        }
        Value::Array(entries) => entries.iter_mut().for_each(strip),
        _ => {}
    }
}
