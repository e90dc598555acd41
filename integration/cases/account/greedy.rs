//! Tests a unit that uses up its share of a service account's budget: it is named, and other units can still
//! start for the first time.
use super::{Account, configure, setup};
use onecred_integration::{
    cases,
    machine::wait_until,
    setup::{field, fixture_with},
    stage::Stage,
    theme::Theme,
};
use serde_json::json;

pub const THEME: Theme = Theme {
    name: "account_greedy",
    stage: |suite| setup(suite).stage(),
    shared: false,
    cases: cases![a_share_that_is_used_up_is_the_callers_own],
};

const MANAGER: &str = "org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager";
/// A quarter is reserved, and half of the rest is shared: a single consumer may cause 9 calls.
const BUDGET: usize = 24;
const SECRETS: [&str; 12] = ["g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9", "g10", "g11"];

fn a_share_that_is_used_up_is_the_callers_own(stage: &Stage) {
    let account =
        Account::comes(stage, 8443, fixture_with(SECRETS.map(|name| (name, vec![field("password", "x")]))));
    let secret = |name: &str, item: &str, unit: &str| json!({ "name": name, "reference": format!("op://My Vault/{item}/password"), "maxAge": "session", "units": [unit] });
    let mut secrets: Vec<_> = SECRETS.iter().map(|name| secret(name, name, "greedy")).collect();
    secrets.push(secret("other", "db", "other"));
    let mut source = account.source();
    source["budget"] = BUDGET.into();
    configure(stage, &json!({ "source": source, "secrets": secrets }));
    stage.write("/etc/onecred/token", account.token(), 0o600);
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    wait_until("the provider is on the bus", || {
        stage.sh("busctl --no-pager status org.onecred.Credentials1").succeeded()
    });
    let lines = format!("for i in {}; do busctl call {MANAGER} Refresh ast 1 $i 1; done", SECRETS.join(" "));
    let greedy = "systemd-run --unit=greedy --collect --wait --pipe -q -p User=games";
    let said = stage.sh(&format!("{greedy} sh -c '{lines}'")).ok();
    assert!(said.contains("used up its share") && said.contains("org.onecred.Error.Limited"), "{said}");
    let line = stage
        .waits_for_line("greedy.service", "onecred makes no calls to source default for greedy.service now");
    assert!(line.contains("most calls in 24 hours: greedy.service "), "{line}");
    let json: serde_json::Value =
        serde_json::from_str(&stage.sh("onecred status --json || true").ok()).expect("JSON");
    let spenders = json["sources"][0]["spenders"].as_array().cloned().unwrap_or_default();
    let calls = |name: &str| spenders.iter().find(|it| it["name"] == name).map(|it| it["calls"].clone());
    assert!(
        calls("greedy.service").and_then(|calls| calls.as_u64()).is_some_and(|calls| calls <= 9),
        "{json}"
    );
    stage.gets("other.service", "", &[("other", b"hunter2")]);
}
