//! What references resolve to, as judged by the official core: the same for every backend.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::reference::Reference;

/// The vault that the vectors speak of.
pub(super) const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/fixtures/vault.json");

const VAULT: &str = "vaultmineaaaaaaaaaaaaaaaaa";
const DB: &str = "itemdbaaaaaaaaaaaaaaaaaaaa";

#[derive(Debug, PartialEq)]
enum Outcome {
    Is(&'static str),
    Begins(&'static str),
    SixDigits,
    Fails(Class, &'static str),
}
use Outcome::{Begins, Fails, Is, SixDigits};

fn vectors() -> Vec<(String, Outcome)> {
    let upper = VAULT.to_ascii_uppercase();
    let no = |what| Fails(Class::NotFound, what);
    let many = |what| Fails(Class::Several, what);
    let rows = [
        ("op://My Vault/db/password", Is("hunter2")),
        ("op://my vault/db/password", Is("hunter2")),
        ("op://My Vault/DB/password", Is("hunter2")),
        ("op://My Vault/db/PASSWORD", Is("hunter2")),
        (&format!("op://{VAULT}/{DB}/password"), Is("hunter2")),
        (&format!("op://My Vault/{DB}/password"), Is("hunter2")),
        (&format!("op://{upper}/db/password"), no("no vault")),
        ("op://Nope/db/password", no("no vault")),
        ("op://My Vault/nope/password", no("no item")),
        ("op://My Vault/gone/password", no("no item")),
        ("op://My Vault/db/nope", no("no field")),
        ("op://My Vault/db/title", no("no field")),
        ("op://My Vault/db/ password", no("no field")),
        ("op://dup/x/password", many("several vaults")),
        ("op://My Vault/twin/password", many("several items")),
        ("op://My Vault/arch/password", Is("archived")),
        ("op://My Vault/multi/token", many("several fields")),
        ("op://My Vault/same/dup", many("several fields")),
        ("op://My Vault/multi/prod/token", Is("prodtok")),
        ("op://My Vault/multi/f1", Is("prodtok")),
        ("op://My Vault/multi/Section_2/token", Is("devtok")),
        ("op://My Vault/multi/Dev/f2", Is("devtok")),
        ("op://My Vault/multi/Prod/other", Is("prod2other")),
        ("op://My Vault/multi/lone", Is("loneval")),
        ("op://My Vault/multi/notesPlain", Is("my note")),
        ("op://My Vault/multi/notes", Is("my note")),
        ("op://My Vault/sixty/password", Is("builtin")),
        ("op://My Vault/sixty/X/password", Is("insection")),
        ("op://My Vault/otp/one-time password", Is("otpauth://totp/x:y?secret=JBSWY3DPEHPK3PXP&issuer=x")),
        ("op://My Vault/otp/one-time password?attribute=otp", SixDigits),
        ("op://My Vault/db/password?attribute=otp", no("not an OTP field")),
        ("op://My Vault/types/adate", Is("2023-11-14")),
        ("op://My Vault/types/link", Is("https://example.com/")),
        ("op://My Vault/types/empty", Is("")),
        ("op://My Vault/types/multi", Is("line1\nline2\n")),
        ("op://My Vault/db-2/password", Is("")),
        ("op://My Vault/sshkey/private key", Begins("-----BEGIN PRIVATE KEY-----\n")),
        (
            "op://My Vault/sshkey/private key?ssh-format=openssh",
            Begins("-----BEGIN OPENSSH PRIVATE KEY-----\n"),
        ),
        ("op://My Vault/db/password?ssh-format=openssh", no("not a private key")),
        ("op://My Vault/db//password", no("no section")),
        ("op://My Vault/multi//lone", Is("loneval")),
        ("op://a.b_c-d/x/password", Is("dots")),
        ("op://vaultuniaaaaaaaaaaaaaaaaaa/x/password", Is("uni")),
        // beyond the core's own rows
        ("op://My Vault/abcdefghijklmnopqrstuvwxyz/password", Is("titled like an id")),
        ("op://My Vault/document/readme.txt", Is("a document\nof two lines\n")),
        ("op://My Vault/document/README.TXT", Is("a document\nof two lines\n")),
        ("op://My Vault/document/filereadmeaaaaaaaaaaaaaaaa", Is("a document\nof two lines\n")),
        ("op://My Vault/document/tls.pem", Begins("-----BEGIN FAKE-----\n")),
        ("op://My Vault/document/keys/tls.pem", Begins("-----BEGIN FAKE-----\n")),
        ("op://My Vault/document/Keys/readme.txt", no("no field")),
        ("op://My Vault/document/empty", Is("")),
        ("op://My Vault/document/readme.txt?attribute=otp", no("not an OTP field")),
        ("op://My Vault/every/a month", Is("12/2025")),
        ("op://My Vault/every/a slash month", Is("12/2025")),
        ("op://My Vault/every/an iso date", Is("2023-11-14")),
        ("op://My Vault/every/an address", Is("1 Main Street, Springfield, 12345, us")),
        ("op://My Vault/every/a secret", Is("très sécret")),
        ("op://My Vault/every/a hologram", Is("not yet invented")),
        ("op://My Vault/every/a file", no("no file")),
        ("op://My Vault/every/no date", Is("")),
        ("op://My Vault/new category/seed", Is("no one knows this category")),
    ];
    rows.into_iter().map(|(reference, outcome)| (reference.to_owned(), outcome)).collect()
}

/// A question for one reference.
pub(super) fn ask(reference: &str) -> Fetch {
    let reference = Reference::parse(reference).expect(reference);
    Fetch {
        source: SourceName::default_source(),
        item: reference.item,
        known: None,
        fields: vec![reference.field],
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

/// Holds a resolver over the fixture against every row.
pub(super) async fn judge(resolver: &dyn Resolve) {
    for (reference, expected) in vectors() {
        let got = match resolver.fetch(ask(&reference)).await {
            Ok(mut fetched) => fetched.fields.pop().expect("one field"),
            Err(failure) => Err(failure),
        };
        let text = got.as_ref().map(|v| std::str::from_utf8(v.value.expose()).expect("text"));
        let right = match (&expected, text) {
            (Is(value), Ok(text)) => text == *value,
            (Begins(start), Ok(text)) => text.starts_with(start),
            (SixDigits, Ok(text)) => text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit()),
            (Fails(class, cause), Err(failure)) => failure.class == *class && failure.cause.contains(cause),
            _ => false,
        };
        assert!(right, "{reference}: expected {expected:?}, got {text:?}");
    }
}

#[tokio::test]
async fn the_development_vault() {
    judge(&resolver(SourceKind::File { path: PathBuf::from(FIXTURE) })).await;
}
