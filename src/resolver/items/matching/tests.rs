//! Tests of the matching rules beyond the test vectors.

use serde_json::json;

use super::*;
use crate::domain::reference::Query;
use crate::resolver::items::model::parse;

fn segment(text: &str, by: MatchBy) -> Segment {
    Segment { text: text.into(), by }
}

fn item(json: serde_json::Value) -> FullItem {
    parse(json.to_string().as_bytes()).expect("an item")
}

fn find(item: &FullItem, path: &str, by: MatchBy) -> Result<String, Class> {
    let (section, field) = path.split_once('/').map_or((None, path), |(s, f)| (Some(s), f));
    let section = section.map(|s| segment(s, by));
    let wanted = FieldRef { section, field: segment(field, by), query: None::<Query> };
    match super::field(item, &wanted) {
        Ok(FieldMatch::Field(field)) => Ok(field.text().unwrap_or_default().to_owned()),
        Ok(FieldMatch::File(file)) => Ok(format!("file {}", file.id)),
        Err(failure) => Err(failure.class),
    }
}

#[test]
fn a_name_out_of_a_unit_never_picks_an_id() {
    let id = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
    let vault =
        |id: &str, name: &str| Vault { id: id.into(), name: name.into(), content_version: None, items: None };
    let vaults = [vault(id, "one"), vault("bbbbbbbbbbbbbbbbbbbbbbbbbb", id)];
    let named = |by| super::vault(&vaults, &segment(id, by), None).map(|v| v.name.clone()).expect("found");
    assert_eq!(named(MatchBy::TitleOrId), "one");
    assert_eq!(named(MatchBy::Title), id);
    assert!(still_means(&segment(id, MatchBy::TitleOrId), id, "renamed"));
    assert!(!still_means(&segment(id, MatchBy::Title), id, "renamed"));
    assert!(!still_means(&segment("short", MatchBy::TitleOrId), "short", "renamed"));

    let item = item(json!({"id": "i", "fields": [
        {"id": "password", "label": "secret of all", "value": "by id"},
        {"id": "x", "section": {"id": "s"}, "label": "password", "value": "by label"},
    ], "files": [{"id": "f1", "name": "a"}]}));
    assert_eq!(find(&item, "password", MatchBy::TitleOrId).as_deref(), Ok("by id"));
    assert_eq!(find(&item, "password", MatchBy::Title).as_deref(), Ok("by label"));
    assert_eq!(find(&item, "s/password", MatchBy::TitleOrId).as_deref(), Ok("by label"));
    assert_eq!(find(&item, "s/password", MatchBy::Title), Err(Class::NotFound));
    assert_eq!(find(&item, "f1", MatchBy::TitleOrId).as_deref(), Ok("file f1"));
    assert_eq!(find(&item, "f1", MatchBy::Title), Err(Class::NotFound));
}

#[test]
fn deleted_and_archived_items_are_neither_found_nor_in_the_way() {
    let item = |id: &str, state: Option<&str>| ItemOverview {
        id: id.into(),
        title: "same".into(),
        vault: None,
        version: None,
        state: state.map(str::to_owned),
    };
    let wanted = segment("Same", MatchBy::TitleOrId);
    let found =
        |items: &[ItemOverview]| super::item(items, "v", &wanted).map(|i| i.id.clone()).map_err(|f| f.class);
    assert_eq!(found(&[item("a", Some("DELETED")), item("b", None)]).as_deref(), Ok("b"));
    assert_eq!(found(&[item("a", Some("ARCHIVED")), item("b", None)]).as_deref(), Ok("b"));
    assert_eq!(found(&[item("a", Some("deleted"))]), Err(Class::NotFound));
    let archived = super::item(&[item("a", Some("ARCHIVED"))], "v", &wanted).err();
    assert!(archived.is_some_and(|f| f.class == Class::NotFound && f.cause.contains("only in the archive")));
}

#[test]
fn empty_names_match_nothing() {
    let item = item(json!({"id": "i", "fields": [{"id": "", "label": "", "value": "nameless"}]}));
    assert_eq!(find(&item, "", MatchBy::TitleOrId), Err(Class::NotFound));
    let nameless = [Vault { id: String::new(), name: String::new(), content_version: None, items: None }];
    assert!(vault(&nameless, &segment("", MatchBy::TitleOrId), None).is_err());
}

#[test]
fn sections_files_and_notes() {
    let item = item(json!({"id": "i",
        "sections": [{"id": "keys", "label": "Keys"}, {"id": "add more"}],
        "fields": [
            {"id": "notesPlain", "purpose": "NOTES", "value": "the note"},
            {"id": "n", "section": {"id": "keys"}, "label": "notes", "value": "a field"},
            {"id": "u", "section": {"id": "unlisted", "label": "Unlisted"}, "label": "u", "value": "in no list"},
            {"id": "e", "section": {"id": "add more"}, "label": "e", "value": "untitled"},
            {"id": "filefield", "section": {"id": "keys"}, "type": "FILE", "label": "tls.pem"},
            {"id": "lost", "type": "FILE", "label": "lost.pem"},
        ],
        "files": [
            {"id": "f1", "name": "tls.pem"},
            {"id": "f2", "name": "tls.pem", "section": {"id": "keys"}},
            {"id": "f3", "name": "two", "section": {"id": "keys"}},
            {"id": "f4", "name": "two", "section": {"id": "keys"}},
        ],
    }));
    let find = |path| find(&item, path, MatchBy::TitleOrId);
    assert_eq!(find("notesPlain").as_deref(), Ok("the note"));
    assert_eq!(find("notes").as_deref(), Ok("a field"), "a label goes before the other name of the note");
    assert_eq!(find("keys/notesPlain"), Err(Class::NotFound));
    assert_eq!(find("UNLISTED/u").as_deref(), Ok("in no list"));
    assert_eq!(find("/e").as_deref(), Ok("untitled"));
    assert_eq!(find("/u"), Err(Class::NotFound));
    assert_eq!(find("tls.pem").as_deref(), Ok("file f2"), "a field goes before a file");
    assert_eq!(find("lost.pem"), Err(Class::NotFound));
    assert_eq!(find("f1").as_deref(), Ok("file f1"));
    assert_eq!(find("two"), Err(Class::Several));
    assert_eq!(find("KEYS/two"), Err(Class::Several));
    assert_eq!(find("nowhere/two"), Err(Class::NotFound));
}

#[test]
fn what_is_missing_is_told_with_what_was_probably_meant() {
    let vault =
        |id: &str, name: &str| Vault { id: id.into(), name: name.into(), content_version: None, items: None };
    let vaults = [
        vault("itopsaaaaaaaaaaaaaaaaaaaaa", "IT/Ops"),
        vault("serversaaaaaaaaaaaaaaaaaaa", "Servers"),
        vault("schluesselaaaaaaaaaaaaaaaa", "Schlüssel"),
    ];
    let holders = Some("service accounts");
    let cases = [
        (
            "IT",
            holders,
            r#"no vault "IT"; "IT/Ops" has a / in its name"#,
            "write its ID instead: itopsaaaaaaaaaaaaaaaaaaaaa",
        ),
        ("it", None, r#"no vault "it"; "IT/Ops" has a / in its name"#, "its ID"),
        ("Server", holders, r#"no vault "Server"; the nearest is "Servers""#, "give the token access"),
        (
            "Schluessel",
            holders,
            "is \"Schlüssel\" (write its ID: schluesselaaaaaaaaaaaaaaaa)",
            "correct the reference",
        ),
        (
            "Private",
            holders,
            "service accounts cannot be granted access to Private, Personal and Employee vaults",
            "another vault",
        ),
        ("personal", holders, "cannot be granted access", "another vault"),
        ("EMPLOYEE", Some("Connect servers"), "Connect servers cannot be granted access", "another vault"),
        ("Private", None, r#"no vault "Private""#, "add that vault to the file"),
    ];
    for (name, holders, cause, remedy) in cases {
        let Err(failure) = super::vault(&vaults, &segment(name, MatchBy::TitleOrId), holders) else {
            panic!("{name}")
        };
        assert_eq!(failure.class, Class::NotFound);
        assert!(failure.cause.contains(cause) && failure.remedy.contains(remedy), "{name}: {failure}");
    }

    let item = |id: &str, title: &str, state: Option<&str>| ItemOverview {
        id: id.into(),
        title: title.into(),
        vault: None,
        version: None,
        state: state.map(str::to_owned),
    };
    let items = [
        item("appdbaaaaaaaaaaaaaaaaaaaaa", "app / db", None),
        item("appwebaaaaaaaaaaaaaaaaaaaa", "App/web", None),
        item("oldxaaaaaaaaaaaaaaaaaaaaaa", "old/x", Some("ARCHIVED")),
    ];
    let cases = [
        (
            "app",
            r#"no item "app" in vault "v"; "app / db" has a / in its name (and 1 more like it)"#,
            "write its ID instead: appdbaaaaaaaaaaaaaaaaaaaaa",
        ),
        ("old", r#"no item "old" in vault "v""#, "create the item"),
        ("db", r#"no item "db" in vault "v""#, "create the item"),
    ];
    for (title, cause, remedy) in cases {
        let Err(failure) = super::item(&items, "v", &segment(title, MatchBy::TitleOrId)) else {
            panic!("{title}")
        };
        assert!(failure.cause.starts_with(cause) && failure.remedy.contains(remedy), "{title}: {failure}");
    }
}

#[test]
fn a_field_that_is_not_there_is_told_with_those_that_are() {
    let item = item(json!({"id": "i", "title": "db", "fields": [
        {"id": "username", "label": "username", "value": "canary"},
        {"id": "p", "section": {"id": "s", "label": "Server"}, "label": "port", "value": "canary"},
    ]}));
    let told = |path: &str| {
        let (section, field) = path.split_once('/').map_or((None, path), |(s, f)| (Some(s), f));
        let section = section.map(|s| segment(s, MatchBy::TitleOrId));
        let wanted = FieldRef { section, field: segment(field, MatchBy::TitleOrId), query: None::<Query> };
        super::field(&item, &wanted).err().map(|failure| failure.to_string()).unwrap_or_default()
    };
    assert_eq!(
        told("prot"),
        "not found: no field \"prot\" in item \"db\", which has \"Server/port\", \"username\"; correct the reference, or add the field"
    );
    assert!(
        told("Sever/port")
            .starts_with("not found: no section \"Sever\" in item \"db\", which has \"Server/port\",")
    );
    assert!(told("/port").ends_with("write one slash instead of two: no section of it is without a title"));
}

#[test]
fn the_note_of_an_item_is_outside_its_sections() {
    let in_section = json!({"id": "x", "section": {"id": "s"}, "purpose": "NOTES", "value": "in a section"});
    let by_id = json!({"id": "notesPlain", "value": "by its ID"});
    let by_purpose = json!({"id": "y", "purpose": "NOTES", "value": "by its purpose"});
    let other = json!({"id": "z", "value": "another field"});
    for (fields, expected) in [
        (json!([in_section, other, by_id]), Ok("by its ID")),
        (json!([in_section, other, by_purpose]), Ok("by its purpose")),
        (json!([in_section, other]), Err(&Class::NotFound)),
    ] {
        let item = item(json!({"id": "i", "fields": fields}));
        assert_eq!(find(&item, "notes", MatchBy::TitleOrId).as_deref(), expected, "{fields}");
    }
}

#[test]
fn the_file_of_a_field() {
    for (field, file, found) in [
        (json!({"id": "f1"}), json!({"id": "f1", "name": "another"}), true),
        (json!({"id": "x", "value": "f1"}), json!({"id": "f1", "name": "another"}), true),
        (json!({"id": "x"}), json!({"id": "f1", "name": "TLS.pem"}), true),
        (json!({"id": "x"}), json!({"id": "f1", "name": "another"}), false),
        (json!({"id": "x"}), json!({"id": "", "name": "another"}), false),
        (json!({"id": "x"}), json!({"id": "f1", "name": "tls.pem", "section": {"id": "s"}}), false),
    ] {
        let mut field = field;
        (field["type"], field["label"]) = (json!("FILE"), json!("tls.pem"));
        let item = item(json!({"id": "i", "fields": [field], "files": [file]}));
        let result = find(&item, "tls.pem", MatchBy::TitleOrId);
        assert_eq!(result.is_ok_and(|file| file.starts_with("file ")), found, "{field} {file}");
    }
}

#[test]
fn the_nearest_name_is_suggested() {
    for (name, suggestion) in [
        ("Servers", "the nearest is \"Servers\""),
        ("Sèrver", "the nearest is \"Sèrver\" (write its ID: vault-id)"),
    ] {
        let vaults = [Vault { id: "vault-id".into(), name: name.into(), content_version: None, items: None }];
        let failure = vault(&vaults, &segment("Server", MatchBy::TitleOrId), None).err().expect("no match");
        assert_eq!(failure.cause, format!("no vault \"Server\"; {suggestion}"));
    }
}
