//! Tests the check of a Connect server.

use std::fs;
use std::net::TcpListener;

use onecred_integration::fake_connect::{DEFAULT_TOKEN, FakeConnect, Fault, Kind, Options, TlsFault};
use serde_json::{Value, json};

use crate::vault::{FIRST_ID, VAULT, VAULT_ID, canaries, vault};
use crate::{Case, Ran, path, program, run};

pub(crate) const CASES: &[Case] = &[
    ("connect_is_as_expected", is_as_expected),
    ("connect_over_tls_with_the_token_in_a_credential", over_tls_with_the_token_in_a_credential),
    ("connect_shows_nothing_of_the_vault", shows_nothing_of_the_vault),
    ("connect_makes_no_more_calls_than_allowed", makes_no_more_calls_than_allowed),
    ("connect_sends_a_wrong_token_once_and_last", sends_a_wrong_token_once_and_last),
    ("connect_faults_differ", faults_differ),
    ("connect_data_of_another_shape_differs", data_of_another_shape_differs),
    ("connect_stops_at_once_when_limited", stops_at_once_when_limited),
    ("connect_retries_of_the_resolver_stay_within_the_limit", retries_of_the_resolver_stay_within_the_limit),
    ("connect_that_is_not_there", not_there),
    ("connect_usage", usage),
];

fn fake(document: Value) -> FakeConnect {
    FakeConnect::start(Options { document, ..Options::default() }).expect("a fake")
}

fn check(fake: &FakeConnect, more: &[&str]) -> Ran {
    run(DEFAULT_TOKEN, &[&["--vault", VAULT, "--connect", &fake.url()], more].concat())
}

fn is_as_expected() {
    let fake = fake(vault());
    let ran = check(&fake, &[]);
    ran.is_as_expected();
    assert!(ran.report.contains(", 0 differ, 0 not seen\n"), "{}", ran.report);
    assert!(ran.report.contains("version by header: 1.7.1"), "{}", ran.report);
    assert!(ran.report.contains("items in the list: 4, read: 5"), "{}", ran.report);
    let seen = fake.control.requests().expect("requests");
    assert_eq!((ran.calls(), seen.iter().all(|seen| seen.method == "GET")), (seen.len(), true), "{seen:?}");
    let by_id = run(DEFAULT_TOKEN, &["--vault", VAULT_ID, "--connect", &fake.url()]);
    by_id.is_as_expected();
}

fn over_tls_with_the_token_in_a_credential() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { document: vault(), tls: Some(folder.path().to_owned()), ..Options::default() };
    let fake = FakeConnect::start(options.clone()).expect("a fake");
    fs::write(folder.path().join("token"), DEFAULT_TOKEN).expect("a credential");
    let arguments = ["--vault", VAULT, "--connect", &fake.url(), "--ca-file", path(fake.ca().expect("a CA"))];
    let ran =
        Ran::of(program(&arguments).env("CREDENTIALS_DIRECTORY", folder.path()).output().expect("it runs"));
    ran.is_as_expected();
    assert!(ran.report.contains("answers in HTTP/2.0"), "{}", ran.report);
    drop(fake);
    let fake =
        FakeConnect::start(Options { tls_fault: Some(TlsFault::WrongHost), ..options }).expect("a fake");
    let arguments = ["--vault", VAULT, "--connect", &fake.url(), "--ca-file", path(fake.ca().expect("a CA"))];
    let ran = run(DEFAULT_TOKEN, &arguments);
    assert_eq!((ran.code, fake.control.requests().expect("requests").len()), (3, 0), "{}", ran.log);
}

/// With every fault, at every place.
fn shows_nothing_of_the_vault() {
    let fake = fake(vault());
    let mut secrets = canaries();
    secrets.extend([DEFAULT_TOKEN.to_owned(), fake.address().to_string(), fake.address().port().to_string()]);
    assert!(secrets.len() > 100, "{secrets:?}");
    let ran = check(&fake, &[]);
    ran.is_as_expected();
    ran.hides(&secrets);
    let everywhere = [
        Fault::of(Kind::MalformedJson),
        Fault::of(Kind::DuplicateKeys),
        Fault::of(Kind::OtherItem),
        Fault::of(Kind::InvalidUtf8),
        Fault::of(Kind::Truncate { at: 40 }).after(4),
        Fault::of(Kind::Redirect { code: 302, to: "https://kbeispiel.example/kpfad".into() }).after(2),
        Fault::of(Kind::Status { code: 500, retry_after: None, message: Some("kwert-eins-zwei".into()) }).after(6),
        Fault::of(Kind::ContentType { value: "kklartext/kname".into() }),
        body(200, r#"[{"id":"kvaultkvaultkvaultkvault23","name":"Kanarie Tresor","Kanarie":"kgeheim","type":"kgeheim"}]"#).after(2),
    ];
    for fault in everywhere {
        fake.control.clear_faults().and_then(|()| fake.control.fail(&fault)).expect("a fault");
        let ran = check(&fake, &[]);
        assert_ne!(ran.code, 0, "{fault:?}: {}", ran.report);
        ran.hides(&secrets);
    }
    fake.control.clear_faults().expect("no faults");
    let other = run("kfalsches-token", &["--vault", VAULT, "--connect", &fake.url()]);
    assert_eq!(other.code, 3, "{}", other.log);
    other.hides(&[secrets, vec!["kfalsches".into()]].concat());
}

fn makes_no_more_calls_than_allowed() {
    let mut document = vault();
    let items = document["vaults"][0]["items"].as_array_mut().expect("items");
    for number in 0..60 {
        items.push(json!({ "title": format!("Weiterer {number}"), "category": "LOGIN", "fields": [
            { "id": "kfeld", "type": "CONCEALED", "label": "kfeld", "value": "kwert" },
        ] }));
    }
    let fake = fake(document);
    for (arguments, most) in [(vec![], 40), (vec!["--calls", "25"], 25)] {
        fake.control.take_requests().expect("requests");
        let ran = check(&fake, &arguments);
        ran.is_as_expected();
        let seen = fake.control.take_requests().expect("requests").len();
        assert!(seen <= most && seen + 6 >= most && ran.calls() == seen, "{seen} of {most}: {}", ran.report);
    }
}

fn sends_a_wrong_token_once_and_last() {
    let fake = fake(vault());
    check(&fake, &[]);
    let seen = fake.control.requests().expect("requests");
    let refused: Vec<usize> = (0..seen.len()).filter(|at| seen[*at].status == Some(401)).collect();
    assert_eq!(refused, [seen.len() - 1]);
}

fn body(code: u16, text: &str) -> Fault {
    Fault::of(Kind::Body { code, content_type: "application/json".into(), text: text.into() })
}

/// Each fault, and the expectation that must notice it.
fn faults_differ() {
    let unknown_item = format!("/v1/vaults/{VAULT_ID}/items/nosuch");
    let item = format!("/v1/vaults/{VAULT_ID}/items/{FIRST_ID}");
    let files = format!("/v1/vaults/{VAULT_ID}/items/kfourthkfourthkfourthkfou2/files");
    let without = |name: &str| Fault::of(Kind::WithoutHeader { name: name.into() });
    let cases = [
        (
            without("1password-connect-version").exactly_on("/v1/vaults"),
            "connect.version-header",
            "Vaults: the header is missing",
        ),
        (
            without("content-type").exactly_on("/health"),
            "connect.json",
            "Health: the header Content-Type is missing",
        ),
        (without("content-disposition"), "connect.file-content", "Content-Disposition does not name a file"),
        (
            Fault::of(Kind::ContentType { value: "text/html".into() }).on(&files),
            "connect.file-content",
            "the content type is text/html",
        ),
        (body(200, "pong").on("/heartbeat"), "connect.heartbeat", "the body is not a dot (1-15 long)"),
        (
            body(200, r#"{"name":"Other","version":"new"}"#).on("/health"),
            "connect.health",
            "the version is not of the form 1.7.1",
        ),
        (Fault::status(404).exactly_on("/health"), "connect.health", "the status is 404"),
        (
            body(404, r#"{"error":"gone"}"#).on(&unknown_item),
            "connect.unknown-item",
            r#"the error has no "message""#,
        ),
        (
            body(404, r#"{"status":404,"message":"nothing here"}"#).on(&unknown_item),
            "connect.unknown-item",
            "the message has other words (1-15 long)",
        ),
        (
            body(404, r#"{"status":"404","message":"gone"}"#).on(&unknown_item),
            "connect.unknown-item",
            r#""status" of the error is a string"#,
        ),
        (
            body(403, r#"{"status":404,"message":"gone"}"#).on(&unknown_item),
            "connect.unknown-item",
            "the status is 403",
        ),
        (Fault::status(500).on(&unknown_item), "connect.rate-limit", "UnknownItem: status 500"),
        (Fault::of(Kind::Gzip).exactly_on(&item), "connect.framing", "Item: the answer is compressed"),
        (
            Fault::of(Kind::Gzip).exactly_on(&item).after(1),
            "onecred.by-id",
            "CONCEALED: refused as malformed",
        ),
        (Fault::of(Kind::Close { at: 0 }).exactly_on("/health"), "connect.answers", "Health: "),
        (
            Fault::of(Kind::OtherItem).exactly_on(&item),
            "connect.item",
            "another item came than was asked for",
        ),
    ];
    let fake = fake(vault());
    for (fault, name, detail) in cases {
        fake.control.clear_faults().and_then(|()| fake.control.fail(&fault)).expect("a fault");
        check(&fake, &[]).differs(name, detail);
    }
}

/// Each change of the data, and the expectation that must notice it.
fn data_of_another_shape_differs() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &str, &str)] = &[
        (
            |vault| vault["contentVersion"] = json!("1"),
            "connect.vault",
            r#""contentVersion" of a vault is a string"#,
        ),
        (
            |vault| vault["items"][0]["version"] = json!("3"),
            "connect.overview",
            r#""version" of an item in the list is a string"#,
        ),
        (
            |vault| vault["items"][0]["state"] = json!("FROZEN"),
            "connect.overview",
            "the unknown state FROZEN",
        ),
        (
            |vault| vault["items"][0]["category"] = json!("CRYPTO_WALLET"),
            "connect.category",
            "the unknown category CRYPTO_WALLET",
        ),
        (
            |vault| vault["items"][0]["fields"][0]["type"] = json!("HOLOGRAM"),
            "connect.field-type",
            "the unknown type HOLOGRAM",
        ),
        (
            |vault| vault["items"][0]["fields"][0]["type"] = json!("kgeheim"),
            "connect.field-type",
            "(a word that is not shown)",
        ),
        (
            |vault| vault["items"][0]["fields"][0]["purpose"] = json!("SIGNATURE"),
            "connect.field-purpose",
            "the unknown purpose SIGNATURE",
        ),
        (
            |vault| vault["items"][0]["fields"][0]["value"] = json!(17),
            "connect.field-value",
            "of type STRING is not a string",
        ),
        (
            |vault| vault["items"][0]["fields"][0]["label"] = json!(17),
            "connect.field",
            r#""label" of a field is a number"#,
        ),
        (
            |vault| vault["items"][1]["fields"][5]["value"] = json!("KNQXEYLS"),
            "connect.field-value",
            "of type OTP is not an otpauth URI (1-15 long)",
        ),
        (|vault| vault["items"][1]["fields"][6]["value"] = json!("5.4.2024"), "onecred.by-id", "DATE: "),
        (
            |vault| vault["items"][1]["sections"] = json!([]),
            "connect.section",
            "a section that the item does not list",
        ),
        (
            |vault| vault["items"][2]["fields"][1]["value"] = json!("not a key"),
            "onecred.openssh",
            "SSHKEY: refused as malformed",
        ),
    ];
    let fake = fake(vault());
    for (change, name, detail) in cases {
        let mut document = vault();
        change(&mut document["vaults"][0]);
        fake.control.load(&document).expect("another vault");
        check(&fake, &[]).differs(name, detail);
    }
}

fn stops_at_once_when_limited() {
    let fake = fake(vault());
    for after in [0, 3] {
        fake.control.take_requests().expect("requests");
        fake.control.clear_faults().expect("no faults");
        fake.control.fail(&Fault::retry_after(429, "120").after(after)).expect("a fault");
        let ran = check(&fake, &[]);
        let detail = format!(
            "status 429 at answer {}, with Retry-After in seconds; nothing more was asked",
            after + 1
        );
        ran.differs("connect.rate-limit", &detail);
        assert_eq!(fake.control.requests().expect("requests").len(), after as usize + 1);
    }
}

/// The resolver retries temporary failures, and each retry counts.
fn retries_of_the_resolver_stay_within_the_limit() {
    let fake = fake(vault());
    let items = format!("/v1/vaults/{VAULT_ID}/items/");
    let read_before = 3 + 1; // the items that 25 calls allow, and the unknown one
    fake.control.fail(&Fault::status(503).on(&items).after(read_before)).expect("a fault");
    let ran = check(&fake, &["--calls", "25"]);
    ran.differs("onecred.by-id", "CONCEALED: refused as ");
    let seen = fake.control.requests().expect("requests");
    assert_eq!((seen.len(), ran.calls()), (25, 25), "{}", ran.report);
    assert!(ran.report.contains("calls left out: 1"), "the wrong token: {}", ran.report);
}

fn not_there() {
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let ran = run(DEFAULT_TOKEN, &["--vault", VAULT, "--connect", &format!("http://{address}")]);
    assert_eq!((ran.code, ran.report.as_str()), (3, ""));
    assert!(ran.log.contains("no connection"), "{}", ran.log);
    ran.hides(&[address.port().to_string()]);
}

fn usage() {
    let fake = fake(vault());
    let url = fake.url();
    let wrong = [
        (run(DEFAULT_TOKEN, &["--connect", &url]), "--vault is missing"),
        (run(DEFAULT_TOKEN, &["--vault", "No Such Vault", "--connect", &url]), "none of the 2 vaults"),
        (run(DEFAULT_TOKEN, &["--vault", VAULT, "--connect", &url, "--calls", "41"]), "from 25 to 40"),
        (run("", &["--vault", VAULT, "--connect", &url]), "the token's file is empty"),
        (
            Ran::of(program(&["--vault", VAULT, "--connect", &url]).output().expect("it runs")),
            "the token is missing",
        ),
        (
            Ran::of(
                program(&["--vault", VAULT, "--token", "ops_x"])
                    .env("OP_SERVICE_ACCOUNT_TOKEN", "ops_x")
                    .output()
                    .expect("it runs"),
            ),
            "an argument is not known",
        ),
    ];
    for (ran, why) in wrong {
        assert_eq!((ran.code, ran.report.as_str()), (2, ""), "{}", ran.log);
        assert!(ran.log.contains(why), "{}", ran.log);
    }
    let help = Ran::of(program(&["--help"]).output().expect("it runs"));
    assert!(
        help.code == 0
            && help.report.contains("exit status: 0 everything is as expected, 1 something differs"),
        "{}",
        help.report
    );
}
