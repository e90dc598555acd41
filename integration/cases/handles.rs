//! Tests of ordering handles whose files disappear. They fail with the reason. The units that require them
//! continue to run, but cannot start again without the file.
use onecred_integration::{
    cases,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "handles",
    stage,
    shared: false,
    cases: cases![
        a_handle_fails_when_its_file_goes_and_comes_back_with_it,
        the_handle_of_all_files_fails_when_one_goes_and_comes_back_with_it,
        a_file_that_went_while_the_provider_was_stopped,
        a_duplicated_item_removes_nothing,
        a_restart_is_withheld_while_a_handle_has_failed,
    ],
};

const VAULT: &str = "/etc/onecred/vault.json";
const CONFIG: &str = "/etc/onecred/secrets.json";
const HANDLE: &str = "onecred-file@db.service";
const ALL: &str = "onecred-publish.service";

fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .holding(vault(1, vec![item("pg", "b", "one"), item("other", "e", "first")]))
        .default("maxAge", "1s")
        .entry(db())
        .entry(json!({ "name": "other", "reference": "op://Servers/other/password", "units": ["app"], "restartUnits": ["app"] }))
        .stage();
    let needs =
        format!("[Unit]\nRequires={HANDLE}\nAfter={HANDLE}\n[Service]\nEnvironmentFile=/run/secrets/db\n");
    stage.units([
        ("app.service", format!("{needs}ExecStart=/bin/sleep infinity\n").as_str()),
        ("late.service", format!("{needs}Type=oneshot\nExecStart=/bin/true\n").as_str()),
        (
            "all.service",
            format!("[Unit]\nRequires={ALL}\nAfter={ALL}\n[Service]\nExecStart=/bin/sleep infinity\n")
                .as_str(),
        ),
    ]);
    stage.sh("systemctl start dbus.socket onecred.service app.service").ok();
    wait_until("the provider is on the bus", || stage.sh("onecred list").succeeded());
    assert_eq!(stage.read("/run/secrets/db"), b"one");
    stage
}

fn db() -> Value {
    json!({ "name": "db", "reference": "op://Servers/pg/password", "target": "/run/secrets/db" })
}

fn item(title: &str, id: &str, password: &str) -> Value {
    json!({ "id": id.repeat(26), "title": title, "category": "LOGIN", "version": 1, "fields": [
        { "id": "password", "label": "password", "type": "CONCEALED", "value": password } ] })
}

fn vault(version: u64, items: Vec<Value>) -> Value {
    json!({ "vaults": [{ "id": "a".repeat(26), "name": "Servers", "contentVersion": version, "items": items }] })
}

/// Changes the content of 1Password, and makes onecred look it up.
fn change(stage: &Stage, version: u64, items: Vec<Value>) {
    stage.write(VAULT, vault(version, items).to_string(), 0o640);
    stage.sh(&format!("chgrp onecred {VAULT} && {{ onecred refresh || true; }}")).ok();
}

fn configure(stage: &Stage, change: impl Fn(&mut Vec<Value>)) {
    let mut config: Value = serde_json::from_slice(&stage.read(CONFIG)).unwrap_or_default();
    config["secrets"].as_array_mut().into_iter().for_each(change);
    stage.write(CONFIG, config.to_string(), 0o644);
    stage.sh("systemctl reload onecred.service").ok();
}

fn waits_for_state(stage: &Stage, state: &str) {
    wait_until(&format!("{HANDLE} is {state}"), || stage.show(HANDLE, "ActiveState") == state);
}

/// The handle has failed for this reason, which is in its journal and those of its consumers. The running
/// unit is not affected.
fn has_failed(stage: &Stage, invocation: &str, reason: &str) {
    waits_for_state(stage, "failed");
    stage.sh("test ! -e /run/secrets/db").ok();
    for unit in [HANDLE, "app.service"] {
        wait_until(&format!("{unit}'s journal has the reason {reason}"), || {
            stage.journal(unit).contains(reason)
        });
    }
    stage.waits_for_line("app.service", &format!("requires {HANDLE}, which is refused"));
    assert_eq!(stage.show("app.service", "ActiveState"), "active");
    assert_eq!(stage.show("app.service", "InvocationID"), invocation, "it was restarted");
    stage.sh("systemctl start late.service").fails();
    assert_eq!(stage.show("late.service", "ActiveState"), "inactive", "it was tried without its file");
    wait_until("its journal has the reason", || stage.journal("late.service").contains(reason));
}

fn is_back(stage: &Stage) {
    waits_for_state(stage, "active");
    stage.sh("systemctl start late.service").ok();
    assert_eq!(stage.read("/run/secrets/db"), b"one");
}

fn a_handle_fails_when_its_file_goes_and_comes_back_with_it(stage: &Stage) {
    let invocation = stage.show("app.service", "InvocationID");
    let pg = || item("pg", "b", "one");
    change(stage, 2, vec![]);
    has_failed(stage, &invocation, "no item \"pg\" in vault \"Servers\"");
    change(stage, 3, vec![pg()]);
    is_back(stage);
    change(stage, 4, vec![item("pg-prod", "b", "one")]);
    has_failed(stage, &invocation, "no item \"pg\" in vault \"Servers\"");
    change(stage, 5, vec![pg()]);
    is_back(stage);
    configure(stage, |secrets| secrets.retain(|secret| secret["name"] != "db"));
    has_failed(stage, &invocation, "there is no secret or template \"db\" with a \"target\"");
    configure(stage, |secrets| secrets.push(db()));
    is_back(stage);
}

fn the_handle_of_all_files_fails_when_one_goes_and_comes_back_with_it(stage: &Stage) {
    stage.sh("systemctl start all.service").ok();
    let invocation = stage.show("all.service", "InvocationID");
    let waits_for =
        |state| wait_until(&format!("{ALL} is {state}"), || stage.show(ALL, "ActiveState") == state);
    change(stage, 2, vec![]);
    waits_for("failed");
    stage.waits_for_line(ALL, "no item \"pg\" in vault \"Servers\"");
    stage.waits_for_line("all.service", &format!("requires {ALL}, which is refused"));
    assert_eq!(stage.show("all.service", "InvocationID"), invocation, "it was restarted");
    change(stage, 3, vec![item("pg", "b", "one")]);
    waits_for("active");
}

fn a_file_that_went_while_the_provider_was_stopped(stage: &Stage) {
    let invocation = stage.show("app.service", "InvocationID");
    stage.write(VAULT, vault(2, vec![]).to_string(), 0o640);
    // the file was removed, and the process ended before it could update the handle
    stage.sh(&format!("chgrp onecred {VAULT}; systemctl stop onecred.service; rm /run/onecred/rw/secrets/db; rm -rf /run/onecred/store/*; systemctl start onecred.service")).ok();
    has_failed(stage, &invocation, "no item \"pg\" in vault \"Servers\"");
}

fn a_duplicated_item_removes_nothing(stage: &Stage) {
    let twins = || vec![item("pg", "b", "one"), item("pg", "c", "other")];
    change(stage, 2, twins());
    assert!(stage.sh("onecred status || true").ok().contains("several items of vault"), "it is not shown");
    assert_eq!(stage.show(HANDLE, "ActiveState"), "active");
    stage.sh(&format!("systemctl restart {HANDLE} app.service late.service")).ok();
    assert_eq!(stage.read("/run/secrets/db"), b"one");
    // the served item has changed: it is not certain which of the two is meant
    change(stage, 3, vec![item("pg", "b", "two"), item("pg", "c", "other")]);
    has_failed(stage, &stage.show("app.service", "InvocationID"), "several items of vault");
    change(stage, 4, vec![item("pg", "b", "one")]);
    is_back(stage);
}

fn a_restart_is_withheld_while_a_handle_has_failed(stage: &Stage) {
    let invocation = stage.show("app.service", "InvocationID");
    change(stage, 2, vec![item("other", "e", "first")]);
    has_failed(stage, &invocation, "no item \"pg\" in vault \"Servers\"");
    let other = |version: u64| {
        let mut item = item("other", "e", &format!("value {version}"));
        item["version"] = json!(version);
        item
    };
    change(stage, 3, vec![other(2)]);
    let line = stage.waits_for_line("app.service", "is not restarted although");
    assert!(line.contains(&format!("it requires {HANDLE}, which is failed")), "{line}");
    assert_eq!(stage.show("app.service", "InvocationID"), invocation);
    change(stage, 4, vec![item("pg", "b", "one"), other(2)]);
    wait_until("it is restarted", || stage.show("app.service", "InvocationID") != invocation);
    assert_eq!(stage.show("app.service", "ActiveState"), "active");
    is_back(stage);
}
