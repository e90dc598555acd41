//! Tests of label lists.

use serde_json::json;

use super::*;
use crate::domain::reference::Reference;
use crate::resolver::items::matching;
use crate::resolver::items::model::parse;

fn item(json: serde_json::Value) -> FullItem {
    parse(json.to_string().as_bytes()).expect("an item")
}

fn wanted(path: &str) -> FieldRef {
    Reference::parse(&format!("op://v/i/{path}")).expect("a reference").field
}

#[test]
fn labels_as_they_are_and_as_they_are_written() {
    let login = item(json!({"id": "i", "title": "db", "fields": [
        {"id": "username", "label": "username", "value": "canary"},
        {"id": "password", "label": "password", "type": "CONCEALED", "value": "canary"},
        {"id": "p", "section": {"id": "s", "label": "Server"}, "label": "port", "value": "canary"},
        {"id": "n", "section": {"id": "add more"}, "label": "region", "value": "canary"},
        {"id": "notesPlain", "purpose": "NOTES", "label": "notesPlain", "value": ""},
    ], "files": [{"id": "f1", "name": "tls.pem", "content": "canary"}]}));
    let odd = item(json!({"id": "i", "fields": [
        {"id": "k1", "label": "API key (prod)", "value": "canary"},
        {"id": "u1", "label": "user/name", "value": "canary"},
        {"id": "t1", "section": {"id": "s1", "label": "Schlüssel"}, "label": "token", "value": "canary"},
        {"id": "x1", "label": "", "value": "canary"},
        {"id": "", "label": "", "value": "canary"},
        {"id": "d1", "label": "twice", "value": "canary"},
        {"id": "d2", "label": "Twice", "value": "canary"},
        {"id": "c\u{7}", "label": "a\nb", "value": "canary"},
    ]}));
    let none = item(json!({"id": "i", "fields": []}));
    let cases = [
        (&login, "passwort", r#"which has "password", "Server/port", "region", "tls.pem", "username""#),
        (&login, "Server/prot", r#"which has "Server/port", "region", "password", "username", "tls.pem""#),
        (
            &odd,
            "twice",
            r#"which has "twice" (write: d1), "Twice" (write: d2), "user/name" (write: u1), "Schlüssel/token" (write: s1/token), "x1", "a\nb", "API key (prod)" (write: k1)"#,
        ),
        (
            &odd,
            "user/name",
            r#"which has "user/name" (write: u1), "a\nb", "Schlüssel/token" (write: s1/token), "x1", "twice" (write: d1), "Twice" (write: d2), "API key (prod)" (write: k1)"#,
        ),
        (&none, "f", "which has no fields"),
    ];
    let wrong = cases.map(|(item, path, expected)| (path, of(item, &wanted(path)), expected));
    let wrong: Vec<_> = wrong.into_iter().filter(|(_, list, expected)| list != expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_message_stays_short_whatever_the_labels_are() {
    let long = "x".repeat(5_000);
    let labels: [(&str, &dyn Fn(usize) -> String); 4] = [
        ("short", &|i| format!("label {i}")),
        ("long", &|i| format!("{i}{long}")),
        ("of controls", &|i| format!("{i}{}", "\u{1b}[31m\u{202e}\n".repeat(40))),
        ("of wide characters", &|i| format!("{i}{}", "鍵".repeat(90))),
    ];
    for (what, label) in labels {
        let fields: Vec<_> = (0..500)
            .map(|i| json!({"id": "", "section": {"id": "s", "label": long}, "label": label(i), "value": "canary"}))
            .chain((0..500).map(|i| json!({"id": "", "label": label(i), "value": "canary"})))
            .collect();
        let item = item(json!({"id": "i", "title": long, "fields": fields}));
        let list = of(&item, &wanted("nothing"));
        assert!(list.len() <= MOST_BYTES + 40, "{what}: {} bytes", list.len());
        assert!(
            list.matches("\", \"").count() < MOST && list.contains(" more") | list.contains(" others"),
            "{what}: {list}"
        );
        let Err(failure) = matching::field(&item, &wanted(&"n".repeat(900))) else { panic!("found") };
        let said = failure.to_string();
        assert!(!said.contains("canary") && !said.chars().any(char::is_control), "{said}");
        assert_eq!(failure.clone().sanitized(), failure, "nothing of it is cut on the wire");
    }
}

#[test]
fn names_in_quotes() {
    assert_eq!(quoted("db"), "\"db\"");
    assert_eq!(quoted(""), "\"\"");
    assert_eq!(quoted("a\"b\n"), r#""a\"b\n""#);
    let long = quoted(&"ü".repeat(60));
    assert_eq!(long, format!("\"{}\"…", "ü".repeat(50)));
}
