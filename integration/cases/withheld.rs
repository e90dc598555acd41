//! Tests of restarts that are withheld because the unit would not start with the new values.
use onecred_integration::{
    cases,
    installed::SOCKET,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};
use std::fs;

pub const THEME: Theme = Theme {
    name: "withheld",
    stage,
    shared: false,
    cases: cases![
        a_password_that_was_emptied,
        a_password_that_is_too_large,
        a_field_that_was_renamed_beside_one_that_changed,
        what_is_withheld_outlives_the_provider,
        a_unit_that_was_stopped_since_is_left_alone,
        duplicated_deleted_and_renamed_items_restart_nothing,
        what_was_made_again_with_another_value_restarts_units,
        a_unit_that_restarts_with_another_is_judged_too,
        an_environment_file_that_is_gone_is_a_reason_too,
    ],
};

const CONFIG: &str = "/etc/onecred/secrets.json";
const VAULT: &str = "/etc/onecred/vault.json";
const STATUS: &str = "onecred status || true";
const PROPERTY: &str = "busctl get-property org.onecred.Credentials1 /org/onecred/Credentials1/secret";

fn stage(suite: Suite) -> Stage {
    let secret = |name: &str, field: &str| json!({ "name": name, "reference": format!("op://Servers/pg/{field}"), "units": ["app"], "restartUnits": ["app"] });
    let stage = Setup::vault(suite)
        .holding(vault(1, vec![item("pg", "b", "alice", "one", "password")]))
        .default("maxAge", "1s")
        .entry(secret("user", "username"))
        .entry(secret("password", "password"))
        .stage();
    let unit = format!(
        "[Service]\nType=exec\nReadWritePaths=/srv/out\nLoadCredential=user:{SOCKET}\nLoadCredential=password:{SOCKET}\n\
         ExecStartPre=/bin/sh -c 'echo \"$(cat $CREDENTIALS_DIRECTORY/user)/$(cat $CREDENTIALS_DIRECTORY/password | head -c 9)\" >>/srv/out/starts'\n\
         ExecStart=/bin/sleep infinity\n"
    );
    stage.units([("app.service", unit.as_str())]);
    stage.sh("systemctl start dbus.socket onecred.service app.service").ok();
    wait_until("the provider is on the bus", || stage.sh("onecred refresh").succeeded());
    assert_eq!(starts(&stage), ["alice/one"]);
    stage
}

fn item(title: &str, id: &str, user: &str, password: &str, label: &str) -> Value {
    let field = if label == "password" { "password" } else { "other" };
    json!({ "id": id.repeat(26), "title": title, "category": "LOGIN", "version": 1, "fields": [
        { "id": "username", "label": "username", "type": "STRING", "value": user },
        { "id": field, "label": label, "type": "CONCEALED", "value": password } ] })
}

fn vault(version: u64, mut items: Vec<Value>) -> Value {
    items.iter_mut().for_each(|item| item["version"] = json!(version));
    let id = "a".repeat(26);
    json!({ "vaults": [{ "id": id, "name": "Servers", "contentVersion": version, "items": items }] })
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

fn starts(stage: &Stage) -> Vec<String> {
    let text = fs::read_to_string(stage.root().join("srv/out/starts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The restart is withheld for this reason: the unit continues to run, its journal has one line, and every
/// tool shows it.
#[track_caller]
fn is_withheld(stage: &Stage, secret: &str, reason: &str) {
    let line = stage.waits_for_line("app.service", "is not restarted although");
    assert!(line.contains(reason) && line.contains(&format!("secret {secret} has changed")), "{line}");
    wait_until("the restart is shown as withheld", || stage.sh(STATUS).ok().contains("withheld"));
    for command in [
        STATUS.to_owned(),
        "onecred list".to_owned(),
        "onecred refresh --dry-run".to_owned(),
        format!("{PROPERTY}/{secret} org.onecred.Credentials1.Secret Withheld"),
    ] {
        // tables wrap long lines
        let shown = stage.sh(&command).ok().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains("app.service") && shown.contains(reason), "{command}: {shown}");
    }
    assert_eq!(stage.show("app.service", "ActiveState"), "active");
    assert_eq!(starts(stage), ["alice/one"]);
}

/// Nothing is withheld any more, and the unit was restarted once.
#[track_caller]
fn is_restarted(stage: &Stage, with: &str) {
    wait_until("the unit was restarted", || starts(stage).len() == 2);
    assert_eq!(starts(stage), ["alice/one", with]);
    stage.waits_for_line("app.service", "was restarted, since secret");
    assert!(!stage.sh("onecred list").ok().contains("withheld"));
    assert_eq!(stage.journal("app.service").matches("is not restarted although").count(), 1);
}

fn a_password_that_was_emptied(stage: &Stage) {
    change(stage, 2, vec![item("pg", "b", "alice", "", "password")]);
    is_withheld(stage, "password", "empty");
    change(stage, 3, vec![item("pg", "b", "alice", "two", "password")]);
    is_restarted(stage, "alice/two");
}

fn a_password_that_is_too_large(stage: &Stage) {
    change(stage, 2, vec![item("pg", "b", "alice", &"x".repeat(1_100_000), "password")]);
    is_withheld(stage, "password", "too large");
    change(stage, 3, vec![item("pg", "b", "alice", "two", "password")]);
    is_restarted(stage, "alice/two");
}

fn a_field_that_was_renamed_beside_one_that_changed(stage: &Stage) {
    change(stage, 2, vec![item("pg", "b", "bob", "two", "db password")]);
    is_withheld(stage, "user", "not found: no field");
    change(stage, 3, vec![item("pg", "b", "bob", "two", "password")]);
    is_restarted(stage, "bob/two");
}

fn what_is_withheld_outlives_the_provider(stage: &Stage) {
    change(stage, 2, vec![item("pg", "b", "alice", "", "password")]);
    is_withheld(stage, "password", "empty");
    stage.sh("systemctl restart onecred.service").ok();
    wait_until("the provider is on the bus", || stage.sh("onecred list").succeeded());
    is_withheld(stage, "password", "empty");
    change(stage, 3, vec![item("pg", "b", "alice", "two", "password")]);
    is_restarted(stage, "alice/two");
}

fn a_unit_that_was_stopped_since_is_left_alone(stage: &Stage) {
    change(stage, 2, vec![item("pg", "b", "alice", "", "password")]);
    is_withheld(stage, "password", "empty");
    stage.sh("systemctl stop app.service").ok();
    change(stage, 3, vec![item("pg", "b", "alice", "two", "password")]);
    wait_until("nothing is withheld", || !stage.sh("onecred list").ok().contains("withheld"));
    assert_eq!(stage.show("app.service", "ActiveState"), "inactive");
    assert_eq!(starts(stage), ["alice/one"]);
}

fn duplicated_deleted_and_renamed_items_restart_nothing(stage: &Stage) {
    let pg = || item("pg", "b", "alice", "one", "password");
    let mut version = 1;
    for items in [
        vec![pg(), item("pg", "c", "carol", "other", "password")],
        vec![],
        vec![item("pg-prod", "b", "alice", "one", "password")],
    ] {
        version += 1;
        change(stage, version, items);
        assert!(stage.sh(STATUS).ok().contains("failing"));
        version += 1;
        change(stage, version, vec![pg()]);
    }
    // a change with a visible effect: by then the earlier changes have been handled
    change(stage, version + 1, vec![item("pg", "b", "alice", "two", "password")]);
    wait_until("the unit was restarted", || starts(stage).len() == 2);
    assert_eq!(starts(stage), ["alice/one", "alice/two"]);
    let journal = stage.journal("app.service");
    assert!(!journal.contains("is not restarted"), "{journal}");
}

fn what_was_made_again_with_another_value_restarts_units(stage: &Stage) {
    change(stage, 2, vec![]);
    assert!(stage.sh(STATUS).ok().contains("failing"));
    change(stage, 3, vec![item("pg", "c", "alice", "two", "password")]);
    wait_until("the unit was restarted", || starts(stage).len() == 2);
    change(stage, 4, vec![item("pg", "c", "alice", "two", "another field")]);
    assert!(stage.sh(STATUS).ok().contains("failing"));
    change(stage, 5, vec![item("pg", "c", "alice", "three", "password")]);
    wait_until("the unit was restarted again", || starts(stage).len() == 3);
    assert_eq!(starts(stage), ["alice/one", "alice/two", "alice/three"]);
}

fn a_unit_that_restarts_with_another_is_judged_too(stage: &Stage) {
    configure(stage, |secrets| {
        secrets.push(json!({ "name": "key", "reference": "op://Servers/other/password", "units": ["part"] }));
    });
    let other = |label: &str| item("other", "e", "dave", "key", label);
    change(stage, 2, vec![item("pg", "b", "alice", "one", "password"), other("password")]);
    let part = format!(
        "[Unit]\nPartOf=app.service\n[Service]\nType=exec\nLoadCredential=key:{SOCKET}\nExecStart=/bin/sleep infinity\n"
    );
    stage.units([("part.service", part.as_str())]);
    stage.sh("systemctl start part.service").ok();
    let invocation = stage.show("part.service", "InvocationID");
    change(stage, 3, vec![item("pg", "b", "alice", "one", "password"), other("another field")]);
    change(stage, 4, vec![item("pg", "b", "alice", "two", "password"), other("another field")]);
    is_withheld(stage, "password", "part.service, which systemd restarts with it, would not start");
    assert_eq!(stage.show("part.service", "InvocationID"), invocation);
    change(stage, 5, vec![item("pg", "b", "alice", "two", "password"), other("password")]);
    is_restarted(stage, "alice/two");
    wait_until("the other unit was restarted with it", || {
        stage.show("part.service", "ActiveState") == "active"
            && stage.show("part.service", "InvocationID") != invocation
    });
}

fn an_environment_file_that_is_gone_is_a_reason_too(stage: &Stage) {
    configure(stage, |secrets| {
        let target = "/run/secrets/app.env";
        secrets
            .push(json!({ "name": "app.env", "reference": "op://Servers/other/password", "target": target }));
    });
    let other = || item("other", "e", "dave", "A=1", "password");
    change(stage, 2, vec![item("pg", "b", "alice", "one", "password"), other()]);
    stage.sh("systemctl start onecred-file@app.env.service").ok();
    let drop_in = "[Service]\nEnvironmentFile=/run/secrets/app.env\n";
    stage.write("/run/systemd/system/app.service.d/env.conf", drop_in, 0o644);
    stage.sh("systemctl daemon-reload").ok();
    change(stage, 3, vec![item("pg", "b", "alice", "one", "password")]);
    wait_until("the file is gone", || stage.sh("test ! -e /run/secrets/app.env").succeeded());
    change(stage, 4, vec![item("pg", "b", "alice", "two", "password")]);
    is_withheld(stage, "password", "/run/secrets/app.env is not published");
    change(stage, 5, vec![item("pg", "b", "alice", "two", "password"), other()]);
    is_restarted(stage, "alice/two");
}
