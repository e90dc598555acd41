//! Tests of a suspend, simulated by a provider that restarts in a time namespace whose boot was hours
//! earlier.
use onecred_integration::{
    cases,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "clocks",
    stage: |suite| stage(suite),
    shared: false,
    cases: cases![ages_go_on_in_suspend],
};

const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");
const BINARY: &str = "/usr/bin/onecred";

fn stage(suite: Suite) -> Stage {
    Setup::connect(suite)
        .default("maxAge", "30m")
        .secret("password", "op://My Vault/db/password", &["app*"])
        .stage()
}

/// Restarts the provider so that many hours have passed on the clock that counts suspend, and almost no time
/// on all others.
fn sleeps(stage: &Stage, hours: u32) {
    let seconds = hours * 3_600;
    // created from outside, because no process of the machine may set a clock
    let holder = format!("unshare --time --boottime {seconds} sleep infinity >/dev/null 2>&1 & echo $!");
    let holder = stage.sh(&holder).ok().trim().to_owned();
    wait_until("there is another time", || {
        stage.sh(&format!("grep -qx sleep /proc/{holder}/comm")).succeeded()
    });
    let text = format!(
        "[Service]\nExecStart=\nExecStart=+nsenter --time=/proc/{holder}/ns/time_for_children {BINARY} serve\n"
    );
    stage.write("/run/systemd/system/onecred.service.d/suspend.conf", text, 0o644);
    stage.sh("systemctl daemon-reload; systemctl restart onecred.service").ok();
}

fn ages_go_on_in_suspend(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    let before = stage.calls().len();
    sleeps(stage, 0);
    stage.gets("app-awake.service", "", &[PASSWORD]);
    assert_eq!(stage.calls().len(), before, "half an hour has not passed");
    sleeps(stage, 1);
    stage.gets("app-slept.service", "", &[PASSWORD]);
    let asked = &stage.calls()[before..];
    assert!(asked.len() == 1 && asked[0].path == "/v1/vaults", "not one check: {asked:?}");
    // it wakes up without a network
    stage.connect_goes();
    sleeps(stage, 9);
    stage.gets("app-offline.service", "", &[PASSWORD]);
    stage.waits_for_line("app-offline.service", "is served from the cache");
}
