//! Tests of the JSON parser: it accepts the same texts as serde_json.

use super::*;
use proptest::prelude::*;

fn plain(node: &Node) -> serde_json::Value {
    match &node.value {
        JsonValue::Null => serde_json::Value::Null,
        JsonValue::Bool(value) => (*value).into(),
        JsonValue::Number(number) => number.clone().into(),
        JsonValue::Text(text) => text.clone().into(),
        JsonValue::Array(nodes) => nodes.iter().map(plain).collect(),
        JsonValue::Object(members) => members.iter().map(|m| (m.key.clone(), plain(&m.value))).collect(),
    }
}

fn same_as_serde_json(text: &str) -> Result<(), TestCaseError> {
    let theirs = serde_json::from_str::<serde_json::Value>(text).ok();
    prop_assert_eq!(parse(text).ok().as_ref().map(plain), theirs, "{}", text);
    Ok(())
}

#[test]
fn places_and_twice_the_same_key() {
    let node = parse(" {\"a\": [1, \"\\ud83d\\ude00\"], \"a\": null}").expect("valid");
    let JsonValue::Object(members) = &node.value else { panic!("{node:?}") };
    assert_eq!((node.byte, members[0].byte, members[1].byte), (1, 2, 28));
    let JsonValue::Array(entries) = &members[0].value.value else { panic!("{node:?}") };
    assert_eq!((entries[0].byte, entries[1].byte), (8, 11));
    assert_eq!(entries[1].value, JsonValue::Text("😀".into()));
}

#[test]
fn mistakes_are_told_with_a_remedy() {
    let told = |text: &str| {
        let mistake = parse(text).expect_err(text);
        format!("{}: {}; {}", mistake.byte, mistake.what, mistake.remedy)
    };
    for (text, words) in [
        ("", "0: the file is empty"),
        ("{\"a\": 1,}", "7: a comma at the end of an object"),
        ("[1, 2", "0: a list is not closed"),
        ("{\"a\" 1}", "5: expected a : after the key, found '1'"),
        ("{\"a\": 1 \"b\": 2}", "8: a comma is missing"),
        ("{ // no\n}", "JSON has no comments"),
        ("{'a': 1}", "1: expected a key, found '\\''; strings and keys need double quotes"),
        ("\u{feff}{}", "byte order mark"),
        ("{} {}", "3: expected the end of the file, found '{'"),
        ("[\"a\nb\"]", "1: a string is not closed on its line"),
        ("[\"\\ud83d\"]", "1: invalid value"),
        ("[01]", "1: invalid value"),
        ("[1x]", "1: invalid value"),
        ("[nulll]", "5: expected a comma or ] in a list, found 'l'"),
    ] {
        assert!(told(text).contains(words), "{text:?}: {}", told(text));
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for text in ["[".repeat(1_000_000), "{\"a\":".repeat(1_000_000)] {
        assert!(parse(&text).expect_err("too deep").what.contains("too deep"));
    }
}

proptest! {
    #[test]
    fn whatever_is_no_json_is_none(text in r#"([\[\]{},:"\\ 0-9.eEu+-]|true|null|"a"|\PC){0,12}"#) {
        same_as_serde_json(&text)?;
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it(seed in proptest::collection::vec(any::<(u8, String)>(), 1..20)) {
        let value = seed.iter().fold(serde_json::Value::Null, |inner, (kind, text)| match kind % 5 {
            0 => serde_json::json!({ text.as_str(): inner, "b": text }),
            1 => serde_json::json!([inner, kind, text]),
            2 => serde_json::json!([inner, f64::from(*kind) / 7.0]),
            3 => serde_json::json!({ "a": true, text.as_str(): inner }),
            _ => serde_json::json!([text, inner]),
        });
        same_as_serde_json(&value.to_string())?;
        same_as_serde_json(&format!("{value:#}"))?;
    }
}
