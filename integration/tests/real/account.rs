//! Tests the check of a service account, with 1Password's SDK core.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use onecred_integration::fake_account::{FakeAccount, Fault, Kind, Options};
use serde_json::{Value, json};

use crate::vault::{FIRST_ID, VAULT, VAULT_ID, canaries, vault};
use crate::{CORE, Case, Ran, path, run};

pub(crate) const CASES: &[Case] = &[
    ("account_is_as_expected", is_as_expected),
    ("account_shows_nothing_of_the_vault", shows_nothing_of_the_vault),
    ("account_makes_no_more_calls_than_allowed", makes_no_more_calls_than_allowed),
    ("account_faults_differ", faults_differ),
    ("account_data_of_another_shape_differs", data_of_another_shape_differs),
    ("account_stops_at_once_when_limited", stops_at_once_when_limited),
    ("account_whose_token_is_refused_is_asked_once", whose_token_is_refused_is_asked_once),
];

fn fake(document: Value) -> FakeAccount {
    FakeAccount::start(Options { document, ..Options::default() }).expect("a fake")
}

fn check(fake: &FakeAccount) -> Ran {
    let core = path(CORE.get().expect("a core"));
    run(&fake.control.token().expect("a token"), &["--vault", VAULT, "--core", core, "--loopback"])
}

fn is_as_expected() {
    let fake = fake(vault());
    let ran = check(&fake);
    ran.is_as_expected();
    assert!(ran.report.contains(", 0 differ, 2 not seen\n"), "{}", ran.report);
    assert!(ran.about("account.wrong-token").starts_with("not seen"), "{}", ran.report);
    let seen = fake.control.requests().expect("requests");
    assert!(seen.iter().all(|seen| seen.status == Some(200) || seen.path.contains("nosuch")), "{seen:?}");
    assert!(seen.len() <= ran.calls() && ran.calls() <= 40, "{} of {}", seen.len(), ran.report);
}

/// The texts of the vault, and all parts of the token.
fn secrets(fake: &FakeAccount) -> Vec<String> {
    let token = fake.control.token().expect("a token");
    let coded = token.strip_prefix("ops_").expect("a service account's token");
    let parts: Value = BASE64_URL_SAFE_NO_PAD
        .decode(coded.trim_end_matches('='))
        .map(|json| serde_json::from_slice(&json).expect("JSON"))
        .expect("base64");
    let mut all = canaries();
    leaves(&parts, &mut all);
    all.push(fake.address().port().to_string());
    all.push(token);
    all
}

fn leaves(json: &Value, all: &mut Vec<String>) {
    match json {
        Value::String(text) if !text.is_empty() => all.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| leaves(value, all)),
        Value::Object(entries) => {
            entries.values().filter(|value| **value != json!("sig")).for_each(|value| leaves(value, all))
        }
        _ => {}
    }
}

fn shows_nothing_of_the_vault() {
    let fake = fake(vault());
    let secrets: Vec<String> = secrets(&fake).into_iter().filter(|text| text.len() > 3).collect();
    let ran = check(&fake);
    ran.is_as_expected();
    ran.hides(&secrets);
    let item = format!("/api/v1/vault/{VAULT_ID}/item/");
    for fault in [
        Fault::of(Kind::MalformedJson).on("/api/v1/vaults"),
        Fault::of(Kind::WrongKey).on("/api/v3/vault"),
        Fault::of(Kind::OtherItem).on(&item),
        Fault::of(Kind::Status { code: 500, retry_after: None, message: Some("kwert-eins-zwei".into()) })
            .on(&item),
        Fault::of(Kind::EndSession).on(&item),
    ] {
        fake.control.clear_faults().and_then(|()| fake.control.fail(&fault)).expect("a fault");
        let ran = check(&fake);
        assert_ne!(ran.code, 0, "{fault:?}: {}", ran.report);
        ran.hides(&secrets);
    }
}

fn makes_no_more_calls_than_allowed() {
    let mut document = vault();
    let items = document["vaults"][0]["items"].as_array_mut().expect("items");
    for number in 0..120 {
        items.push(json!({ "title": format!("Weiterer {number}"), "category": "LOGIN", "fields": [] }));
    }
    let fake = fake(document);
    let ran = check(&fake);
    ran.is_as_expected();
    let seen = fake.control.requests().expect("requests").len();
    assert!(seen <= ran.calls() && ran.calls() <= 40, "{seen} of {}", ran.report);
    // also if batches fail, so that the resolver requests one item at a time
    fake.control.take_requests().expect("requests");
    fake.control
        .fail(&Fault::status(404).on(&format!("/api/v3/vault/{VAULT_ID}/items/batch")))
        .expect("a fault");
    let ran = check(&fake);
    assert_eq!(ran.code, 1, "{}{}", ran.report, ran.log);
    let seen = fake.control.requests().expect("requests").len();
    assert!(seen <= 40 && ran.calls() <= 40, "{seen} of {}", ran.report);
}

fn faults_differ() {
    let item = format!("/api/v1/vault/{VAULT_ID}/item/");
    let unknown = format!("{item}nosuch");
    let cases = [
        (Fault::status(500).on(&unknown), "account.unknown-item", "it is refused as away"),
        (Fault::status(500).on(&format!("{item}{FIRST_ID}")), "account.answers", "Item: refused as away"),
        (Fault::status(403).on("/api/v1/vault/nosuch"), "account.unknown-vault", "it is refused as denied"),
        (
            Fault::of(Kind::OtherItem).on(&format!("{item}{FIRST_ID}")),
            "account.item-alone",
            "it differs from the one in the batch",
        ),
        (Fault::of(Kind::WrongKey).on("/api/v1/vaults"), "account.answers", "Vaults: refused as malformed"),
        (Fault::of(Kind::MalformedJson).on("/api/v3/file"), "account.answers", "File: refused as"),
    ];
    let fake = fake(vault());
    for (fault, name, detail) in cases {
        fake.control.clear_faults().and_then(|()| fake.control.fail(&fault)).expect("a fault");
        check(&fake).differs(name, detail);
    }
}

fn data_of_another_shape_differs() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &str, &str)] = &[
        (
            |vault| vault["items"][1]["fields"][1]["type"] = json!("HOLOGRAM"),
            "account.field-type",
            "the unknown type Unsupported",
        ),
        (|vault| vault["items"][0]["version"] = json!("3"), "account.answers", "refused as"),
        (
            |vault| vault["items"][1]["fields"][5]["value"] = json!("KNQXEYLS"),
            "account.field-value",
            "of type Totp is not an otpauth URI",
        ),
        (|vault| vault["items"][0]["createdAt"] = json!("yesterday"), "account.answers", "refused as"),
    ];
    let fake = fake(vault());
    for (change, name, detail) in cases {
        let mut document = vault();
        change(&mut document["vaults"][0]);
        fake.control.load(&document).expect("another vault");
        check(&fake).differs(name, detail);
    }
}

fn stops_at_once_when_limited() {
    let fake = fake(vault());
    fake.control.fail(&Fault::status(429)).expect("a fault");
    check(&fake).differs("account.rate-limit", "the login is rate limited; nothing more was asked");
    assert_eq!(fake.control.take_requests().expect("requests").len(), 1);
    fake.control.clear_faults().expect("no faults");
    fake.control.fail(&Fault::status(429).on("/api/v1/vaults")).expect("a fault");
    check(&fake).differs("account.rate-limit", "Vaults: rate limited at call 1; nothing more was asked");
    let seen = fake.control.requests().expect("requests");
    assert_eq!(seen.iter().filter(|seen| seen.status == Some(429)).count(), 1, "{seen:?}");
}

fn whose_token_is_refused_is_asked_once() {
    let fake = fake(vault());
    let token = fake.control.token().expect("a token");
    fake.control.set_token("another account").expect("another token");
    let core = path(CORE.get().expect("a core"));
    let ran = run(&token, &["--vault", VAULT, "--core", core, "--loopback"]);
    assert_eq!((ran.code, ran.report.as_str()), (3, ""), "{}", ran.log);
    let starts = fake.control.requests().expect("requests");
    assert_eq!(starts.iter().filter(|seen| seen.path.ends_with("/auth/start")).count(), 1, "{starts:?}");
    let bad = run("ops_canary", &["--vault", VAULT, "--core", core]);
    assert_eq!(bad.code, 2, "{}", bad.log);
    bad.hides(&["canary".into()]);
}
