//! Tests of units and users that ask without end: what they cost at 1Password, and that others are served.
//! With Connect; see also `account/greedy.rs`.
use onecred_integration::{
    cases,
    fake_connect::vault::fixture,
    machine::{Suite, wait_until},
    setup::{Setup, field, fixture_with},
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "greedy",
    stage,
    shared: false,
    cases: cases![
        a_timer_whose_field_does_not_exist,
        a_timer_whose_item_does_not_exist,
        a_unit_that_refreshes_in_a_loop,
    ],
};

const MANAGER: &str = "org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager";

fn stage(suite: Suite) -> Stage {
    let stage = Setup::connect(suite)
        .secret("own", "op://My Vault/db/password", &["greedy"])
        .secret("other", "op://My Vault/db/username", &["other"])
        .secret("no-field", "op://My Vault/db/nothing", &["timer"])
        .secret("no-item", "op://My Vault/nowhere/password", &["timer"])
        .stage();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    wait_until("the provider is on the bus", || {
        stage.sh("busctl --no-pager status org.onecred.Credentials1").succeeded()
    });
    stage
}

/// Starts a unit repeatedly. More than a few look-ups would need pauses of minutes: 5, 10, 20, 40, 80 and 160
/// s.
#[track_caller]
fn a_timer_costs_little(stage: &Stage, secret: &str, look: usize) {
    let before = stage.calls().len();
    for _ in 0..20 {
        stage.refuses("timer.service", "", secret, &["not found"]);
        stage.sh("systemctl reset-failed timer.service").ok();
    }
    let calls = stage.calls().len() - before;
    assert!(calls <= 6 * look, "20 starts cost {calls} calls");
    let line = stage.waits_for_line("timer.service", "next look-up in ");
    assert!(line.contains("to look it up now: onecred re"), "{line}");
}

fn a_timer_whose_field_does_not_exist(stage: &Stage) {
    a_timer_costs_little(stage, "no-field", 3);
    let mut there = fixture();
    let items = there["vaults"][0]["items"].as_array_mut().expect("items");
    let db = items.iter_mut().find(|item| item["title"] == "db").expect("the item");
    db["version"] = 2.into();
    db["fields"].as_array_mut().expect("fields").push(field("nothing", "something"));
    stage.connect_goes();
    stage.connect_comes(&there);
    stage.sh("onecred refresh no-field").ok();
    stage.gets("timer.service", "", &[("no-field", b"something")]);
}

fn a_timer_whose_item_does_not_exist(stage: &Stage) {
    a_timer_costs_little(stage, "no-item", 4);
    stage.connect_goes();
    stage.connect_comes(&fixture_with([("nowhere", vec![field("password", "found")])]));
    stage.sh("onecred refresh no-item").ok();
    stage.gets("timer.service", "", &[("no-item", b"found")]);
}

/// The unit's requests cost one look-up in 30 seconds. The loop ends long before the next.
fn a_unit_that_refreshes_in_a_loop(stage: &Stage) {
    let before = stage.calls().len();
    let lines = format!("for i in $(seq 40); do busctl call {MANAGER} Refresh ast 1 own 1; done");
    let ran = stage
        .sh(&format!("systemd-run --unit=greedy --collect --wait --pipe -q -p User=games sh -c '{lines}'"));
    let said = ran.ok();
    assert_eq!(said.matches("\"changed\"").count(), 1, "{said}");
    assert!(
        said.contains("org.onecred.Error.Limited") && said.contains("own was looked up on D-Bus"),
        "{said}"
    );
    let calls = stage.calls().len() - before;
    assert!(calls <= 8, "40 orders cost {calls} calls");
    let status = stage.sh("onecred status || true").ok(); // secrets of other cases fail
    assert!(status.contains("most calls in 24 h: ") && status.contains("greedy.service "), "{status}");
    stage.gets("other.service", "", &[("other", b"bob")]);
}
