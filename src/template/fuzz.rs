//! What the fuzzer tries on templates: a file is filled in whole, and what reads it finds each value as it is, or there is no file.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::oracle::systemd;
use super::*;
use crate::fuzzing::{Input, text};

/// The form, a text, and values for its placeholders.
pub(crate) fn template(data: &[u8]) {
    let mut input = Input(data);
    let form = [Form::Env, Form::Json, Form::Raw][usize::from(input.byte() % 3)];
    let (content, values) = (text(input.upto(0)), input.rest());
    let Ok(template) = Template::parse(&content, form) else { return };
    let count = template.names.len();
    assert!(
        template.pieces.iter().filter(|piece| matches!(piece, Piece::Value { .. })).count()
            <= MAX_PLACEHOLDERS
    );
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
    // marks in the place of values, which mean themselves everywhere
    let marks: Vec<String> = (0..count).map(|part| format!("m{part:04}m")).collect();
    if marks.iter().any(|mark| content.contains(mark.as_str()))
        || parts.iter().any(|part| text(part).contains("m0"))
    {
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
        Form::Env => {
            let read = systemd(&text(filled));
            let expected: BTreeMap<_, _> =
                systemd(&sample).into_iter().map(|(key, value)| (key, put(&value))).collect();
            assert_eq!(read, expected, "{sample:?}");
        }
        Form::Json => {
            let (Ok(read), Ok(sample)) =
                (serde_json::from_slice::<Json>(filled), serde_json::from_str(&sample))
            else {
                panic!("no JSON: {}", text(filled))
            };
            assert_eq!(read, replaced(sample, &put));
        }
    }
}

fn replaced(json: Json, put: &impl Fn(&str) -> String) -> Json {
    match json {
        Json::String(text) => Json::String(put(&text)),
        Json::Array(list) => list.into_iter().map(|entry| replaced(entry, put)).collect(),
        Json::Object(map) => map.into_iter().map(|(key, value)| (put(&key), replaced(value, put))).collect(),
        other => other,
    }
}
