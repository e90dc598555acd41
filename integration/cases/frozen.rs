//! Processes of onecred are killed while systemd has read a part of a value: at the plain and at the sealed socket, the unit gets all of it or does not start.
//!
//! Each case freezes the process in which systemd reads a unit's credentials, and lets it go on after the kill. It does not know that there is more to come
//! than it has read, unless the connection says so.
use onecred_integration::{
    cases,
    fake_connect::vault::long_value,
    installed::{SEALED, SOCKET},
    machine::{Suite, wait_until},
    setup::{Setup, field, fixture_with},
    stage::{Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "frozen",
    stage,
    shared: false,
    cases: cases![
        the_provider_is_killed,
        the_provider_is_suspended,
        the_keeper_is_killed,
        the_keeper_is_killed_and_the_provider_is_stopped,
        all_processes_of_the_service_are_killed,
        provider_and_keeper_are_killed,
        the_keeper_is_suspended_and_the_provider_is_killed,
        the_keeper_has_no_scope,
    ],
};

const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");
/// More than a socket takes at once, and less than a sealed value may have.
const LONG: usize = 800 * 1024;
const PLAIN_UNIT: &str = "app-plain.service";
const SEALED_UNIT: &str = "app-sealed.service";

fn stage(suite: Suite) -> Stage {
    Setup::vault(suite)
        .default("maxAge", "session")
        .setting("recover", serde_json::json!(false)) // units stay as they ended
        .holding(fixture_with([("long", vec![field("value", &long_value(LONG))])]))
        .secret("password", "op://My Vault/db/password", &["app*"])
        .secret("long", "op://My Vault/long/value", &["app*"])
        .stage()
}

fn sealed(credentials: &[&str]) -> String {
    consumer("", credentials).replace("LoadCredential=", "LoadCredentialEncrypted=").replace(SOCKET, SEALED)
}

/// Units at both sockets get their secret.
#[track_caller]
fn others_are_served(stage: &Stage, name: &str) {
    stage.gets(&format!("app-{name}-plain.service"), "", &[PASSWORD]);
    let unit = format!("app-{name}-sealed.service");
    stage.units([(unit.as_str(), sealed(&["password"]).as_str())]);
    stage.starts(&unit, &[PASSWORD]);
}

fn main_pid(stage: &Stage) -> String {
    stage.show("onecred.service", "MainPID")
}

/// The keeper of the provider that runs.
fn keeper(stage: &Stage) -> String {
    let main = main_pid(stage);
    let line = format!("journalctl -o cat _PID={main} | sed -n 's/^serving; the keeper is process //p'");
    let mut keeper = String::new();
    wait_until("the provider names its keeper", || {
        keeper = stage.sh(&line).stdout().trim().to_owned();
        !keeper.is_empty()
    });
    assert_eq!(stage.sh(&format!("cat /proc/{keeper}/comm")).ok(), "onecred-keeper\n");
    keeper
}

fn is_in_scope(stage: &Stage, keeper: &str) -> bool {
    let scope = format!("onecred-keeper-{keeper}.scope\n");
    stage.sh(&format!("cat /proc/{keeper}/cgroup")).stdout().ends_with(&scope)
}

/// A provider whose keeper is in its scope, and the PIDs of both.
fn provider_and_keeper(stage: &Stage) -> (String, String) {
    others_are_served(stage, "first");
    stage.gets("app-warm.service", "", &[("long", long_value(LONG).as_bytes())]);
    let keeper = keeper(stage);
    wait_until("the keeper is in its scope", || is_in_scope(stage, &keeper));
    let scope = format!("onecred-keeper-{keeper}.scope");
    assert_eq!(stage.show(&scope, "ManagedOOMPreference"), "omit");
    (main_pid(stage), keeper)
}

fn processes(unit: &str) -> String {
    format!("$(cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs)")
}

/// Starts a unit at each socket, and freezes both after a part of the value was sent.
fn freeze_consumers(stage: &Stage) {
    let main = main_pid(stage);
    stage.units([(PLAIN_UNIT, consumer("", &["long"]).as_str()), (SEALED_UNIT, sealed(&["long"]).as_str())]);
    stage.sh(&format!("kill -STOP {main}")).ok();
    stage.run(&["systemctl", "start", "--no-block", PLAIN_UNIT, SEALED_UNIT]).ok();
    for unit in [PLAIN_UNIT, SEALED_UNIT] {
        // 03: connected, and so in the listen queue
        let connected = format!("grep -q ' 03 .*/unit/{unit}/long$' /proc/net/unix");
        wait_until(&format!("{unit} has asked"), || stage.sh(&connected).succeeded());
        stage.sh(&format!("kill -STOP {}", processes(unit))).ok();
    }
    stage.sh(&format!("kill -CONT {main}")).ok();
    // who asks later is answered later
    others_are_served(stage, "second");
}

fn thaw_consumers(stage: &Stage) {
    for unit in [PLAIN_UNIT, SEALED_UNIT] {
        stage.sh(&format!("kill -CONT {}", processes(unit))).ok();
    }
}

fn another_provider_runs(stage: &Stage, main: &str) {
    wait_until("another provider runs", || {
        let now = main_pid(stage);
        now != main && now != "0"
    });
}

#[track_caller]
fn does_not_start(stage: &Stage, unit: &str) {
    stage.was_243(unit, &stage.settled(unit));
}

#[track_caller]
fn both_get_all(stage: &Stage) {
    for unit in [PLAIN_UNIT, SEALED_UNIT] {
        stage.got(unit, &[("long", long_value(LONG).as_bytes())]);
    }
}

fn status_shows(stage: &Stage, words: &str) -> bool {
    stage.run(&["onecred", "status"]).stdout().contains(words)
}

/// By the kernel's out-of-memory killer (KILL) and by the watchdog (ABRT).
fn the_provider_is_killed(stage: &Stage) {
    for signal in ["KILL", "ABRT"] {
        let (main, keeper) = provider_and_keeper(stage);
        freeze_consumers(stage);
        stage.sh(&format!("kill -{signal} {main}")).ok();
        another_provider_runs(stage, &main);
        others_are_served(stage, "third");
        thaw_consumers(stage);
        does_not_start(stage, PLAIN_UNIT);
        does_not_start(stage, SEALED_UNIT);
        wait_until("the keeper has ended", || {
            stage.sh(&format!("cat /proc/{keeper}/comm")).code() != Some(0)
        });
        stage.run(&["systemctl", "reset-failed", PLAIN_UNIT, SEALED_UNIT]).ok();
    }
}

fn the_provider_is_suspended(stage: &Stage) {
    stage.write("/run/systemd/system/onecred.service.d/patient.conf", "[Service]\nWatchdogSec=0\n", 0o644);
    stage.run(&["systemctl", "daemon-reload"]).ok();
    let (main, _) = provider_and_keeper(stage);
    freeze_consumers(stage);
    stage.sh(&format!("kill -STOP {main}")).ok();
    thaw_consumers(stage);
    for unit in [PLAIN_UNIT, SEALED_UNIT] {
        assert_eq!(stage.show(unit, "ActiveState"), "activating", "{unit}");
    }
    stage.sh(&format!("kill -CONT {main}")).ok();
    both_get_all(stage);
    assert_eq!(main_pid(stage), main);
}

fn the_keeper_is_killed(stage: &Stage) {
    let (main, keeper) = provider_and_keeper(stage);
    assert!(!status_shows(stage, "keeper"));
    freeze_consumers(stage);
    stage.sh(&format!("kill -KILL {keeper}")).ok();
    wait_until("status shows it", || status_shows(stage, "the keeper process was killed"));
    others_are_served(stage, "third");
    assert_eq!(main_pid(stage), main, "the provider has ended with connections open");
    thaw_consumers(stage);
    both_get_all(stage);
    another_provider_runs(stage, &main);
    others_are_served(stage, "fourth");
    assert!(!status_shows(stage, "keeper"));
}

fn the_keeper_is_killed_and_the_provider_is_stopped(stage: &Stage) {
    stage.write("/run/systemd/system/onecred.service.d/short.conf", "[Service]\nTimeoutStopSec=1\n", 0o644);
    stage.run(&["systemctl", "daemon-reload"]).ok();
    let (main, keeper) = provider_and_keeper(stage);
    freeze_consumers(stage);
    stage.sh(&format!("kill -KILL {keeper}")).ok();
    wait_until("status shows it", || status_shows(stage, "the keeper process was killed"));
    stage.run(&["systemctl", "stop", "--no-block", "onecred.service"]).ok();
    wait_until("it is stopping", || stage.show("onecred.service", "ActiveState") == "deactivating");
    // systemd ends it after 1 s, unless it has extended that
    assert_eq!(stage.sh(&format!("timeout 3 tail --pid={main} -f /dev/null")).code(), Some(124));
    thaw_consumers(stage);
    both_get_all(stage);
    wait_until("it has stopped", || stage.show("onecred.service", "MainPID") != main);
    assert_eq!(stage.show("onecred.service", "Result"), "success");
}

fn all_processes_of_the_service_are_killed(stage: &Stage) {
    let (main, keeper) = provider_and_keeper(stage);
    freeze_consumers(stage);
    stage.run(&["systemctl", "kill", "-s", "KILL", "onecred.service"]).ok();
    another_provider_runs(stage, &main);
    assert!(is_in_scope(stage, &keeper), "the keeper was killed, too");
    thaw_consumers(stage);
    does_not_start(stage, PLAIN_UNIT);
    does_not_start(stage, SEALED_UNIT);
    let scope = format!("onecred-keeper-{keeper}.scope");
    wait_until("the keeper's scope is gone", || stage.show(&scope, "LoadState") == "not-found");
    others_are_served(stage, "third");
}

/// At the plain socket this unit may start with a part of its value. At the sealed socket none does.
fn provider_and_keeper_are_killed(stage: &Stage) {
    for order in ["both at once", "first the keeper", "first the provider"] {
        let (main, keeper) = provider_and_keeper(stage);
        freeze_consumers(stage);
        match order {
            "both at once" => drop(stage.sh(&format!("kill -KILL {main} {keeper}")).ok()),
            "first the keeper" => {
                stage.sh(&format!("kill -KILL {keeper}")).ok();
                wait_until("status shows it", || status_shows(stage, "the keeper process was killed"));
                stage.sh(&format!("kill -KILL {main}")).ok();
            }
            _ => {
                // suspended, so that it refuses nothing in between
                stage.sh(&format!("kill -STOP {keeper}; kill -KILL {main}")).ok();
                another_provider_runs(stage, &main);
                stage.sh(&format!("kill -KILL {keeper}")).ok();
            }
        }
        another_provider_runs(stage, &main);
        thaw_consumers(stage);
        does_not_start(stage, SEALED_UNIT);
        stage.settled(PLAIN_UNIT);
        others_are_served(stage, "third");
        stage.forget(PLAIN_UNIT);
        stage.sh(&format!("systemctl reset-failed {PLAIN_UNIT} {SEALED_UNIT}"));
    }
}

fn the_keeper_is_suspended_and_the_provider_is_killed(stage: &Stage) {
    let (main, keeper) = provider_and_keeper(stage);
    freeze_consumers(stage);
    stage.sh(&format!("kill -STOP {keeper}; kill -KILL {main}")).ok();
    another_provider_runs(stage, &main);
    thaw_consumers(stage);
    others_are_served(stage, "third");
    // their connections are open as long as the keeper lives
    for unit in [PLAIN_UNIT, SEALED_UNIT] {
        assert_eq!(stage.show(unit, "ActiveState"), "activating", "{unit}");
    }
    stage.sh(&format!("kill -CONT {keeper}")).ok();
    does_not_start(stage, PLAIN_UNIT);
    does_not_start(stage, SEALED_UNIT);
}

fn the_keeper_has_no_scope(stage: &Stage) {
    stage.write(
        "/run/systemd/system/onecred.service.d/no-manager.conf",
        "[Service]\nInaccessiblePaths=/run/systemd/private\n",
        0o644,
    );
    stage.sh("systemctl daemon-reload && systemctl restart onecred.service").ok();
    stage.gets("app-warm.service", "", &[("long", long_value(LONG).as_bytes())]);
    wait_until("status shows it", || status_shows(stage, "the keeper process has no scope unit"));
    let (main, keeper) = (main_pid(stage), keeper(stage));
    assert!(!is_in_scope(stage, &keeper));
    freeze_consumers(stage);
    stage.sh(&format!("kill -KILL {main}")).ok();
    another_provider_runs(stage, &main);
    thaw_consumers(stage);
    does_not_start(stage, PLAIN_UNIT);
    does_not_start(stage, SEALED_UNIT);
}
