//! Tests that a truncated reply never becomes a value, and that each status has its class.
//!
//! With `ONECRED_EVERY_BYTE` set, replies are cut at each byte; otherwise at some, because each cut needs a
//! new client.

use onecred::ipc::{Class, Failure, Fetch, ItemId, Resolve};
use onecred_integration::fake_connect::{FakeConnect, Fault, Kind};
use std::time::Duration;

use super::{DB, DB_PATH, ask, fake, fake_with_tls, resolver};

const FILE: &str = "op://My Vault/document/binary.bin";
/// Too short for a second attempt, because the first pause is longer.
const ONCE: Duration = Duration::from_millis(190);

/// Asks a new resolver, which makes one attempt and knows the IDs. Asks again if the time ran out on a busy
/// machine before the request was sent.
async fn once(fake: &FakeConnect, id: &ItemId, reference: &str) -> Result<Vec<u8>, Failure> {
    loop {
        fake.control.take_requests().unwrap();
        let question = Fetch { known: Some(id.clone()), patience: ONCE, ..ask(reference) };
        let outcome = resolver(fake).fetch(question).await;
        let outcome = outcome.and_then(|mut got| got.fields.pop().unwrap());
        if fake.control.requests().unwrap().iter().any(|seen| seen.path.starts_with("/v1/vaults/")) {
            return outcome.map(|got| got.value.expose().to_vec());
        }
    }
}

/// The distance between cuts: one byte, or this many.
fn step(usual: usize) -> usize {
    if std::env::var_os("ONECRED_EVERY_BYTE").is_some() { 1 } else { usual }
}

async fn id_of(fake: &FakeConnect, reference: &str) -> ItemId {
    resolver(fake).fetch(ask(reference)).await.unwrap().id
}

/// Cuts later and later until a value arrives, which must be the right one. Returns the number of cuts.
async fn cut_at_each_byte(
    fake: &FakeConnect,
    on: &str,
    reference: &str,
    right: &[u8],
    step: usize,
    kind: fn(usize) -> Kind,
) -> usize {
    let id = id_of(fake, reference).await;
    for at in (0..).step_by(step) {
        fake.control.clear_faults().unwrap();
        fake.control.fail(&Fault::of(kind(at)).exactly_on(on)).unwrap();
        match once(fake, &id, reference).await {
            Err(failure) => assert_eq!(failure.class, Class::Away, "at {at}: {failure}"),
            Ok(value) => {
                assert!(
                    value == right,
                    "{} bytes of {} after {at} bytes of the reply",
                    value.len(),
                    right.len()
                );
                return at;
            }
        }
        assert!(at < 4_000, "no value ever");
    }
    0
}

#[tokio::test]
async fn a_reply_that_is_cut_at_any_byte_is_no_value() {
    let fake = fake();
    for kind in [|at| Kind::Reset { at }, |at| Kind::Truncate { at }] {
        let cuts = cut_at_each_byte(&fake, DB_PATH, DB, b"hunter2", step(5), kind).await;
        assert!(cuts > 200, "{cuts} cuts");
    }
}

#[tokio::test]
async fn nor_is_one_over_tls_and_http_2() {
    let (fake, _folder) = fake_with_tls(None);
    // not at every byte, because each cut needs a TLS handshake
    let cuts = cut_at_each_byte(&fake, DB_PATH, DB, b"hunter2", step(11), |at| Kind::Close { at }).await;
    assert!(cuts > 200, "{cuts}");
}

/// A file may contain any bytes, so only its length shows that it is complete.
#[tokio::test]
async fn nor_is_a_file() {
    let fake = fake();
    let whole: Vec<u8> = (0..=255).collect();
    resolver(&fake).fetch(ask(FILE)).await.unwrap();
    let seen = fake.control.take_requests().unwrap();
    let content = &seen.iter().find(|seen| seen.path.ends_with("/content")).unwrap().path;
    for kind in [|at| Kind::Close { at }, |at| Kind::Truncate { at }] {
        let cuts = cut_at_each_byte(&fake, content, FILE, &whole, step(7), kind).await;
        assert!(cuts >= whole.len(), "{cuts}");
    }
    for (kind, words) in [
        (Kind::Gzip, "compressed (gzip)"),
        (Kind::GzipBomb { mib: 64 }, "compressed (gzip)"),
        (Kind::ContentType { value: "text/html; charset=utf-8".into() }, "not a file, but text/html"),
        (Kind::Huge { bytes: 100 << 20, declared: true }, "MiB"),
        (Kind::Huge { bytes: 100 << 20, declared: false }, "MiB"),
    ] {
        fake.control.clear_faults().unwrap();
        fake.control.fail(&Fault::of(kind.clone()).exactly_on(content)).unwrap();
        let fetched = resolver(&fake).fetch(ask(FILE)).await.unwrap();
        let failure = fetched.fields[0].as_ref().expect_err("no file");
        assert!(failure.cause.contains(words), "{kind:?}: {failure}");
    }
}

/// A proxy that has lost the rest may send this: the length is right for the part that it has.
#[tokio::test]
async fn a_part_of_a_reply_that_says_that_it_is_whole_is_no_value() {
    let fake = fake();
    let id = id_of(&fake, DB).await;
    let seen = fake.control.take_requests().unwrap();
    assert!(seen.iter().any(|seen| seen.path == DB_PATH));
    let whole = fake.control.document().unwrap();
    let item =
        whole["vaults"][0]["items"].as_array().unwrap().iter().find(|item| item["id"] == *id.item).unwrap();
    let mut item = item.clone();
    item["vault"] = serde_json::json!({ "id": id.vault });
    let text = item.to_string();
    for end in (0..=text.len()).rev().step_by(step(3)).filter(|&end| text.is_char_boundary(end)) {
        let (content_type, part) = ("application/json".to_owned(), text[..end].to_owned());
        fake.control.clear_faults().unwrap();
        fake.control
            .fail(&Fault::of(Kind::Body { code: 200, content_type, text: part }).exactly_on(DB_PATH))
            .unwrap();
        match once(&fake, &id, DB).await {
            Ok(value) => assert!(
                end == text.len() && value == b"hunter2",
                "a value after {end} of {} bytes",
                text.len()
            ),
            Err(failure) => {
                assert!(matches!(failure.class, Class::Malformed | Class::Away), "{end}: {failure}");
                assert!(end < text.len(), "{failure}");
            }
        }
    }
}

#[tokio::test]
async fn each_status_has_its_class() {
    let fake = fake();
    let id = id_of(&fake, DB).await;
    for code in (201..=206).chain(300..=308).chain(400..=599) {
        fake.control.clear_faults().unwrap();
        fake.control.fail(&Fault::status(code).exactly_on(DB_PATH)).unwrap();
        let failure = once(&fake, &id, DB).await.expect_err("a value");
        let class = match code {
            401 => Class::Denied,
            // an item or vault that existed must be missing more than once
            403 | 404 | 408 | 500..=599 => Class::Away,
            413 => Class::TooLarge,
            429 => Class::Limited,
            _ => Class::Malformed,
        };
        // on a busy machine, the time may run out before the answer arrives
        assert!(failure.class == class || failure.cause.contains("in time"), "{code}: {failure}");
        assert!(!failure.remedy.is_empty(), "{code}: {failure}");
        let asked = fake.control.requests().unwrap().len();
        assert!(asked <= 4, "{code}: {asked} calls");
    }
}
