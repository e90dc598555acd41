//! Tests that values which systemd does not accept because of their size are refused with the reason, and
//! that every tool reports it.
use onecred_integration::{
    cases,
    fake_connect::vault::long_value,
    installed::{SEALED, SOCKET},
    machine::{Ran, Suite},
    setup::{Setup, field, fixture_with},
    stage::{Stage, consumer},
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "sizes",
    stage,
    shared: true,
    cases: cases![
        two_credentials_that_exceed_the_total,
        two_credentials_that_just_fit,
        two_credentials_that_fit_but_for_whole_pages,
        one_large_credential_and_several_exec_lines,
        every_tool_reports_what_units_are_refused,
        put_warns_at_once,
    ],
};

pub const STORE: Theme =
    Theme { name: "store", stage: store_stage, shared: false, cases: cases![a_store_that_cannot_be_written] };

const STORE_FOLDER: &str = "/run/onecred/store";
/// More than the sealed socket allows, and less than the plain one.
const PLAIN_ONLY: usize = 900_000;
/// More than either allows.
const HUGE: usize = 1_100_000;

/// Two of these exceed what systemd accepts for a unit.
const LARGE: usize = 600_000;
/// What remains beside one of them: in bytes with both IDs, and in pages of 4 KiB.
const REST_OF_BYTES: usize = (1 << 20) - LARGE - "large-1".len() - "rest-of-bytes".len();
const REST_OF_PAGES: usize = (1 << 20) - LARGE.next_multiple_of(4096);

fn stage(suite: Suite) -> Stage {
    let items = [
        ("large", LARGE),
        ("rest-of-bytes", REST_OF_BYTES),
        ("rest", REST_OF_PAGES),
        ("plain-only", PLAIN_ONLY),
        ("vast", HUGE),
        ("empty", 0),
    ];
    Setup::vault(suite)
        .default("maxAge", "session")
        .holding(fixture_with(items.map(|(title, size)| (title, vec![field("value", &long_value(size))]))))
        .secret("empty", "op://My Vault/empty/value", &["app*"])
        .entry(json!({ "name": "may-be-empty", "reference": "op://My Vault/empty/value", "units": ["app*"], "allowEmpty": true }))
        .secret("plain-only", "op://My Vault/plain-only/value", &["app*"])
        .secret("huge", "op://My Vault/vast/value", &["app*"])
        .entry(json!({ "name": "huge-file", "reference": "op://My Vault/vast/value", "target": "/run/secrets/huge" }))
        .secret("overridden", "op://My Vault/db/password", &["app*"])
        .secret("overridden-empty", "op://My Vault/db/password", &["app*"])
        .template(&json!({ "name": "of-empty", "content": "{{empty}}", "units": ["app*"] }))
        .secret("large-1", "op://My Vault/large/value", &["app*"])
        .secret("large-2", "op://My Vault/large/value", &["app*"])
        .secret("rest", "op://My Vault/rest/value", &["app*"])
        .secret("rest-of-bytes", "op://My Vault/rest-of-bytes/value", &["app*"])
        .stage()
}

/// A unit with these directives and IDs.
fn unit(lines: &str, asks: &[(&str, &str)]) -> String {
    let asks: String = asks
        .iter()
        .map(|(directive, id)| {
            let socket = if *directive == "LoadCredential" { SOCKET } else { SEALED };
            format!("{directive}={id}:{socket}\n")
        })
        .collect();
    consumer(&format!("{asks}{lines}"), &[])
}

const PLAIN: &str = "LoadCredential";
const ENCRYPTED: &str = "LoadCredentialEncrypted";

fn two_credentials_that_exceed_the_total(stage: &Stage) {
    for (name, one, other) in [
        ("app-plain.service", PLAIN, PLAIN),
        ("app-sealed.service", ENCRYPTED, ENCRYPTED),
        ("app-mixed.service", PLAIN, ENCRYPTED),
    ] {
        stage.units([(name, unit("", &[(one, "large-1"), (other, "large-2")]).as_str())]);
        stage.run(&["systemctl", "start", "--", name]).fails();
        stage.ended_243(name);
        // which of the two systemd requests first differs
        let line = stage.waits_for_line(name, &format!(" for {name} refused: "));
        for words in
            ["too large beside the unit's other credentials", "600000 bytes", "op://My Vault/large/value"]
        {
            assert!(line.contains(words), "{words:?} is not in the reason: {line}");
        }
    }
}

fn two_credentials_that_just_fit(stage: &Stage) {
    let (large, rest) = (long_value(LARGE), long_value(REST_OF_PAGES));
    let values = [("large-1", large.as_bytes()), ("rest", rest.as_bytes())];
    for (name, directive) in [("app-fit-plain.service", PLAIN), ("app-fit-sealed.service", ENCRYPTED)] {
        stage.units([(name, unit("", &[(directive, "large-1"), (directive, "rest")]).as_str())]);
        stage.starts(name, &values);
    }
}

/// Since 254, systemd keeps credentials in a tmpfs of 1 MiB, where whole pages count.
fn two_credentials_that_fit_but_for_whole_pages(stage: &Stage) {
    let name = "app-pages.service";
    stage.units([(name, unit("", &[(PLAIN, "large-1"), (PLAIN, "rest-of-bytes")]).as_str())]);
    if stage.suite.version().is_ok_and(|version| version < 254) {
        let (large, rest) = (long_value(LARGE), long_value(REST_OF_BYTES));
        return stage.starts(name, &[("large-1", large.as_bytes()), ("rest-of-bytes", rest.as_bytes())]);
    }
    stage.run(&["systemctl", "start", "--", name]).fails();
    stage.ended_243(name);
    let line = stage.waits_for_line(name, &format!(" for {name} refused: "));
    assert!(line.contains("too large beside the unit's other credentials"), "{line}");
}

/// systemd requests credentials again for each Exec line, in a new process each time.
fn one_large_credential_and_several_exec_lines(stage: &Stage) {
    let lines = "ExecStartPre=/bin/true\nExecStartPre=/bin/true\nExecStartPost=/bin/true\n";
    let name = "app-lines.service";
    stage.units([(name, unit(lines, &[(PLAIN, "large-1")]).as_str())]);
    stage.starts(name, &[("large-1", long_value(LARGE).as_bytes())]);
    stage.starts(name, &[("large-1", long_value(LARGE).as_bytes())]);
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("no JSON: {error}: {ran}"))
}

/// The object with this name in a list.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().into_iter().flatten().find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

fn every_tool_reports_what_units_are_refused(stage: &Stage) {
    stage.sh("systemctl start dbus.socket").ok();
    let ran = stage.sh("onecred refresh --json empty may-be-empty plain-only huge huge-file");
    assert_eq!(ran.code(), Some(1), "{ran}");
    let refreshed = json_of(&ran);
    for (name, failed) in [
        ("empty", true),
        ("may-be-empty", false),
        ("plain-only", false),
        ("huge", true),
        ("huge-file", false),
    ] {
        assert_eq!(named(&refreshed, name)["outcome"] == "failed", failed, "{name}: {refreshed}");
    }
    assert_eq!(named(&refreshed, "empty")["error"]["name"], "org.onecred.Error.Empty", "{refreshed}");
    assert_eq!(
        named(&refreshed, "plain-only")["warning"]["name"],
        "org.onecred.Error.TooLarge",
        "{refreshed}"
    );

    let list = json_of(&stage.sh("onecred list --json"));
    for (name, state, error) in [
        ("empty", "failing", json!("org.onecred.Error.Empty")),
        ("may-be-empty", "fresh", Value::Null),
        ("plain-only", "fresh", Value::Null),
        ("huge", "failing", json!("org.onecred.Error.TooLarge")),
        ("huge-file", "fresh", Value::Null),
    ] {
        let secret = named(&list, name);
        assert_eq!((&secret["state"], &secret["error"]["name"]), (&json!(state), &error), "{secret}");
    }
    assert_eq!(named(&list, "huge")["size"], HUGE, "{list}");
    let sealed_error = named(&list, "plain-only")["sealedError"].as_str().unwrap_or_default().to_owned();
    assert!(sealed_error.contains("900000 bytes, and systemd accepts 884640"), "{sealed_error}");
    let text = stage.sh("onecred list").ok();
    assert!(
        text.contains("the field is empty") && text.contains("too large for the sealed socket"),
        "{text}"
    );

    let metrics = stage.sh("onecred metrics").ok();
    for (name, state) in
        [("empty", "failing"), ("huge", "failing"), ("plain-only", "fresh"), ("of-empty", "failing")]
    {
        let sample = format!("onecred_secret_state{{secret=\"{name}\",state=\"{state}\"}} 1\n");
        assert!(metrics.contains(&sample), "{sample:?} is not in {metrics}");
    }
    let ran = stage.sh("onecred explain app empty");
    assert!(!ran.stdout().contains("app.service gets empty") && ran.stdout().contains("empty"), "{ran}");

    // and this is true
    stage.units([("app-plain-only.service", unit("", &[(PLAIN, "plain-only")]).as_str())]);
    stage.starts("app-plain-only.service", &[("plain-only", long_value(PLAIN_ONLY).as_bytes())]);
    for (name, directive, id, words) in [
        ("app-empty.service", PLAIN, "empty", "empty"),
        ("app-huge.service", PLAIN, "huge", "too large"),
        ("app-sealed-only.service", ENCRYPTED, "plain-only", "systemd accepts 884640"),
    ] {
        stage.units([(name, unit("", &[(directive, id)]).as_str())]);
        stage.run(&["systemctl", "start", "--", name]).fails();
        stage.was_refused(name, id, &[words]);
    }
}

fn put_warns_at_once(stage: &Stage) {
    stage.sh("systemctl start dbus.socket").ok();
    let put = |size: usize, name: &str| stage.sh(&format!("head -c {size} /dev/zero | onecred put {name}"));
    for (size, words) in [
        (7, None),
        (PLAIN_ONLY, Some("units that use the sealed socket are refused this value")),
        (HUGE, Some("units are refused this value: too large: the value has 1100000 bytes")),
    ] {
        let ran = put(size, "overridden");
        assert!(ran.succeeded(), "{ran}");
        match words {
            Some(words) => {
                assert!(ran.stderr().starts_with("warning: ") && ran.stderr().contains(words), "{ran}")
            }
            None => assert!(ran.stderr().is_empty(), "{ran}"),
        }
    }
    let list = json_of(&stage.sh("onecred list --json"));
    let secret = named(&list, "overridden");
    assert_eq!(
        (&secret["state"], &secret["error"]["name"]),
        (&json!("held"), &json!("org.onecred.Error.TooLarge"))
    );
    let said = stage.sh("onecred status").stdout();
    assert!(said.contains("overridden: too large"), "{said}");
    stage.sh("onecred release overridden").ok();

    let said = put(0, "overridden-empty").fails();
    assert!(said.contains("the value is empty"), "{said}");
    stage.sh("onecred put may-be-empty </dev/null").ok();
    stage.gets("app-put-empty.service", "", &[("may-be-empty", b"")]);
    stage.sh("onecred release may-be-empty").ok();
}

fn store_stage(suite: Suite) -> Stage {
    let items = [("small", 10), ("other", 10), ("long", 200_000)];
    Setup::vault(suite)
        .holding(fixture_with(items.map(|(title, size)| (title, vec![field("value", &long_value(size))]))))
        .secret("small", "op://My Vault/small/value", &["app*"])
        .secret("other", "op://My Vault/other/value", &["app*"])
        .secret("long", "op://My Vault/long/value", &["app*"])
        .stage()
}

#[track_caller]
fn refused_by_the_store(stage: &Stage, name: &str, id: &str, words: &str) {
    stage.refuses(name, "", id, &[&format!("store: can't write to the store {STORE_FOLDER}: {words}")]);
    let journal = stage.journal(name);
    assert!(!journal.contains("storeSize") && !journal.contains("too large"), "{journal}");
}

fn a_store_that_cannot_be_written(stage: &Stage) {
    stage.sh(&format!("systemctl start onecred.service && mount -o remount,ro {STORE_FOLDER}")).ok();
    refused_by_the_store(
        stage,
        "app-read-only.service",
        "small",
        "its file system is read-only; see why: findmnt",
    );
    stage.sh(&format!("mount -o remount,rw {STORE_FOLDER}")).ok();
    stage.gets("app-writable.service", "", &[("small", long_value(10).as_bytes())]);

    stage.sh(&format!("systemctl stop onecred.service && mount -t tmpfs -o size=64k,mode=0700,noswap tmpfs {STORE_FOLDER}")).ok();
    refused_by_the_store(stage, "app-full.service", "long", "no space left in its file system; enlarge");
    stage.gets("app-small.service", "", &[("other", long_value(10).as_bytes())]);
}
