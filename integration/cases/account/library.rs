//! Tests of valid and invalid SDK core libraries: a library that is not the SDK core is refused with the
//! reason, a failing one is replaced, and the provider is not affected.
use crate::traces::search::Needles;

use super::{Account, LIBRARY, PASSWORD, configure, counterfeit, setup};
use onecred_integration::{
    cases,
    fake_account::Fault,
    fake_connect::vault::fixture,
    machine::wait_until,
    setup::{field, fixture_with},
    stage::{Stage, consumer},
    theme::Theme,
};
use serde_json::{Value, json};
use std::time::Duration;

pub const THEME: Theme = Theme {
    name: "account_library",
    stage: |suite| setup(suite).stage(),
    shared: false,
    cases: cases![
        a_worker_that_is_killed_costs_no_secret,
        a_value_is_gone_with_the_worker,
        what_is_no_core_is_told,
    ],
};

/// Lists the resolver's processes that have the SDK core loaded.
const WORKERS: &str = "for pid in $(cat /sys/fs/cgroup/system.slice/onecred-resolver.service/cgroup.procs); do \
    tr '\\0' ' ' </proc/$pid/cmdline | grep -q core-worker && echo $pid; done; true";

fn config(account: &Account) -> Value {
    let secret = json!({ "name": "password", "reference": "op://My Vault/db/password", "units": ["app*"] });
    json!({ "source": account.source(), "secrets": [secret] })
}

fn start(stage: &Stage) -> Account {
    let account = Account::comes(stage, 8443, fixture());
    configure(stage, &config(&account));
    stage.write("/etc/onecred/token", account.token(), 0o600);
    account
}

fn a_worker_that_is_killed_costs_no_secret(stage: &Stage) {
    let account = start(stage);
    account.control().fail(&Fault::delay(Duration::from_secs(1)).on("/api/v1/vault")).expect("steered");
    stage.units([("app.service", consumer("", &["password"]).as_str())]);
    stage.run(&["systemctl", "start", "--no-block", "app.service"]).ok();
    let asked = || account.control().requests().expect("told");
    wait_until("1Password is asked", || asked().iter().any(|seen| seen.path.starts_with("/api/v1/vault")));
    let main = || ["onecred.service", "onecred-resolver.service"].map(|unit| stage.show(unit, "MainPID"));
    let (before, workers) = (main(), stage.sh(WORKERS).ok());
    assert_eq!(workers.lines().count(), 1, "{workers}");
    stage.sh(&format!("kill -KILL {workers}")).ok();
    stage.got("app.service", &[PASSWORD]);
    assert_ne!(stage.sh(WORKERS).ok(), workers, "the worker was not killed");
    assert_eq!(main(), before, "not the worker alone was restarted");
}

fn a_value_is_gone_with_the_worker(stage: &Stage) {
    const CANARY: &str = "account-\"wT5rG\\1pX-Vh92kdLzQ-s6Ny3cMeBu";
    let unit = "onecred-resolver.service";
    let account = Account::comes(stage, 8443, fixture_with([("db2", vec![field("password", CANARY)])]));
    let secret = json!({ "name": "password", "reference": "op://My Vault/db2/password", "units": ["app"] });
    configure(stage, &json!({ "source": account.source(), "secrets": [secret] }));
    stage.write("/etc/onecred/token", account.token(), 0o600);
    stage.gets("app.service", "", &[("password", CANARY.as_bytes())]);
    let needles = Needles::of(&[CANARY]);
    let main = stage.show(unit, "MainPID");
    assert_eq!(needles.in_process(stage, unit, &main), Vec::<String>::new());
    let workers = stage.sh(WORKERS).ok();
    stage.sh(&format!("kill -KILL {workers}")).ok();
    wait_until("the worker is gone", || stage.sh(WORKERS).ok() != workers);
    assert_eq!(needles.in_memory(stage, unit), Vec::<String>::new());
}

fn what_is_no_core_is_told(stage: &Stage) {
    let account = start(stage);
    stage.gets("app.service", "", &[PASSWORD]);
    let provider = stage.show("onecred.service", "MainPID");
    let other = "not a known version of 1Password's SDK core";
    let rows: [(&str, &[&str], &str); 7] = [
        ("sleeping", &["SLEEP_AT_LOAD"], "away"),
        ("contract", &["CONTRACT=26"], other),
        ("checksum", &["CHECKSUM=1"], other),
        ("symbols", &["MISSING"], other),
        ("crashing", &["SEGFAULT"], "its core failed, it was ended by SIGSEGV"),
        ("loading-badly", &["CRASH_AT_LOAD"], "its core failed, it was ended by SIGABRT"),
        ("panicking", &["PANIC"], "its core failed, it panicked"),
    ];
    for (name, macros, cause) in rows {
        let path = format!("/usr/lib/onecred-tests/{name}.so");
        stage.write(&path, counterfeit(macros), 0o644);
        refuses_with(stage, &account, name, &path, cause);
    }
    stage.write("/usr/lib/onecred-tests/text.so", "no library", 0o644);
    refuses_with(stage, &account, "text", "/usr/lib/onecred-tests/text.so", "not a library for this machine");
    stage.sh(&format!("install -m 666 {LIBRARY} /usr/lib/onecred-tests/open.so")).ok();
    refuses_with(stage, &account, "open", "/usr/lib/onecred-tests/open.so", "its mode is 0666");
    configure(stage, &config(&account));
    stage.run(&["systemctl", "reload", "onecred.service"]).ok();
    stage.gets("app-mended.service", "", &[PASSWORD]);
    assert_eq!(stage.show("onecred.service", "MainPID"), provider, "the provider was restarted");
    stage.starts("app.service", &[PASSWORD]);
}

/// With this library, a secret that was never fetched is refused.
fn refuses_with(stage: &Stage, account: &Account, name: &str, path: &str, cause: &str) {
    let mut source = account.source();
    source["library"] = json!(path);
    let secret = |name: &str, reference: &str| json!({ "name": name, "reference": reference, "units": ["app*"], "deadline": "4s" });
    let secrets = [secret("password", "op://My Vault/db/password"), secret("cold", "op://My Vault/multi/f1")];
    configure(stage, &json!({ "source": source, "secrets": secrets }));
    stage.run(&["systemctl", "reload", "onecred.service"]).ok();
    stage.run(&["systemctl", "restart", "onecred-resolver.service"]).ok();
    stage.refuses(
        &format!("app-{name}.service"),
        "",
        "cold",
        &[cause, if cause == "away" { "onecred-resolver" } else { "onecred core install" }],
    );
}
