//! The shape of an object: its required and optional keys, and the types of their values.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::words::Words;

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Text,
    /// 26 characters of a-z and 0-9.
    Id,
    /// A time such as `2023-11-14T22:13:20Z`.
    Time,
    Count,
    Number,
    Truth,
    List,
    Object,
    /// An object with an `id` that is an ID.
    WithId,
    Anything,
}

/// A key: whether it is required, and the type of its value.
pub(crate) type Key = (&'static str, bool, Holds);

/// The differences between an object and a shape. Null counts as missing. Unknown keys go to `further`,
/// because a newer server may have more.
pub(crate) fn differences(
    what: &str,
    json: &Value,
    shape: &[Key],
    words: &Words,
    further: &mut BTreeSet<String>,
) -> Vec<String> {
    let Some(object) = json.as_object() else {
        return vec![format!("{what} is {}, not an object", name_of(json))];
    };
    let mut found = Vec::new();
    for (key, required, holds) in shape {
        match object.get(*key).filter(|value| !value.is_null()) {
            None if *required => found.push(format!("{what} has no {key:?}")),
            None => {}
            Some(value) if !fits(value, *holds) => {
                found.push(format!("{key:?} of {what} is {}, not {}", name_of(value), named(*holds)));
            }
            Some(_) => {}
        }
    }
    for key in object.keys().filter(|key| shape.iter().all(|(known, ..)| known != key)) {
        further.insert(format!("{what}: {}", words.show(key)));
    }
    found
}

fn fits(value: &Value, holds: Holds) -> bool {
    match holds {
        Holds::Text => value.is_string(),
        Holds::Id => value.as_str().is_some_and(is_id),
        Holds::Time => value.as_str().is_some_and(is_time),
        Holds::Count => value.is_u64(),
        Holds::Number => value.is_number(),
        Holds::Truth => value.is_boolean(),
        Holds::List => value.is_array(),
        Holds::Object => value.is_object(),
        Holds::WithId => value["id"].as_str().is_some_and(is_id),
        Holds::Anything => true,
    }
}

pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_time(text: &str) -> bool {
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    let Some((date, time)) = text.split_once('T') else { return false };
    let date = date.split('-').collect::<Vec<_>>();
    let is_date =
        matches!(*date, [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2));
    is_date && time.len() >= 9 && digits(&time[..2], 2) && time.as_bytes()[2] == b':'
}

/// The JSON type of a value.
fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn named(holds: Holds) -> &'static str {
    match holds {
        Holds::Text => "a string",
        Holds::Id => "an ID of 26 characters",
        Holds::Time => "a time",
        Holds::Count => "a number without sign",
        Holds::Number => "a number",
        Holds::Truth => "true or false",
        Holds::List => "a list",
        Holds::Object => "an object",
        Holds::WithId => "an object with an ID",
        Holds::Anything => "anything",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHAPE: &[Key] = &[
        ("id", true, Holds::Id),
        ("name", true, Holds::Text),
        ("at", false, Holds::Time),
        ("count", false, Holds::Count),
        ("in", false, Holds::WithId),
    ];

    fn differ(json: Value) -> (Vec<String>, Vec<String>) {
        let mut further = BTreeSet::new();
        let found = differences("a thing", &json, SHAPE, &Words::default(), &mut further);
        (found, further.into_iter().collect())
    }

    #[test]
    fn shapes() {
        let id = "abcdefghijklmnopqrstuvwxyz";
        let good =
            json!({ "id": id, "name": "", "at": "2023-11-14T22:13:20.123Z", "count": 0, "in": { "id": id } });
        assert_eq!(differ(good), (vec![], vec![]));
        assert_eq!(
            differ(json!({ "id": id, "name": "n", "count": null, "more": 1 })),
            (vec![], vec!["a thing: more".into()])
        );
        for (json, expected) in [
            (json!([]), "a thing is a list, not an object"),
            (json!({ "id": id }), r#"a thing has no "name""#),
            (json!({ "id": id, "name": 1 }), r#""name" of a thing is a number, not a string"#),
            (
                json!({ "id": "Secret", "name": "" }),
                r#""id" of a thing is a string, not an ID of 26 characters"#,
            ),
            (
                json!({ "id": id, "name": "", "at": "yesterday" }),
                r#""at" of a thing is a string, not a time"#,
            ),
            (
                json!({ "id": id, "name": "", "count": "1" }),
                r#""count" of a thing is a string, not a number without sign"#,
            ),
            (
                json!({ "id": id, "name": "", "count": -1 }),
                r#""count" of a thing is a number, not a number without sign"#,
            ),
            (
                json!({ "id": id, "name": "", "in": {} }),
                r#""in" of a thing is an object, not an object with an ID"#,
            ),
        ] {
            assert_eq!(differ(json.clone()).0, [expected], "{json}");
        }
    }
}
