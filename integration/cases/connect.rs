//! Tests of failures of a Connect server: units wait for temporary failures, are refused for others, and
//! their journals name the cause.
use onecred_integration::{
    cases,
    fake_connect::{Fault, Kind, vault::fixture},
    machine::{Suite, wait_until},
    setup::Setup,
    stage::{Stage, consumer},
    theme::Theme,
};
use serde_json::json;
use std::time::Duration;

pub const THEME: Theme = Theme {
    name: "connect",
    stage: |suite| stage(suite, "120s", "always"),
    shared: false,
    cases: cases![
        a_unit_gets_its_secret,
        a_wrong_token_is_denied_at_once,
        a_missing_item_is_refused_at_once,
        a_malformed_answer_is_refused,
        an_endless_answer_is_refused,
        a_redirect_is_not_followed,
        another_item_than_asked_for_is_refused,
        a_passing_error_is_waited_out,
        a_limit_is_waited_out,
        a_unit_that_waits_is_told_so_in_its_journal,
        connect_comes_back_while_a_unit_waits,
        a_changed_value_is_seen_by_the_next_start,
        twenty_units_at_once_cost_one_fetch,
    ],
};

/// The same with a short deadline, for failures that do not end.
pub const IMPATIENT: Theme = Theme {
    name: "connect_gone",
    stage: |suite| stage(suite, "3s", "always"),
    shared: false,
    cases: cases![
        nobody_listens,
        no_answer_ever,
        nothing_but_errors,
        a_limit_that_outlasts_the_deadline,
        a_value_of_this_boot_outlives_connect,
        a_source_is_not_blamed_for_the_one_before,
    ],
};

/// With cached values.
pub const WARM: Theme = Theme {
    name: "warm",
    stage: |suite| stage(suite, "60s", "1h"),
    shared: false,
    cases: cases![
        a_second_start_asks_nothing,
        a_restarted_provider_asks_nothing,
        a_killed_provider_asks_nothing_in_its_next_life,
        an_early_consumer_gets_it_without_the_resolver,
        a_cold_secret_of_the_same_item_costs_one_call,
    ],
};

const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");

pub(crate) fn stage(suite: Suite, deadline: &str, max_age: &str) -> Stage {
    Setup::connect(suite)
        .default("deadline", deadline)
        .default("maxAge", max_age)
        .secret("password", "op://My Vault/db/password", &["app*"])
        .secret("username", "op://My Vault/db/username", &["app*"])
        .secret("nowhere", "op://My Vault/nowhere/password", &["app*"])
        .stage()
}

#[track_caller]
fn fails_with(stage: &Stage, fault: &Fault) {
    stage.connect().fail(fault).unwrap_or_else(|error| panic!("{error}"));
}

/// Starts a consumer, and returns when it waits for Connect.
#[track_caller]
fn start_and_wait_for_a_call(stage: &Stage, unit: &str) {
    let before = stage.calls().len();
    stage.units([(unit, consumer("", &["password"]).as_str())]);
    stage.run(&["systemctl", "start", "--no-block", unit]).ok();
    wait_until("Connect is asked", || stage.calls().len() > before);
}

fn a_unit_gets_its_secret(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD, ("username", b"bob")]);
}

fn a_wrong_token_is_denied_at_once(stage: &Stage) {
    stage.connect().set_token("another").unwrap_or_else(|error| panic!("{error}"));
    stage.refuses("app.service", "", "password", &["denied", "op://My Vault/db/password"]);
}

fn a_missing_item_is_refused_at_once(stage: &Stage) {
    stage.refuses("app.service", "", "nowhere", &["no item", "op://My Vault/nowhere/password"]);
}

fn a_malformed_answer_is_refused(stage: &Stage) {
    fails_with(stage, &Fault::of(Kind::MalformedJson));
    stage.refuses("app.service", "", "password", &["malformed", "op://My Vault/db/password"]);
}

fn an_endless_answer_is_refused(stage: &Stage) {
    fails_with(stage, &Fault::of(Kind::Huge { bytes: 1 << 30, declared: false }));
    stage.refuses("app.service", "", "password", &["too large"]);
}

fn a_redirect_is_not_followed(stage: &Stage) {
    let elsewhere = "http://127.0.0.1:8080/elsewhere".to_owned();
    fails_with(stage, &Fault::of(Kind::Redirect { code: 302, to: elsewhere }).on("/v1"));
    stage.refuses("app.service", "", "password", &["op://My Vault/db/password"]);
    assert!(stage.calls().iter().all(|call| call.path.starts_with("/v1/")), "{:?}", stage.calls());
}

fn another_item_than_asked_for_is_refused(stage: &Stage) {
    fails_with(stage, &Fault::of(Kind::OtherItem));
    stage.refuses("app.service", "", "password", &["malformed"]);
}

fn a_passing_error_is_waited_out(stage: &Stage) {
    fails_with(stage, &Fault::status(503).times(2));
    fails_with(stage, &Fault::of(Kind::Reset { at: 0 }).times(1));
    stage.gets("app.service", "", &[PASSWORD]);
}

fn a_limit_is_waited_out(stage: &Stage) {
    fails_with(stage, &Fault::retry_after(429, "1").times(1));
    stage.gets("app.service", "", &[PASSWORD]);
}

fn a_unit_that_waits_is_told_so_in_its_journal(stage: &Stage) {
    fails_with(stage, &Fault::status(503));
    start_and_wait_for_a_call(stage, "app.service");
    stage.waits_for_line("app.service", "]: credential password for app.service is waiting for 1Password");
    stage.connect().clear_faults().unwrap_or_else(|error| panic!("{error}"));
    stage.got("app.service", &[PASSWORD]);
    let journal = stage.journal("app.service");
    assert_eq!(journal.matches("is waiting for 1Password").count(), 1, "{journal}");
}

fn connect_comes_back_while_a_unit_waits(stage: &Stage) {
    stage.connect_goes();
    stage.units([("app.service", consumer("", &["password"]).as_str())]);
    stage.run(&["systemctl", "start", "--no-block", "app"]).ok();
    stage.waits_for_line("app.service", "is waiting for 1Password");
    stage.connect_comes(&fixture());
    stage.got("app.service", &[PASSWORD]);
}

fn a_changed_value_is_seen_by_the_next_start(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    stage.connect().set("My Vault", "db", "password", "changed").unwrap_or_else(|error| panic!("{error}"));
    stage.starts("app.service", &[("password", b"changed")]);
}

fn twenty_units_at_once_cost_one_fetch(stage: &Stage) {
    fails_with(stage, &Fault::delay(Duration::from_secs(1)));
    let names: Vec<_> = (0..20).map(|n| format!("app-{n}.service")).collect();
    let text = consumer("", &["password"]);
    stage.units(names.iter().map(|name| (name.as_str(), text.as_str())));
    stage
        .run(&[&["systemctl", "start"][..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat())
        .ok();
    for name in &names {
        stage.got(name, &[PASSWORD]);
    }
    let fetches = stage.calls().iter().filter(|call| call.path.contains("/items/")).count();
    assert!(fetches <= 2, "{fetches} fetches of one item: {:?}", stage.calls());
}

fn nobody_listens(stage: &Stage) {
    stage.connect_goes();
    stage.refuses("app.service", "", "password", &["away", "op://My Vault/db/password"]);
}

fn no_answer_ever(stage: &Stage) {
    fails_with(stage, &Fault::of(Kind::Hang));
    stage.refuses("app.service", "", "password", &["away"]);
}

fn nothing_but_errors(stage: &Stage) {
    fails_with(stage, &Fault::status(500));
    stage.refuses("app.service", "", "password", &["away"]);
}

fn a_limit_that_outlasts_the_deadline(stage: &Stage) {
    fails_with(stage, &Fault::retry_after(429, "3600"));
    stage.refuses("app.service", "", "password", &["rate limited"]);
}

fn a_value_of_this_boot_outlives_connect(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    stage.connect_goes();
    stage.starts("app.service", &[PASSWORD]);
    // A value that was never fetched is different. A new resolver does not remember that the item was
    // missing.
    stage.sh("systemctl restart onecred-resolver.service").ok();
    stage.refuses("app-late.service", "", "nowhere", &["away"]);
}

#[track_caller]
fn asks_nothing(stage: &Stage, work: impl FnOnce()) {
    let before = stage.calls().len();
    work();
    let asked = &stage.calls()[before..];
    assert!(asked.is_empty(), "1Password was asked: {asked:?}");
}

fn a_second_start_asks_nothing(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    asks_nothing(stage, || stage.gets("app-two.service", "", &[PASSWORD]));
}

fn a_restarted_provider_asks_nothing(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    asks_nothing(stage, || {
        stage.run(&["systemctl", "restart", "onecred.service", "onecred-resolver.service"]).ok();
        stage.gets("app-two.service", "", &[PASSWORD]);
    });
}

fn a_killed_provider_asks_nothing_in_its_next_life(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    asks_nothing(stage, || {
        stage.run(&["systemctl", "kill", "-s", "KILL", "onecred.service"]).ok();
        stage.gets("app-two.service", "", &[PASSWORD]);
    });
}

fn an_early_consumer_gets_it_without_the_resolver(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    stage.connect_goes();
    stage.run(&["systemctl", "stop", "onecred-resolver.socket", "onecred-resolver.service"]).ok();
    let early = "[Unit]\nDefaultDependencies=no\nBefore=systemd-tmpfiles-setup.service\n";
    let text = format!("{early}{}", consumer("", &["password"]));
    stage.units([("app-early.service", text.as_str())]);
    stage.starts("app-early.service", &[PASSWORD]);
}

fn a_cold_secret_of_the_same_item_costs_one_call(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    let before = stage.calls().len();
    stage.gets("app-two.service", "", &[("username", b"bob")]);
    assert!(stage.calls().len() <= before + 1, "{:?}", &stage.calls()[before..]);
}

fn a_source_is_not_blamed_for_the_one_before(stage: &Stage) {
    let config = |source: &serde_json::Value| {
        let secret =
            json!({ "name": "password", "reference": "op://My Vault/db/password", "units": ["app*"] });
        let config = json!({ "source": source, "defaults": { "deadline": "3s" }, "secrets": [secret] });
        stage.write("/etc/onecred/secrets.json", config.to_string(), 0o644);
        stage.sh("onecred reload").ok();
    };
    let status = || stage.sh("onecred status").stdout();
    stage.connect_goes();
    stage.refuses("app-connect.service", "", "password", &["away: "]);
    wait_until("the server is blamed", || status().contains("Connect at"));

    // a service account without a token
    stage.sh("rm /etc/onecred/token; systemctl restart onecred-resolver.service").ok();
    config(&json!({ "kind": "service-account" }));
    assert!(status().contains("no token") && !status().contains("Connect at"), "{}", status());
    stage.refuses("app-account.service", "", "password", &["no token", "onecred token set"]);
    assert!(status().contains("no token") && !status().contains("Connect at"), "{}", status());
    let check = stage.sh("onecred token check").fails();
    assert!(check.contains("source default has no token: "), "{check}");

    // a vault file needs no token
    stage.write("/etc/onecred/vault.json", json!({ "vaults": [] }).to_string(), 0o644);
    config(&json!({ "kind": "file", "path": "/etc/onecred/vault.json" }));
    assert!(status().contains("default: no trouble"), "{}", status());
    stage.refuses("app-file.service", "", "password", &["no vault \"My Vault\""]);
    assert!(!status().contains("token"), "{}", status());
    let check = stage.sh("onecred token check").ok();
    assert!(check.contains("/etc/onecred/vault.json") && check.contains("not needed"), "{check}");
    stage.sh("rm /etc/onecred/vault.json").ok();
    assert!(
        stage.sh("onecred check").fails().contains("the vault file /etc/onecred/vault.json does not exist")
    );
    let check = stage.sh("onecred token check").fails();
    assert!(check.contains("source default (which needs no token) can't be read: "), "{check}");
    assert!(!stage.journal("onecred").contains("answers again"), "no source has answered");
}
