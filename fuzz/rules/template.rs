//! What the fuzzer tries on templates: a file is filled in whole, and what reads it finds each value as it is, or there is no file.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::oracle::{container, systemd};
use super::*;
use crate::fuzzing::{Input, text};

/// The form, a text, and values for its placeholders.
pub(crate) fn template(data: &[u8]) {
    let mut input = Input(data);
    let forms = [Form::Env, Form::Json, Form::Raw, Form::Container, Form::Yaml, Form::Toml];
    let form = forms[usize::from(input.byte()) % forms.len()];
    let (content, values) = (text(input.upto(0)), input.rest());
    let Ok(template) = Template::parse(&content, form) else { return };
    let count = template.names.len();
    assert!(placeholders(&template) <= MAX_PLACEHOLDERS);
    assert!(template.names.iter().collect::<std::collections::BTreeSet<_>>().len() == count, "each once");
    let mut parts: Vec<&[u8]> = values.split(|byte| *byte == 0).collect();
    parts.resize(count, b"");
    let fill = |parts: &[&[u8]]| {
        let values: Vec<_> = parts.iter().map(|part| SecretValue::new(part.to_vec())).collect();
        template.fill(&values)
    };
    if count > 0 {
        assert!(fill(&parts[1..]).is_err(), "half filled");
    }
    let Ok(filled) = fill(&parts) else {
        assert!(form != Form::Raw || content.contains('|'), "raw takes any bytes");
        return;
    };
    let filled = filled.expose();
    assert!(filled.len() <= SecretValue::MAX);
    if content.contains('|') {
        return; // what one place is written for is for its reader to judge
    }
    // marks in the place of values, which mean themselves everywhere: one character each, so that none is found where two things meet
    const MARKS: std::ops::RangeInclusive<char> = '\u{E000}'..='\u{F8FF}';
    let marks: Vec<String> = MARKS.take(count).map(String::from).collect();
    let has_marks = |text: &str| text.contains(|c| MARKS.contains(&c));
    if has_marks(&content) || parts.iter().any(|part| has_marks(&text(part))) {
        return;
    }
    let marked: Vec<&[u8]> = marks.iter().map(String::as_bytes).collect();
    let Ok(sample) = fill(&marked) else { panic!("marks fit anywhere") };
    let sample = text(sample.expose());
    let put = |marked: &str| {
        marks.iter().zip(&parts).fold(marked.to_owned(), |all, (mark, part)| all.replace(mark, &text(part)))
    };
    match form {
        Form::Raw if parts.iter().all(|part| str::from_utf8(part).is_ok()) => {
            assert_eq!(text(filled), put(&sample));
        }
        Form::Raw => {}
        Form::Yaml | Form::Toml => {} // property tests read them back, with parsers that only tests have
        Form::Env => {
            let read = systemd(&text(filled));
            let expected: BTreeMap<_, _> =
                systemd(&sample).into_iter().map(|(key, value)| (key, put(&value))).collect();
            assert_eq!(read, expected, "{sample:?}");
        }
        Form::Container => {
            let read = container(&text(filled));
            let expected: BTreeMap<_, _> =
                container(&sample).into_iter().map(|(key, value)| (key, put(&value))).collect();
            assert_eq!(read, expected, "{sample:?}");
        }
        Form::Json => {
            assert!(serde_json::from_slice::<IgnoredAny>(filled).is_ok(), "no JSON: {}", text(filled));
            // numbers of the template's own may be larger than this reader can have them
            let sample = serde_json::from_str(&sample).ok();
            if let Some(expected) = sample.and_then(|sample| replaced(sample, &put)) {
                assert_eq!(serde_json::from_slice::<Json>(filled).ok(), Some(expected));
            }
        }
    }
}

fn placeholders(template: &Template) -> usize {
    let of = |piece: &Piece| match piece {
        Piece::Text(_) => 0,
        Piece::Value { .. } => 1,
        Piece::Variable(variable) => {
            variable.bits.iter().filter(|bit| matches!(bit, Bit::Value { .. })).count()
        }
    };
    template.pieces.iter().map(of).sum()
}

/// Marks replaced in all strings; none where two keys become the same, of which a reader has one or the other.
fn replaced(json: Json, put: &impl Fn(&str) -> String) -> Option<Json> {
    Some(match json {
        Json::String(text) => Json::String(put(&text)),
        Json::Array(list) => {
            Json::Array(list.into_iter().map(|entry| replaced(entry, put)).collect::<Option<_>>()?)
        }
        Json::Object(map) => {
            let keys = map.len();
            let all = map.into_iter().map(|(key, value)| Some((put(&key), replaced(value, put)?)));
            Json::Object(all.collect::<Option<serde_json::Map<_, _>>>().filter(|map| map.len() == keys)?)
        }
        other => other,
    })
}
