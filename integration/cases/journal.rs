//! Tests of the journal: lines have fields and fixed IDs, `journalctl -x` explains them, and none is lost
//! during a burst.
use onecred_integration::{
    cases,
    installed::{LIBEXEC, SOCKET},
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "journal",
    stage,
    shared: true,
    cases: cases![
        a_refusal_is_explained,
        a_refusal_is_found_by_its_id_and_has_fields,
        refusals_with_another_remedy_have_another_id,
        what_is_granted_is_counted_and_not_said,
        a_stranger_is_told_of_in_onecred_s_own_journal,
        a_failed_reload_is_explained,
    ],
};

/// Every grant is logged, and journald's own limit is low.
pub const AUDIT: Theme = Theme {
    name: "journal_audit",
    stage: |suite| {
        Setup::vault(suite)
            .setting("audit", json!("all"))
            .secret("password", "op://My Vault/db/password", &["app*"])
            .plan(|plan| {
                let limits = "[Journal]\nRateLimitIntervalSec=30s\nRateLimitBurst=100\n";
                plan.file("/etc/systemd/journald.conf.d/low.conf", limits, 0o644)
            })
            .stage()
    },
    shared: true,
    cases: cases![
        each_grant_is_a_line,
        what_is_opened_on_the_bus_is_a_line,
        a_storm_of_refusals_is_a_line_each
    ],
};

const NOT_ALLOWED: &str = "b88a7ce0b6de4991b14100dc4a20d957";
const NOT_FOUND: &str = "2cccbe681e5f47aeb949f89bb663e7a2";
const UNFIT: &str = "26e172e75dbe43198c8bed636bb5b28a";
const STRANGER: &str = "02d7fe8b889642d88d475a0b12e44f15";
const OPENED: &str = "382be0ba90a1486c91b27e2a136f8c0f";
const CONFIGURATION_REJECTED: &str = "e04bc59fb56b466aa99fe40cd5671cc0";
const GRANTED: &str = "85ec5f36f73a44c3909cab5f9345534b";

fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .secret("password", "op://My Vault/db/password", &["app*"])
        .secret("nowhere", "op://My Vault/nowhere/password", &["app*"])
        .secret("valueless", "op://My Vault/db-2/password", &["app*"])
        .stage();
    stage.sh("journalctl --update-catalog").ok();
    stage
}

/// The lines of a unit with this message ID, with their fields.
fn lines(stage: &Stage, id: &str, unit: &str) -> Vec<Value> {
    let found = stage.sh(&format!("journalctl -q -o json MESSAGE_ID={id} OBJECT_SYSTEMD_UNIT={unit}"));
    found.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[track_caller]
fn waits_for(stage: &Stage, id: &str, unit: &str) -> Value {
    wait_until(&format!("{unit} has a line with the ID {id}"), || !lines(stage, id, unit).is_empty());
    lines(stage, id, unit).swap_remove(0)
}

fn a_refusal_is_explained(stage: &Stage) {
    stage.refuses("other.service", "", "password", &["not allowed"]);
    let said = stage.sh("journalctl --no-pager -x -u other.service").ok();
    for words in [
        " Subject: other.service may not have the credential password",
        " Defined-By: onecred",
        "onecred explain other.service password",
    ] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    let listed = stage.sh("journalctl --list-catalog").ok();
    assert!(listed.lines().filter(|line| line.contains(" onecred")).count() > 10, "{listed}");
    let verified = stage.sh("systemd-analyze cat-config systemd/journald.conf >/dev/null; journalctl --dump-catalog | grep -c '^Defined-By: onecred'");
    let all = include_str!("../../units/catalog/onecred.catalog").matches("\nDefined-By: onecred").count();
    assert_eq!(verified.ok().trim(), all.to_string());
}

fn a_refusal_is_found_by_its_id_and_has_fields(stage: &Stage) {
    stage.refuses("fields.service", "", "password", &["not allowed"]);
    let line = waits_for(stage, NOT_ALLOWED, "fields.service");
    for (field, value) in [
        ("ONECRED_SECRET", "password"),
        ("ONECRED_CREDENTIAL", "password"),
        ("ONECRED_UNIT", "fields.service"),
        ("ONECRED_REFERENCE", "op://My Vault/db/password"),
        ("ONECRED_RESULT", "not-allowed"),
        ("SYSLOG_IDENTIFIER", "onecred"),
        ("_SYSTEMD_UNIT", "onecred.service"),
        ("PRIORITY", "4"),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    let took = line["ONECRED_LATENCY_USEC"].as_str().and_then(|usec| usec.parse::<u64>().ok());
    assert!(took.is_some_and(|usec| usec > 0 && usec < 60_000_000), "{line}");
}

fn refusals_with_another_remedy_have_another_id(stage: &Stage) {
    stage.refuses("app-nowhere.service", "", "nowhere", &["no item"]);
    let line = waits_for(stage, NOT_FOUND, "app-nowhere.service");
    assert_eq!(line["ONECRED_REFERENCE"], "op://My Vault/nowhere/password", "{line}");
    assert_eq!(line["ONECRED_RESULT"], "not-found", "{line}");
    stage.refuses("app-valueless.service", "", "valueless", &["empty"]);
    assert_eq!(waits_for(stage, UNFIT, "app-valueless.service")["ONECRED_RESULT"], "empty");
    let said = stage.sh("journalctl --no-pager -x -u app-valueless.service").ok();
    assert!(said.contains(" Subject: The value of a credential of app-valueless.service"), "{said}");
}

fn what_is_granted_is_counted_and_not_said(stage: &Stage) {
    stage.gets("app-quiet.service", "", &[("password", b"hunter2")]);
    stage.sh("journalctl --sync").ok();
    assert!(!stage.journal("app-quiet.service").contains("onecred["), "a grant is a line");
}

fn a_stranger_is_told_of_in_onecred_s_own_journal(stage: &Stage) {
    stage.sh(&format!("{LIBEXEC}/probe {SOCKET} unit/app.service/password")).ok();
    let own = "journalctl -q -o json -u onecred.service MESSAGE_ID=";
    wait_until("a stranger is told of", || !stage.sh(&format!("{own}{STRANGER}")).stdout().is_empty());
}

fn a_failed_reload_is_explained(stage: &Stage) {
    let file = "/etc/onecred/secrets.json";
    let text = stage.read(file);
    stage.sh("systemctl start onecred.service").ok();
    stage.write(file, "{ \"secrts\": [] }", 0o644);
    stage.sh("systemctl reload onecred.service").fails();
    let line = waits_for(stage, CONFIGURATION_REJECTED, "onecred.service").to_string();
    assert!(line.contains("it was not loaded") && line.contains("onecred check"), "{line}");
    let said = stage.sh("journalctl --no-pager -x -u onecred.service").ok();
    assert!(said.contains("unknown key \"secrts\""), "{said}");
    assert!(said.contains(" Subject: The configuration of onecred has errors"), "{said}");
    stage.write(file, text, 0o644);
    stage.sh("systemctl reload onecred.service").ok();
}

fn each_grant_is_a_line(stage: &Stage) {
    for unit in ["app1.service", "app2.service"] {
        stage.gets(unit, "", &[("password", b"hunter2")]);
        let line = waits_for(stage, GRANTED, unit);
        assert_eq!(line["ONECRED_RESULT"], "granted", "{line}");
        assert_eq!(line["ONECRED_SECRET"], "password", "{line}");
        assert_eq!(line["ONECRED_REFERENCE"], "op://My Vault/db/password", "{line}");
        assert!(!line.to_string().contains("hunter2"));
    }
    for _ in 0..3 {
        stage.starts("app1.service", &[("password", b"hunter2")]);
    }
    wait_until("four grants are four lines", || lines(stage, GRANTED, "app1.service").len() == 4);
}

fn what_is_opened_on_the_bus_is_a_line(stage: &Stage) {
    stage.sh("systemctl start dbus.socket").ok();
    let get = "systemd-run -q --wait --collect --pipe --unit=app-bus.service onecred get password";
    assert_eq!(stage.sh(get).ok(), "hunter2");
    let line = waits_for(stage, OPENED, "app-bus.service");
    assert_eq!(line["ONECRED_SECRET"], "password", "{line}");
    assert_eq!(line["ONECRED_UID"], "0", "{line}");
    stage.sh("onecred get password").ok();
    let own = format!("journalctl -q -u onecred.service MESSAGE_ID={OPENED} _SYSTEMD_UNIT=onecred.service");
    wait_until("root is told of", || stage.sh(&own).stdout().contains("opened on D-Bus by user 0\n"));
}

fn a_storm_of_refusals_is_a_line_each(stage: &Stage) {
    let storm = format!("{LIBEXEC}/probe storm {SOCKET} storm.service 5000");
    stage.sh(&format!("systemd-run -q --wait --collect --unit=storm.service {storm}")).ok();
    let mut count = String::new();
    wait_until("5000 refusals are 5000 lines", || {
        let found =
            format!("journalctl -q -o cat MESSAGE_ID={NOT_ALLOWED} OBJECT_SYSTEMD_UNIT=storm.service");
        count = stage.sh(&format!("{found} | grep -c ' refused: '")).stdout();
        count.trim() == "5000"
    });
}
