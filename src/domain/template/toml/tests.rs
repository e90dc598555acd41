use ::toml::Value;
use proptest::prelude::*;

use super::super::Template;
use super::*;
use crate::domain::secret::SecretValue;

/// Represents a value in a sample.
const MARK: &str = "\u{e000}";

fn fill(template: &Template, value: &str) -> String {
    let values: Vec<_> = template.names.iter().map(|_| SecretValue::new(value.as_bytes().to_vec())).collect();
    String::from_utf8(template.fill(&values).expect("fits").expose().to_vec()).expect("text")
}

fn read(text: &str) -> Result<Value, ::toml::de::Error> {
    ::toml::from_str(text)
}

fn replaced(read: Value, value: &str) -> Value {
    match read {
        Value::String(text) => Value::String(text.replace(MARK, value)),
        Value::Array(all) => Value::Array(all.into_iter().map(|one| replaced(one, value)).collect()),
        Value::Table(all) => Value::Table(
            all.into_iter().map(|(key, one)| (key.replace(MARK, value), replaced(one, value))).collect(),
        ),
        other => other,
    }
}

/// Checks that a parser reads the value wherever it reads the mark. Also succeeds if the text is not a
/// template or not TOML.
fn is_read_back(text: &str, value: &str) -> Result<(), TestCaseError> {
    let Ok(template) = Template::parse(text, Form::Toml) else { return Ok(()) };
    let sample = fill(&template, MARK);
    let Ok(sample) = read(&sample) else { return Ok(()) };
    let filled = fill(&template, value);
    match read(&filled) {
        Ok(found) => prop_assert_eq!(found, replaced(sample, value), "{}", filled),
        Err(error) if error.to_string().contains("duplicate") => {}
        Err(error) => prop_assert!(false, "{}: {}", error, filled),
    }
    Ok(())
}

#[test]
fn a_value_is_one_string() {
    for text in [
        "k = {{v}}",
        "k = {{v}} # comment\nl = 1",
        "k = \"a {{v}} b\"",
        "[t]\nk = [\n  {{v}},\n  \"a\", # c\n  {{v}}\n]\n[[u]]\nl = { a = {{v}}, b = 1 }",
        "k = \"\"\"\na \"\" {{v}}\n\"\"\"\nl = {{v}}",
        "k = '''\n\"\n'''\nl = {{v}}",
        "k = 'it \"is'\nl = {{v}}",
        "k = \"\\\"\"\nl = {{v}}",
        "k = \"\"\nl = \"{{v}}\"",
    ] {
        let template = Template::parse(text, Form::Toml).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let sample = fill(&template, MARK);
        read(&sample).unwrap_or_else(|error| panic!("{sample}: {error}"));
        for value in [
            "a = b",
            "[x]",
            "#",
            "\"",
            "\"\"\"",
            "'",
            "\\",
            "true",
            "12",
            " two\nlines ",
            "",
            "\u{85}\u{7f}\0\u{feff}",
        ] {
            is_read_back(text, value).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn places_in_which_a_value_would_not_stay_one_string_are_mistakes() {
    for (text, word) in [
        ("k = a{{v}}", "not a complete value"),
        ("k = {{v}}b", "not a complete value"),
        ("k = {{v}}{{w}}", "not a complete value"),
        ("k = {{v}} {{w}}", "not a complete value"),
        ("{{v}} = 1", "not a complete value"),
        ("[{{v}}]", "not a complete value"),
        ("k = [1]\n[{{v}}]", "not a complete value"),
        ("k =\n{{v}}", "not a complete value"),
        ("k = a[\n{{v}}", "not a complete value"),
        ("k = '{{v}}'", "single quotes"),
        ("k = '''\n'{{v}}'''", "single quotes"),
        ("k = '''\n{{v}}'''", "single quotes"),
        ("k = \"\\{{v}}\"", "behind a \\"),
        ("k = 1 # {{v}}", "a comment"),
        ("k = {{v | yaml}}", "a TOML file"),
    ] {
        let mistakes = Template::parse(text, Form::Toml).expect_err(text);
        assert!(mistakes[0].what.contains(word), "{text}: {mistakes:?}");
    }
    let raw = Template::parse("k = {{v | raw}}", Form::Toml).expect("a template");
    assert_eq!(fill(&raw, "1"), "k = 1");
}

fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[a-f] = (\\{\\{v\\}\\}|\"x\\{\\{v\\}\\}y\"|'x\"'|\\[1, \\{\\{v\\}\\}\\]|\\[\\{\\{v\\}\\},|\"\"\"|'''|\\{ a = \\{\\{v\\}\\} \\})( # c)?",
        "(\\{\\{v\\}\\},?|\"\\{\\{v\\}\\}\"|x|it's|\"|\"\"\"|'''|\\]|\\[t\\]|\\[\\[u\\]\\]|# c|)",
    ];
    prop::collection::vec(line, 1..7).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn a_parser_reads_back_the_value_in_files(text in lines(), value in "(\\PC|[\\\\\"'#=\n\t\r\u{1}\0 \\[]){0,8}") {
        is_read_back(&text, &value)?;
    }

    #[test]
    fn a_parser_reads_back_the_value_in_any_text(text in "(\\{\\{v\\}\\}|k = |l=|\n|[ab=#\\[\\]{},\"'\\\\ ]){0,16}", value in "(\\PC|[\\\\\"'#=\n\t ]){0,6}") {
        is_read_back(&text, &value)?;
    }
}
