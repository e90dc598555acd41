//! Tests the resolver with the fake Connect server: results, costs and faults.

#[path = "connect/cuts.rs"]
mod cuts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use onecred::config::{Source, SourceKind};
use onecred::domain::name::{CredentialId, SourceName};
use onecred::domain::reference::Reference;
use onecred::domain::secret::SecretValue;
use onecred::ipc::{Check, Class, Failure, Fetch, Fetched, ItemState, Known, Probe, Resolve};
use onecred::resolver::Resolver;
use onecred_integration::fake_connect::{DEFAULT_TOKEN, Edit, FakeConnect, Fault, Kind, Options, TlsFault};
use serde_json::json;

const VECTORS: &str = include_str!("../fixtures/op-resolution-vectors.tsv");
const DB: &str = "op://My Vault/db/password";
/// The path of the item of [`DB`].
const DB_PATH: &str = "/v1/vaults/vaultmineaaaaaaaaaaaaaaaaa/items/itemdbaaaaaaaaaaaaaaaaaaaa";

fn fake() -> FakeConnect {
    FakeConnect::start(Options::default()).unwrap()
}

/// A fake with TLS; the directory contains its CA.
fn fake_with_tls(fault: Option<TlsFault>) -> (FakeConnect, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let tls = Some(folder.path().to_owned());
    (FakeConnect::start(Options { tls, tls_fault: fault, ..Options::default() }).unwrap(), folder)
}

fn resolver_at(url: String, insecure: bool, ca_file: Option<PathBuf>, token: Option<&str>) -> Resolver {
    let kind = SourceKind::Connect { url, insecure, users: Vec::new(), ca_file };
    let source = Source { kind, token: CredentialId::parse("token").unwrap(), declared_at: "here:1".into() };
    let token = |_: &CredentialId| token.map(|token| SecretValue::new(token.as_bytes().to_vec()));
    Resolver::new(&BTreeMap::from([(SourceName::default_source(), source)]), token)
}

fn resolver(fake: &FakeConnect) -> Resolver {
    resolver_at(fake.url(), false, fake.ca().map(Into::into), Some(&format!(" {DEFAULT_TOKEN}\n")))
}

fn ask(reference: &str) -> Fetch {
    let Reference { item, field } = Reference::parse(reference).unwrap();
    let source = SourceName::default_source();
    Fetch {
        source,
        print: String::new(),
        definition: None,
        item,
        known: None,
        version: None,
        fields: vec![field],
        look_again: None,
        asker: Default::default(),
        patience: Duration::from_secs(20),
    }
}

async fn value(resolver: &Resolver, reference: &str) -> Result<String, Failure> {
    let mut fetched = resolver.fetch(ask(reference)).await?;
    let found = fetched.fields.pop().unwrap()?;
    Ok(String::from_utf8_lossy(found.value.expose()).into_owned())
}

fn known(fetch: &Fetch, fetched: &Fetched) -> Known {
    let Fetched { id, version, vault_version, .. } = fetched;
    Known { item: fetch.item.clone(), id: id.clone(), version: *version, vault_version: *vault_version }
}

async fn check(resolver: &Resolver, items: &[Known]) -> Result<Vec<ItemState>, Failure> {
    let source = SourceName::default_source();
    let question = Check {
        source,
        print: String::new(),
        definition: None,
        items: items.to_vec(),
        asker: Default::default(),
        patience: Duration::from_secs(20),
    };
    Ok(resolver.check(question).await?.items)
}

async fn judge(resolver: &Resolver) {
    for row in VECTORS.lines().filter(|row| !row.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [reference, outcome, text] = *columns else { panic!("{row}") };
        let expected: String = serde_json::from_str(text).unwrap();
        let got = value(resolver, reference).await;
        let right = match (outcome, &got) {
            ("is", Ok(text)) => *text == expected,
            ("begins", Ok(text)) => text.starts_with(&expected),
            ("otp", Ok(text)) => text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit()),
            ("not-found", Err(failure)) => {
                failure.class == Class::NotFound && failure.cause.contains(&expected)
            }
            ("several", Err(failure)) => failure.class == Class::Several && failure.cause.contains(&expected),
            _ => false,
        };
        assert!(right, "{row}: got {got:?}");
    }
}

#[tokio::test]
async fn references_resolve_as_the_official_core_says() {
    let fake = fake();
    judge(&resolver(&fake)).await;
    assert!(fake.control.requests().unwrap().iter().all(|seen| seen.version == "HTTP/1.1"));
}

#[tokio::test]
async fn and_over_tls_and_http_2_too() {
    let (fake, _folder) = fake_with_tls(None);
    judge(&resolver(&fake)).await;
    assert!(fake.control.requests().unwrap().iter().all(|seen| seen.version == "HTTP/2.0"));
    assert_eq!(fake.control.connections().unwrap(), 1);
}

#[tokio::test]
async fn every_byte_of_a_file_arrives() {
    let fake = fake();
    let fetched = resolver(&fake).fetch(ask("op://My Vault/document/binary.bin")).await.unwrap();
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(fetched.fields[0].as_ref().unwrap().value.expose(), all);
}

#[tokio::test]
async fn calls_are_as_few_as_promised() {
    let fake = fake();
    let resolver = resolver(&fake);
    let cost = || fake.control.take_requests().unwrap().len();
    let references = [
        DB,
        "op://My Vault/multi/f1",
        "op://My Vault/otp/password",
        "op://a.b_c-d/x/password",
        "op://vaultuniaaaaaaaaaaaaaaaaaa/x/password",
    ];
    let mut all = Vec::new();
    for reference in references {
        let mut question = ask(reference);
        question.fields.push(Reference::parse("op://v/i/username").unwrap().field);
        all.push(known(&question, &resolver.fetch(question.clone()).await.unwrap()));
    }
    assert_eq!(cost(), 1 + 3 + 5, "the vaults, three of them, five items");
    let states = check(&resolver, &all).await.unwrap();
    assert!(states.iter().all(|state| matches!(state, ItemState::Unchanged { .. })), "{states:?}");
    assert_eq!(cost(), 1, "nothing has changed");
    fake.control.set("My Vault", "multi", "token", "new").unwrap();
    let states = check(&resolver, &all).await.unwrap();
    assert_eq!(states.iter().filter(|state| **state == ItemState::Changed).count(), 1);
    assert_eq!(value(&resolver, references[1]).await.unwrap(), "new");
    assert_eq!(cost(), 1 + 1 + 1, "one vault and one item have changed");
}

#[tokio::test]
async fn what_is_renamed_deleted_or_out_of_scope_is_confirmed_gone() {
    let fake = fake();
    let resolver = resolver(&fake);
    let mut all = Vec::new();
    for reference in [DB, "op://My Vault/sixty/password", "op://a.b_c-d/x/password", "op://My Vault/multi/f1"]
    {
        all.push(known(&ask(reference), &resolver.fetch(ask(reference)).await.unwrap()));
    }
    let (vault, item) = ("My Vault".to_owned(), "db".to_owned());
    fake.control.edit(&Edit::Rename { vault: vault.clone(), item: Some(item), to: "dbx".into() }).unwrap();
    fake.control.edit(&Edit::Delete { vault, item: "sixty".into() }).unwrap();
    fake.control.deny("vaultdotsaaaaaaaaaaaaaaaaa").unwrap();
    let states = check(&resolver, &all).await.unwrap();
    let gone = |i: usize| match &states[i] {
        ItemState::Gone(failure) => failure.cause.clone(),
        other => format!("{other:?}"),
    };
    assert!(gone(0).contains(r#"no item "db" in vault "My Vault"; the nearest is "dbx""#), "{}", gone(0));
    assert!(gone(1).contains("no item"), "{}", gone(1));
    assert!(gone(2).contains("no vault"), "{}", gone(2));
    assert!(matches!(states[3], ItemState::Unchanged { .. }));
    for reference in [DB, "op://My Vault/sixty/password", "op://a.b_c-d/x/password"] {
        assert_eq!(value(&resolver, reference).await.unwrap_err().class, Class::NotFound, "{reference}");
    }
}

#[tokio::test]
async fn what_is_missing_is_told_with_what_there_is() {
    let fake = fake();
    let resolver = resolver(&fake);
    let (vault, item) = ("My Vault".to_owned(), Some("sixty".to_owned()));
    fake.control.edit(&Edit::Rename { vault, item, to: "app/db".into() }).unwrap();
    let cases = [
        ("op://My Vault/db/pasword", r#"no field "pasword" in item "db", which has "password", "username""#),
        (
            "op://My Vault/app/db/password",
            r#"no item "app" in vault "My Vault"; "app/db" has a / in its name"#,
        ),
        (
            "op://Private/db/password",
            "Connect servers cannot be granted access to Private, Personal and Employee vaults",
        ),
    ];
    for (reference, cause) in cases {
        let failure = value(&resolver, reference).await.unwrap_err();
        assert_eq!(failure.class, Class::NotFound);
        assert!(failure.cause.contains(cause) && !failure.cause.contains("hunter2"), "{failure}");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_stays_has_its_class() {
    let no_text = |code| Kind::Body { code, content_type: "text/html".into(), text: "hunter2 canary".into() };
    let cases: Vec<(Fault, Class, usize, &'static str)> = vec![
        (Fault::status(400), Class::Malformed, 1, "status 400"),
        (Fault::status(401), Class::Denied, 1, "not accept the token (401)"),
        (Fault::status(403), Class::Denied, 3, "access to item"),
        (Fault::status(408), Class::Away, 4, "408"),
        (Fault::status(413), Class::TooLarge, 1, "413"),
        (Fault::status(429), Class::Limited, 4, "no more calls"),
        (Fault::retry_after(429, "60"), Class::Limited, 1, "no more calls"),
        (Fault::retry_after(429, "date+60"), Class::Limited, 1, "no more calls"),
        (Fault::status(500), Class::Away, 4, "Connect at"),
        (Fault::status(503), Class::Away, 4, "Connect at"),
        (Fault::of(no_text(404)), Class::Away, 4, "the 404 response is not"),
        (Fault::of(no_text(200)), Class::Malformed, 1, "not JSON"),
        (Fault::of(no_text(500)), Class::Away, 4, "Connect at"),
        (Fault::of(Kind::Close { at: 0 }), Class::Away, 4, "Connect at"),
        (Fault::of(Kind::Reset { at: 90 }), Class::Away, 4, "Connect at"),
        (Fault::of(Kind::Truncate { at: 30 }), Class::Away, 4, "Connect at"),
        (Fault::of(Kind::MalformedJson), Class::Malformed, 1, "from Connect at"),
        (Fault::of(Kind::InvalidUtf8), Class::Malformed, 1, "from Connect at"),
        (Fault::of(Kind::ContentType { value: "text/plain".into() }), Class::Malformed, 1, "not JSON"),
        (Fault::of(Kind::Huge { bytes: 9 << 20, declared: true }), Class::TooLarge, 1, "over 8 MiB"),
        (Fault::of(Kind::Huge { bytes: 9 << 20, declared: false }), Class::TooLarge, 1, "over 8 MiB"),
        (Fault::of(Kind::Gzip), Class::Malformed, 1, "it is compressed (gzip), although"),
        (Fault::of(Kind::GzipBomb { mib: 1024 }), Class::Malformed, 1, "it is compressed (gzip), although"),
        (
            Fault::of(Kind::Redirect { code: 302, to: "http://127.0.0.1:1/x?t=canary".into() }),
            Class::Malformed,
            1,
            "redirects",
        ),
        (Fault::of(Kind::Deep { depth: 500 }), Class::Malformed, 1, "from Connect at"),
        (Fault::of(Kind::DuplicateKeys), Class::Malformed, 1, "from Connect at"),
        (Fault::of(Kind::OtherItem), Class::Malformed, 1, "another item"),
    ];
    let mut all = tokio::task::JoinSet::new();
    for (fault, class, attempts, words) in cases {
        all.spawn(one_fault(fault, class, attempts, words)); // each pauses between its attempts
    }
    all.join_all().await;
}

async fn one_fault(fault: Fault, class: Class, attempts: usize, words: &str) {
    let (fake, name) = (fake(), format!("{:?}", fault.kind));
    fake.control.fail(&fault.clone().exactly_on(DB_PATH)).unwrap();
    let question = Fetch { patience: Duration::from_secs(120), ..ask(DB) };
    let failure = resolver(&fake).fetch(question).await.expect_err(&name);
    assert_eq!(failure.class, class, "{name}: {failure}");
    assert!(failure.cause.contains(words) && !failure.remedy.is_empty(), "{name}: {failure}");
    assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    let asked = fake.control.requests().unwrap().iter().filter(|seen| seen.path == DB_PATH).count();
    assert_eq!(asked, attempts, "{name}");
    if attempts > 1 {
        fake.control.clear_faults().unwrap();
        fake.control.fail(&fault.exactly_on(DB_PATH).times(2)).unwrap();
        assert_eq!(value(&resolver(&fake), DB).await.expect(&name), "hunter2");
    }
}

#[tokio::test]
async fn a_limit_with_an_end_is_waited_for_or_told() {
    let fake = fake();
    fake.control.fail(&Fault::retry_after(429, "1").on("/v1/vaults").times(1)).unwrap();
    assert_eq!(value(&resolver(&fake), DB).await.unwrap(), "hunter2");
    fake.control.fail(&Fault::retry_after(429, "60").exactly_on(DB_PATH)).unwrap();
    let resolver = resolver(&fake);
    let failure = value(&resolver, DB).await.unwrap_err();
    assert_eq!((failure.class, failure.retry_after), (Class::Limited, Some(Duration::from_secs(60))));
    fake.control.take_requests().unwrap();
    let failure = value(&resolver, "op://My Vault/otp/password").await.unwrap_err();
    assert_eq!(failure.class, Class::Limited);
    assert!(fake.control.requests().unwrap().is_empty(), "and kept to");
}

#[tokio::test]
async fn no_answer_is_given_up_in_time() {
    let fake = fake();
    fake.control.fail(&Fault::of(Kind::Hang).exactly_on(DB_PATH)).unwrap();
    let began = Instant::now();
    let question = Fetch { patience: Duration::from_secs(1), ..ask(DB) };
    let failure = resolver(&fake).fetch(question).await.unwrap_err();
    assert_eq!(failure.class, Class::Away);
    assert!(began.elapsed() < Duration::from_secs(15)); // a hang never ends
    drop(fake);
    let gone = resolver_at("http://127.0.0.1:1".into(), false, None, Some("t"));
    let failure = value(&gone, DB).await.unwrap_err();
    assert_eq!(failure.class, Class::Away);
    assert!(failure.cause.contains("refused"), "{failure}");
}

#[tokio::test]
async fn certificates_that_are_wrong_are_never_taken_for_an_answer() {
    let cases = [
        (TlsFault::Expired, "has expired"),
        (TlsFault::NotYetValid { seconds: 3_600 }, "not valid yet"),
        (TlsFault::WrongHost, "for another name"),
        (TlsFault::UnknownCa, "not trusted"),
    ];
    for (fault, words) in cases {
        let (fake, _folder) = fake_with_tls(Some(fault));
        let resolver = resolver(&fake);
        let failure = value(&resolver, DB).await.unwrap_err();
        assert_eq!(failure.class, Class::Away, "{failure}");
        assert!(failure.cause.contains(words), "{failure}");
        fake.control.set_tls(None).unwrap();
        assert_eq!(value(&resolver, DB).await.unwrap(), "hunter2", "{fault:?}");
    }
    let (fake, _folder) = fake_with_tls(None);
    let failure = value(&resolver_at(fake.url(), false, None, Some(DEFAULT_TOKEN)), DB).await.unwrap_err();
    assert!(failure.class == Class::Away || failure.class == Class::Misconfigured, "{failure}");
    let no_file = Some(PathBuf::from("/nonexistent/ca.pem"));
    let failure = value(&resolver_at(fake.url(), false, no_file, Some(DEFAULT_TOKEN)), DB).await.unwrap_err();
    assert_eq!(failure.class, Class::Misconfigured);
    assert!(fake.control.requests().unwrap().is_empty());
}

#[tokio::test]
async fn no_vaults_at_all_are_looked_at_thrice() {
    let fake = fake();
    fake.control.load(&json!({"vaults": []})).unwrap();
    let question = Fetch { patience: Duration::from_secs(1), ..ask(DB) };
    let failure = resolver(&fake).fetch(question).await.unwrap_err();
    assert_eq!(failure.class, Class::Away, "{failure}");
    fake.control.take_requests().unwrap();
    let failure = value(&resolver(&fake), DB).await.unwrap_err();
    assert_eq!(failure.class, Class::Denied);
    assert!(failure.cause.contains("the token sees no vault"), "{failure}");
    assert_eq!(fake.control.requests().unwrap().len(), 3);
}

#[tokio::test]
async fn sources_that_cannot_work_say_so() {
    let cases = [
        (resolver_at("http://127.0.0.1:1".into(), false, None, None), Class::NoToken, "missing or empty"),
        (
            resolver_at("http://127.0.0.1:1".into(), false, None, Some(" \n")),
            Class::NoToken,
            "missing or empty",
        ),
        (
            resolver_at("http://127.0.0.1:1".into(), false, None, Some("a\nb")),
            Class::NoToken,
            "invalid characters",
        ),
        (resolver_at("http://192.0.2.1".into(), false, None, Some("t")), Class::Misconfigured, "plain http"),
        (resolver_at("nonsense".into(), false, None, Some("t")), Class::Misconfigured, "no URL"),
        (Resolver::new(&BTreeMap::new(), |_| None), Class::Misconfigured, "no source default"),
    ];
    for (resolver, class, words) in cases {
        let failure = value(&resolver, DB).await.unwrap_err();
        assert!(failure.class == class && failure.cause.contains(words), "{failure}");
        assert_eq!(check(&resolver, &[]).await.unwrap_err().class, class);
    }
    let fake = fake();
    let stranger = resolver_at(fake.url(), false, None, Some("another token"));
    let failure = value(&stranger, DB).await.unwrap_err();
    assert_eq!(failure.class, Class::Denied);
    assert!(!failure.to_string().contains("another token"), "{failure}");
}

#[tokio::test]
async fn a_probe_tells_what_a_token_reaches() {
    // {"alg":"ES256"} and {"exp":1790000000}
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3OTAwMDAwMDB9.c2ln";
    let fake = FakeConnect::start(Options { token: token.into(), ..Options::default() }).unwrap();
    let question = || Probe {
        source: SourceName::default_source(),
        print: String::new(),
        definition: None,
        patience: Duration::from_secs(20),
    };
    let stranger = resolver_at(fake.url(), false, None, Some("another token"));
    assert_eq!(stranger.probe(question(), None).await.unwrap_err().class, Class::Denied);
    let probed = stranger.probe(question(), Some(SecretValue::new(token.into()))).await.unwrap();
    assert_eq!((probed.at, probed.expires), (fake.url(), Some(1_790_000_000)));
    assert_eq!(
        (probed.writes, probed.spent),
        (None, None),
        "nobody has said what the numbers in a token mean"
    );
    assert!(probed.vaults.iter().any(|vault| vault.name == "My Vault" && vault.items.is_some()));
    assert_eq!(
        stranger.probe(question(), None).await.unwrap_err().class,
        Class::Denied,
        "the one in place stays"
    );
}
