//! Crowds of units that ask at the sealed socket, on systemd 258 and later: systemd-creds.socket accepts 16 connections at a time, and none of them fails.
use onecred_integration::{
    cases, installed::SEALED, machine::Suite, setup::Setup, stage::Stage, theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "sealed-crowd",
    stage: without_drop_in,
    shared: true,
    cases: cases![private_devices, device_allow, device_policy, a_dynamic_user],
};

/// How many units are started at once.
const UNITS: usize = 200;

/// systemd-creds.socket as systemd has it: what holds then, holds with the drop-in, too.
fn without_drop_in(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .default("maxAge", "session")
        .secret("password", "op://My Vault/db/password", &["crowd-*@*"])
        .plan(|plan| {
            plan.prepare("find /etc /usr/lib /usr/local/lib -path '*/systemd-creds.socket.d/*' -delete")
        })
        .stage();
    assert_eq!(stage.show("systemd-creds.socket", "MaxConnectionsPerSource"), "16");
    stage.run(&["systemd-creds", "setup"]).ok();
    stage
}

/// Starts all at once. Each ends well only if it got the right value.
#[track_caller]
fn all_start(stage: &Stage, name: &str, line: &str) {
    let text = format!(
        "[Service]\nType=oneshot\nLoadCredentialEncrypted=password:{SEALED}\n{line}\n\
         ExecStart=/bin/grep -qx hunter2 %d/password\n"
    );
    stage.units([(format!("crowd-{name}@.service").as_str(), text.as_str())]);
    let names: Vec<String> = (0..UNITS).map(|n| format!("crowd-{name}@{n}.service")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.run(&[&["systemctl", "start", "--"][..], &names].concat()).ok();
}

fn private_devices(stage: &Stage) {
    all_start(stage, "private", "PrivateDevices=yes");
}

fn device_allow(stage: &Stage) {
    all_start(stage, "allow", "DeviceAllow=/dev/null rw");
}

fn device_policy(stage: &Stage) {
    all_start(stage, "policy", "DevicePolicy=closed");
}

fn a_dynamic_user(stage: &Stage) {
    all_start(stage, "dynamic", "DynamicUser=yes");
}
