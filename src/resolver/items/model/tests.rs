//! Tests of parsing whatever a server may send.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const FIXTURE: &[u8] = include_bytes!("../../../../integration/fixtures/vault.json");

fn items() -> Vec<serde_json::Value> {
    let document: serde_json::Value = serde_json::from_slice(FIXTURE).expect("JSON");
    document["vaults"][0]["items"].as_array().expect("items").clone()
}

#[test]
fn unknown_kinds_extra_keys_and_nulls_are_taken() {
    let item = json!({
        "id": "i", "title": null, "vault": null, "version": null, "state": null, "tags": null, "category": "WHAT",
        "sections": null, "files": null, "hologram": [{}],
        "fields": [{"id": "f", "type": "WHAT", "purpose": null, "label": null, "value": null, "entropy": 1.5, "section": null}],
    });
    let item: FullItem = parse(item.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((item.fields.len(), item.files.len()), (1, 0));
    assert!(parse::<FullItem>(br#"{"id": "i"}"#).is_ok());
    assert!(parse::<Vec<Vault>>(br#"[{"id": "v", "name": null, "type": "WHAT", "items": 3}]"#).is_ok());
}

#[test]
fn what_is_malformed_is_told_by_its_place_alone() {
    let deep = format!(r#"{{"id": "i", "fields": [{{"value": {}"#, r#"{"canary":"#.repeat(500));
    let cases = [
        ("", "it ends early (line 1, column 0)"),
        (r#"{"id": "canary"#, "it ends early (line 1, column 14)"),
        ("<html>canary</html>", "it is not JSON (line 1, column 1)"),
        (r#"{"id": {"canary": 1}}"#, "its structure is not that of a Connect response (line 1, column 7)"),
        (
            r#"{"id": "i", "fields": "canary"}"#,
            "its structure is not that of a Connect response (line 1, column 30)",
        ),
        (
            r#"{"id": "i", "version": "canary"}"#,
            "its structure is not that of a Connect response (line 1, column 31)",
        ),
        (r#"{"id": "i", "id": "canary"}"#, "it contains a key twice (line 1, column 16)"),
        (
            r#"{"id": "i", "fields": [{"value": "canary", "value": "other"}]}"#,
            "it contains a key twice (line 1, column 50)",
        ),
        (
            r#"{"id": "i", "fields": [{"value": {"canary": "a", "canary": "b"}}]}"#,
            "it contains a key twice (line 1, column 57)",
        ),
        (r#"{"id": "i"} canary"#, "it is not JSON (line 1, column 13)"),
        (
            r#"{"title": "canary"}"#,
            "its structure is not that of a Connect response: \"id\" is missing (line 1, column 19)",
        ),
        (&deep, "it is nested too deeply (line 1, column 1274)"),
    ];
    for (text, expected) in cases {
        let error = parse::<FullItem>(text.as_bytes()).err().unwrap_or_else(|| panic!("{text}"));
        assert!(!error.contains("canary"), "{error}");
        assert_eq!(error, expected, "{text}");
    }
    let error = parse::<FullItem>(b"{\"id\": \"i\", \"unknown\": \"\xff\"}").err();
    assert_eq!(error.as_deref(), Some("it is not UTF-8"));
}

proptest! {
    #[test]
    fn no_mutation_of_an_item_panics(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
            byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut json = which.get(&items()).to_string().into_bytes();
        let place = at.index(json.len());
        json[place] = byte;
        let _ = parse::<FullItem>(&json);
        json.truncate(cut.index(json.len()));
        let _ = parse::<FullItem>(&json);
    }

    #[test]
    fn no_shape_of_a_value_panics(text in r#"[\[\]{}:,"a0-9\\ ntrue.e+-]{0,60}"#) {
        let _ = parse::<FullItem>(format!(r#"{{"id": "i", "fields": [{{"value": {text}}}]}}"#).as_bytes());
    }
}
