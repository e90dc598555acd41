use proptest::prelude::*;
use serde_yaml_ng::Value;

use super::super::Template;
use super::*;
use crate::domain::secret::SecretValue;

/// Represents a value in a sample.
const MARK: &str = "\u{e000}";

fn fill(template: &Template, value: &str) -> String {
    let values: Vec<_> = template.names.iter().map(|_| SecretValue::new(value.as_bytes().to_vec())).collect();
    String::from_utf8(template.fill(&values).expect("fits").expose().to_vec()).expect("text")
}

fn read(text: &str) -> Result<Value, serde_yaml_ng::Error> {
    serde_yaml_ng::from_str(text)
}

fn replaced(read: Value, value: &str) -> Value {
    match read {
        Value::String(text) => Value::String(text.replace(MARK, value)),
        Value::Sequence(all) => Value::Sequence(all.into_iter().map(|one| replaced(one, value)).collect()),
        Value::Mapping(all) => Value::Mapping(
            all.into_iter().map(|(key, one)| (replaced(key, value), replaced(one, value))).collect(),
        ),
        Value::Tagged(mut tagged) => {
            tagged.value = replaced(tagged.value, value);
            Value::Tagged(tagged)
        }
        other => other,
    }
}

/// Checks that a parser reads the value wherever it reads the mark. Also succeeds if the text is not a
/// template or not YAML.
fn is_read_back(text: &str, value: &str) -> Result<(), TestCaseError> {
    let Ok(template) = Template::parse(text, Form::Yaml) else { return Ok(()) };
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
        "k: {{v}}",
        "k: {{v}} # comment\nl: 1",
        "k: \"a {{v}} b\"",
        "k: [a, {{v}}, {b: {{v}}}]",
        "- {{v}}\n- - {{v}}\n-   k: {{v}}\n    l: \"{{v}}\"",
        "k: !!str {{v}}\nl: &a {{v}}\nm: *a",
        "k: it's\nl: {{v}}",
        "k: |\n  text: \"\n\nl: {{v}}",
        "- k: >-\n    text\n  l: {{v}}",
        "- |\n text\n- {{v}}",
        "k: some\n  text\nl: {{v}}",
        "---\nk: {{v}}\n...\n",
        "k: 'it''s'\nl: {{v}}",
        "\"k\": {{v}}\n? l\n: {{v}}",
        "k:\n  {{v}}\nl:\n  - a: b\n    c: {{v}}",
        "k: http://x:1/#a\nl: {{v}}",
        "k: {\"a\":{{v}}}",
        "---\n{{v}}",
    ] {
        assert!(Template::parse(text, Form::Yaml).is_ok(), "{text}: {:?}", Template::parse(text, Form::Yaml));
        let sample = fill(&Template::parse(text, Form::Yaml).expect("a template"), MARK);
        read(&sample).unwrap_or_else(|error| panic!("{sample}: {error}"));
        for value in
            ["a: b", "- x", "#", "\"", "'", "\\", "true", "12", " two\nlines ", "", "\u{85}\u{7f}\0\u{feff}"]
        {
            is_read_back(text, value).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn places_in_which_a_value_would_not_stay_one_string_are_mistakes() {
    for (text, word) in [
        ("k: a {{v}}", "text without quotes"),
        ("k: {{v}}b", "text without quotes"),
        ("k: {{v}}{{w}}", "text without quotes"),
        ("k:{{v}}", "text without quotes"),
        ("k: some\n  {{v}}", "text without quotes"),
        ("- some\n  {{v}}", "text without quotes"),
        ("k: {{v}}{{w | raw}}", "text without quotes"),
        ("k: a#{{v}}", "text without quotes"),
        ("k: a:b {{v}}", "text without quotes"),
        ("k: a[ {{v}}", "text without quotes"),
        ("k: [a]\nl: b, {{v}}", "text without quotes"),
        ("\"a\":{{v}}", "text without quotes"),
        ("k: [| {{v}}]", "text without quotes"),
        ("k: [\"a\"\n  {{v}}]", "text without quotes"),
        ("a\n{{v}}", "text without quotes"),
        ("- - some\n   {{v}}", "text without quotes"),
        ("k: \"a\"'{{v}}", "text without quotes"),
        ("k: 'it''s {{v}}'", "single quotes"),
        ("k: '{{v}}'", "single quotes"),
        ("k: \"\\{{v}}\"", "behind a \\"),
        ("k: \"{{v}}\n  b\"", "several lines"),
        ("k: \"a\n  {{v}}\"", "several lines"),
        ("k: \"a\\\n  {{v}}\"", "several lines"),
        ("k: 1 # {{v}}", "a comment"),
        ("# {{v}}", "a comment"),
        ("k: |\n  {{v}}", "a block scalar"),
        ("k: |\n  a\n\n  {{v}}", "a block scalar"),
        ("- >\n {{v}}", "a block scalar"),
        ("k: {{v | json}}", "a YAML file"),
    ] {
        let mistakes = Template::parse(text, Form::Yaml).expect_err(text);
        assert!(mistakes[0].what.contains(word), "{text}: {mistakes:?}");
    }
    let raw = Template::parse("k: a {{v | raw}}", Form::Yaml).expect("a template");
    assert_eq!(fill(&raw, "b"), "k: a b");
    let raw = Template::parse("k: \"a\"{{v | raw}}", Form::Yaml).expect("a template");
    assert_eq!(fill(&raw, " # c"), "k: \"a\" # c");
}

fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[a-d]: (\\{\\{v\\}\\}|\"x\\{\\{v\\}\\}y\"|x|'x''y'|\\[x, \\{\\{v\\}\\}\\]|\\|-?|>|&a x|)( # c)?",
        "- (\\{\\{v\\}\\}|\"\\{\\{v\\}\\}\"|x|'|[a-d]: (\\{\\{v\\}\\}|x|\\||))",
        "(\\{\\{v\\}\\}|\"\\{\\{v\\}\\}\"|x|it's \"|'|\"|---|# c|)",
    ];
    let indented = (0..4usize, line).prop_map(|(indent, line)| " ".repeat(indent) + &line);
    prop::collection::vec(indented, 1..7).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn a_parser_reads_back_the_value_in_files(text in lines(), value in "(\\PC|[\\\\\"'#:\n\t\r\u{1}\0 -]){0,8}") {
        is_read_back(&text, &value)?;
    }

    #[test]
    fn a_parser_reads_back_the_value_in_any_text(text in "(\\{\\{v\\}\\}|k: |- |\n  |[ab:?#|>&!\\[\\]{},\"'\\\\ \n-]){0,16}", value in "(\\PC|[\\\\\"'#:\n\t ]){0,6}") {
        is_read_back(&text, &value)?;
    }
}
