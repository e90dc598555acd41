//! Tests of the test vectors: each reference must resolve as in 1Password's SDK core, with every backend.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::SourceKind;
use crate::domain::reference::Reference;

const VECTORS: &str = include_str!("../../integration/fixtures/op-resolution-vectors.tsv");

/// The vault of the test vectors.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/fixtures/vault.json");

/// A question for one reference.
pub(super) fn ask(reference: &str) -> Fetch {
    let reference = Reference::parse(reference).expect(reference);
    Fetch {
        source: SourceName::default_source(),
        print: String::new(),
        definition: None,
        item: reference.item,
        known: None,
        version: None,
        fields: vec![reference.field],
        look_again: None,
        asker: Default::default(),
        patience: Duration::from_secs(20),
    }
}

/// A resolver with one source.
pub(super) fn resolver(kind: SourceKind) -> Resolver {
    let source =
        Source { kind, token: CredentialId::parse("token").expect("valid"), declared_at: "here:1".into() };
    let sources = BTreeMap::from([(SourceName::default_source(), source)]);
    Resolver::new(&sources, |_| Some(SecretValue::new(b" the.token\n".to_vec())))
}

#[tokio::test]
async fn the_development_vault() {
    let resolver = resolver(SourceKind::File { path: PathBuf::from(FIXTURE) });
    let mut rows = 0;
    for row in VECTORS.lines().filter(|row| !row.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [reference, outcome, text] = *columns else { panic!("{row}") };
        let expected: String = serde_json::from_str(text).expect(row);
        let got = match resolver.fetch(ask(reference)).await {
            Ok(mut fetched) => fetched.fields.pop().expect("one field"),
            Err(failure) => Err(failure),
        };
        let text = got.as_ref().map(|v| std::str::from_utf8(v.value.expose()).expect("text"));
        let right = match (outcome, text) {
            ("is", Ok(text)) => text == expected,
            ("begins", Ok(text)) => text.starts_with(&expected),
            ("otp", Ok(text)) => text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit()),
            ("not-found", Err(failure)) => {
                failure.class == Class::NotFound && failure.cause.contains(&expected)
            }
            ("several", Err(failure)) => failure.class == Class::Several && failure.cause.contains(&expected),
            _ => false,
        };
        assert!(right, "{row}: got {text:?}");
        rows += 1;
    }
    assert!(rows >= 60, "{rows}");
}
