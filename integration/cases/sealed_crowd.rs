//! Tests of many units that ask at the sealed socket at once, on systemd 258 and later: systemd-creds.socket
//! accepts 16 connections at a time, and no unit fails.
use onecred_integration::{
    cases,
    installed::SEALED,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "sealed-crowd",
    stage: without_drop_in,
    shared: false,
    cases: cases![hardened_units_start_at_once],
};

/// The number of units that are started at once.
const UNITS: usize = 200;

/// Settings that make systemd decrypt through its socket. Each applies to the same number of units.
const SETTINGS: [&str; 4] =
    ["PrivateDevices=yes", "DeviceAllow=/dev/null rw", "DevicePolicy=closed", "DynamicUser=yes"];

/// Without onecred's drop-in for systemd-creds.socket. With the drop-in, the limits are higher.
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

/// Each unit succeeds only if it got the right value.
fn hardened_units_start_at_once(stage: &Stage) {
    let of = |(n, setting): (usize, &str)| {
        let text = format!(
            "[Service]\nType=oneshot\nLoadCredentialEncrypted=password:{SEALED}\n{setting}\n\
             ExecStart=/bin/grep -qx hunter2 %d/password\n"
        );
        stage.units([(format!("crowd-{n}@.service").as_str(), text.as_str())]);
    };
    SETTINGS.into_iter().enumerate().for_each(of);
    let names: Vec<String> =
        (0..UNITS).map(|n| format!("crowd-{}@{n}.service", n % SETTINGS.len())).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.run(&[&["systemctl", "start", "--"][..], &names].concat()).ok();
}

/// Units that fail because systemd-creds.socket is not running.
pub const RECOVERY: Theme = Theme {
    name: "sealed-recovery",
    stage: without_drop_in,
    shared: false,
    cases: cases![
        units_that_systemd_could_not_decrypt_for_are_restarted,
        units_that_failed_for_one_of_these_are_started_with_it,
    ],
};

const LINE: &str = "was sent, but systemd could not decrypt it";

fn hardened(more: &str) -> String {
    format!(
        "[Service]\nPrivateDevices=yes\nLoadCredentialEncrypted=password:{SEALED}\n{more}\n\
         ExecStart=/bin/sh -c 'grep -qx hunter2 %d/password && exec sleep infinity'\n"
    )
}

fn units_that_systemd_could_not_decrypt_for_are_restarted(stage: &Stage) {
    let recovered = ["crowd-simple@a.service", "crowd-exec@b.service", "crowd-pre@c.service"];
    let left = ["crowd-stopped@d.service", "crowd-missing@e.service", "crowd-soft@f.service"];
    stage.units([
        ("crowd-simple@.service", hardened("Type=simple").as_str()),
        ("crowd-exec@.service", hardened("Type=exec\nDynamicUser=yes").as_str()),
        ("crowd-pre@.service", hardened("Type=exec\nExecStartPre=/bin/true").as_str()),
        ("crowd-stopped@.service", hardened("Type=simple").as_str()),
        ("crowd-missing@.service", hardened("Type=exec\nLoadCredential=other:/run/missing").as_str()),
        ("crowd-soft@.service", hardened("Type=exec").replace("PrivateDevices=yes", "").as_str()),
    ]);
    let all: Vec<&str> = recovered.into_iter().chain(left).collect();
    // it decrypts without the socket
    stage.run(&["systemctl", "start", left[2]]).ok();
    stage.run(&["systemctl", "stop", "systemd-creds.socket"]).ok();
    stage.run(&[&["systemctl", "start", "--"][..], &all].concat());
    for unit in recovered.into_iter().chain([left[0]]) {
        stage.waits_for_line(unit, LINE);
    }
    stage.run(&["systemctl", "stop", left[0]]).ok();
    stage.run(&["systemctl", "start", "systemd-creds.socket"]).ok();
    for unit in recovered {
        wait_until(&format!("{unit} runs"), || stage.show(unit, "SubState") == "running");
        assert_eq!(stage.journal(unit).matches(LINE).count(), 1, "{}", stage.journal(unit));
    }
    // the first restart may come before the stop
    let state = stage.show(left[0], "ActiveState");
    assert!(["failed", "inactive"].contains(&state.as_str()), "{state}");
    assert_eq!(stage.show(left[1], "ActiveState"), "failed", "{}", left[1]);
    for unit in &left[1..] {
        assert!(!stage.journal(unit).contains(LINE), "{}", stage.journal(unit));
    }
}

/// A unit without credentials that runs once after it is started.
fn needing(units: &str) -> String {
    format!("[Unit]\nRequires={units}\nAfter={units}\n[Service]\nType=exec\nExecStart=/bin/sleep infinity\n")
}

fn units_that_failed_for_one_of_these_are_started_with_it(stage: &Stage) {
    let app = "crowd-exec@b.service";
    let broken = "[Service]\nType=exec\nLoadCredential=other:/run/missing\nExecStart=/bin/true\n";
    stage.units([
        ("crowd-exec@.service", hardened("Type=exec").as_str()),
        ("crowd-soft@.service", hardened("Type=exec").replace("PrivateDevices=yes", "").as_str()),
        ("broken.service", broken),
        ("first.service", needing(app).as_str()),
        ("second.service", needing("first.service").as_str()),
        ("both.service", needing(&format!("{app} broken.service")).as_str()),
        ("alone.service", needing("broken.service").as_str()),
    ]);
    let all = ["second.service", "both.service", "alone.service"];
    // then the value is in the store, so the resolver does not start the socket again
    stage.run(&["systemctl", "start", "crowd-soft@f.service"]).ok();
    stage.run(&["systemctl", "stop", "systemd-creds.socket"]).ok();
    stage.run(&[&["systemctl", "start", "--"][..], &all].concat());
    for unit in ["first.service", "second.service", "both.service", "alone.service"] {
        assert_eq!(stage.show(unit, "ActiveState"), "inactive", "{unit}");
    }
    let invocation = stage.show("broken.service", "InvocationID");
    stage.run(&["systemctl", "start", "systemd-creds.socket"]).ok();
    for unit in ["first.service", "second.service"] {
        stage.waits_for_line(unit, "which it needs, was restarted");
        wait_until(&format!("{unit} runs"), || stage.show(unit, "SubState") == "running");
    }
    // units that failed for other causes, and their dependents, are not started
    assert_eq!(stage.show("broken.service", "InvocationID"), invocation);
    for (unit, state) in
        [("broken.service", "failed"), ("both.service", "inactive"), ("alone.service", "inactive")]
    {
        assert_eq!(stage.show(unit, "ActiveState"), state, "{unit}");
    }
}
