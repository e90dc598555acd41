use proptest::prelude::*;

use super::*;
use crate::domain::template::{Form, Template};

fn import(text: &str) -> (String, Vec<String>) {
    let Imported { json, mut notes } = import_op_env(Path::new("/srv/app/.env"), text);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let template = &json["templates"][0];
    assert_eq!((template["name"].as_str(), template["escape"].as_str()), (Some("app.env"), Some("env")));
    assert!(notes.pop().unwrap().contains("\"units\""));
    (template["content"].as_str().unwrap().to_owned(), notes)
}

#[test]
fn lines_become_lines_of_a_template() {
    for (line, expected) in [
        ("A=op://v/i/f", "A={{op://v/i/f}}"),
        ("A = op://My Vault/i/s/f ", "A={{op://My Vault/i/s/f}}"),
        ("export A=\"op://v/i/f\" # why", "A={{op://v/i/f}}"),
        ("A='op://v/i/f?attribute=otp'", "A={{op://v/i/f?attribute=otp}}"),
        ("A=op://My%20Vault/i/f", "A={{op://My Vault/i/f}}"),
        ("A={{ op://v/i/f }}", "A={{op://v/i/f}}"),
        ("A=postgres://u:op://v/i/f@host", "A=postgres://u:{{op://v/i/f}}@host"),
        ("A={op://v/i/f}", "A=\"{{\"{\"}}{{op://v/i/f}}}\""),
        ("A=plain # comment", "A=plain"),
        ("A=pl#ain", "A=\"pl#ain\""),
        ("A=\"two\\nlines $B \\\"q\\\"\"", "A=\"two\nlines \\$B \\\"q\\\"\""),
        ("A='a $B `c`'", "A=\"a \\$B \\`c\\`\""),
        ("A=a{{b", "A=\"a{{{{b\""),
        ("A=", "A="),
        ("# see op://v/i/f", "# see {{\"op://\"}}v/i/f"),
        ("  #c\\", "# c\\ ."),
        ("", ""),
    ] {
        let (content, _) = import(line);
        assert_eq!(content, if line.is_empty() { String::new() } else { format!("{expected}\n") }, "{line}");
        assert!(Template::parse(&content, Form::Env).is_ok(), "{content}");
    }
    let (content, notes) = import("A=1\r\nB=\"2\n3\"\r\n\nC=op://v/i/f");
    assert_eq!((content.as_str(), notes.len()), ("A=1\nB=\"2\n3\"\n\nC={{op://v/i/f}}\n", 0));
}

#[test]
fn what_cannot_be_converted_is_named() {
    for (line, note) in [
        ("A=op://${ENV}/i/f", "line 2: A: the reference has the variable ${ENV}, which is not convertible"),
        ("A=op://v/$ITEM/f", "line 2: A: the reference has the variable $ITEM, which is not convertible"),
        ("A=op://v/i", "line 2: A: \"op://v/i\" is not a secret reference"),
        ("a.b=op://v/i/f", "line 2: a.b: systemd does not accept this variable name"),
        ("A", "line 2: a line without a ="),
        ("A=\"b", "line 2: A: a quote is not closed"),
        ("A=\"b\" c", "line 2: A: there is text after the closing quote"),
    ] {
        let (content, notes) = import(&format!("# first\n{line}\nB=1"));
        assert!(notes.len() == 1 && notes[0].starts_with(note), "{line}: {notes:?}");
        assert!(content.starts_with("# first\n# ") && content.ends_with("\nB=1\n"), "{content}");
        assert!(Template::parse(&content, Form::Env).is_ok(), "{content}");
    }
    let (content, notes) = import("A=${HOME}/x");
    assert_eq!(content, "A=\"\\${HOME}/x\"\n");
    assert_eq!(notes, ["line 1: A: the variable ${HOME} is not convertible, and stays unchanged"]);
    assert!(import("A='$5'").1.is_empty() && import("A=5$").1.is_empty());
}

#[test]
fn the_template_is_named_after_the_file() {
    for (file, expected) in [
        ("prod.env", "prod.env"),
        (".env", "app.env"),
        ("/srv/web/.env", "web.env"),
        (".env.production", "production.env"),
        ("my secrets.txt", "my-secrets.txt.env"),
        ("", "app.env"),
    ] {
        assert_eq!(name(Path::new(file)), expected, "{file:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_imported_is_a_template(text in "(A=|B=|op://v/i/f|[{}\"'#\\\\$` \n\r=x;.]){0,16}") {
        let (content, _) = import(&text);
        prop_assert!(Template::parse(&content, Form::Env).is_ok(), "{:?}: {:?}", text, content);
    }
}
