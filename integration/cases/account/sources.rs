//! Tests of several sources: each secret comes from its own, and the failure of one does not affect the
//! others.
use super::{Account, CONFIG, configure, prepared};
use onecred_integration::{
    cases,
    fake_connect::vault::fixture,
    setup::{Setup, field, fixture_with},
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "account_sources",
    stage: |suite| {
        prepared(Setup::connect(suite)).plan(|plan| plan.file(super::LIBRARY, super::core(), 0o644)).stage()
    },
    shared: false,
    cases: cases![two_accounts_and_connect],
};

fn two_accounts_and_connect(stage: &Stage) {
    let connect = stage.sh("cat /etc/onecred/token; rm /etc/onecred/token").ok();
    let one = Account::comes(stage, 8443, fixture());
    let mut other = fixture_with([("theirs", vec![field("password", "of two")])]);
    other["vaults"][0]["items"][0]["fields"][1]["value"] = json!("also of two");
    let two = Account::comes(stage, 8444, other);
    let secret = |name: &str, source: &str, reference: &str| json!({ "name": name, "source": source, "reference": reference, "units": ["app*"], "deadline": "30s" });
    let mut secrets = [
        secret("of-one", "one", "op://My Vault/db/password"),
        secret("of-two", "two", "op://My Vault/db/password"),
        secret("theirs", "two", "op://My Vault/theirs/password"),
        secret("of-connect", "office", "op://My Vault/db/username"),
        secret("late", "two", "op://My Vault/multi/f1"),
        secret("late-of-one", "one", "op://My Vault/multi/f1"),
        secret("late-of-connect", "office", "op://My Vault/multi/f1"),
    ];
    secrets[4]["deadline"] = json!("5s"); // this one waits in vain
    let office = json!({ "kind": "connect", "url": "http://127.0.0.1:8080" });
    configure(
        stage,
        &json!({ "sources": { "one": one.source(), "two": two.source(), "office": office }, "secrets": secrets }),
    );

    let set = |source: &str, token: &str| {
        stage.run_with_input(&["onecred", "token", "set", "--source", source], token.as_bytes())
    };
    let unsaid = stage.run_with_input(&["onecred", "token", "set"], one.token().as_bytes()).fails();
    assert!(unsaid.contains("one") && unsaid.contains("two") && unsaid.contains("--source"), "{unsaid}");
    let wrong = set("office", &one.token()).fails();
    assert!(wrong.contains("service account") && wrong.contains("office"), "{wrong}");
    let said = set("one", &one.token()).ok();
    assert!(said.contains("source   one") && said.contains("/etc/onecred/one.token.cred"), "{said}");
    // one source has its token, the other does not
    stage.gets("app-one.service", "", &[("of-one", b"hunter2")]);
    stage.refuses(
        "app-two.service",
        "",
        "of-two",
        &["no token", "source two", "onecred token set --source two"],
    );
    set("two", &two.token()).ok();
    set("office", &connect).ok();
    let all: [(&str, &[u8]); 4] =
        [("of-one", b"hunter2"), ("of-two", b"also of two"), ("theirs", b"of two"), ("of-connect", b"bob")];
    stage.gets("app.service", "", &all);
    versions_can_be_compared(stage);
    for source in ["one", "two", "office"] {
        stage.sh(&format!("onecred token check --source {source}")).ok();
    }

    // source two stops: its cached value is served, its other value is not, and the other sources work
    drop(two);
    stage.starts("app.service", &all);
    let begun = stage.journal_cursor();
    stage.gets("app-others.service", "", &[("late-of-one", b"prodtok"), ("late-of-connect", b"prodtok")]);
    assert!(!stage.journal_since(&begun).contains("waiting for 1Password"), "others had to wait");
    stage.refuses("app-late.service", "", "late", &["away", "op://My Vault/multi/f1"]);
    assert!(stage.sh("onecred token check --source two").fails().contains("source two"));
    stage
        .sh(&format!(
            "test -s {CONFIG}; onecred token check --source one; onecred token check --source office"
        ))
        .ok();
}

/// A service account returns the time of a change, Connect a number.
fn versions_can_be_compared(stage: &Stage) {
    let list: Value = serde_json::from_str(&stage.sh("onecred list --json").ok()).expect("JSON");
    let version = |name: &str| {
        let secret = list.as_array().into_iter().flatten().find(|secret| secret["name"] == name);
        secret.and_then(|secret| secret["version"].as_str()).unwrap_or_default().to_owned()
    };
    assert_eq!(version("of-connect"), "1", "{list}");
    let of_account = version("of-one");
    let shape: String = of_account.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape.split(['.', 'Z']).next(), Some("9999-99-99T99:99:99"), "{of_account}");
    let text = stage.sh("onecred list").ok();
    assert!(text.contains(&of_account), "{text}");
    let refreshed = stage.sh("onecred refresh of-one").ok();
    assert!(refreshed.contains(&format!("version {of_account}")), "{refreshed}");
}
