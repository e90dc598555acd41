//! Tests of a boot during an outage with an empty store: the units that fail start after 1Password is back,
//! or after the first token is set.
use onecred_integration::{
    cases,
    fake_connect::{DEFAULT_TOKEN, vault::fixture},
    installed::SOCKET,
    machine::{Plan, Suite, wait_until},
    setup::Setup,
    size::Size,
    stage::Stage,
    theme::Theme,
};
use serde_json::json;

pub const THEME: Theme = Theme {
    name: "morning",
    stage: outage,
    shared: false,
    cases: cases![
        whoever_failed_at_boot_runs_when_1password_is_back,
        a_unit_whose_start_cannot_be_queued_stays_failed,
        who_failed_for_a_unit_that_returns_by_itself_is_started,
    ],
};

/// A machine that was installed without a token.
pub const TOKEN: Theme = Theme {
    name: "first-token",
    stage: tokenless,
    shared: false,
    cases: cases![the_first_token_starts_what_was_refused_for_none, no_unit_of_a_crowd_is_lost],
};

fn service(unit: &str, lines: &str) -> String {
    format!(
        "[Unit]\n{unit}\n[Service]\nType=exec\nReadWritePaths=/srv/out\n{lines}\n\
         ExecStart=/bin/sh -c 'echo >>/srv/out/%n.starts; exec sleep infinity'\n[Install]\nWantedBy=multi-user.target\n"
    )
}

fn consumer(lines: &str) -> String {
    service(
        "StartLimitIntervalSec=60\nStartLimitBurst=2",
        &format!("LoadCredential=password:{SOCKET}\n{lines}"),
    )
}

fn requires(handle: &str) -> String {
    service(
        &format!("Requires={handle}\nAfter={handle}"),
        "ExecStartPre=/bin/grep -q devtok /run/secrets/token",
    )
}

const UNITS: [&str; 6] = [
    "plain.service",
    "impatient.service",
    "file.service",
    "all.service",
    "second.service",
    "stopped.service",
];

/// The source is not available at boot: the fake is started later.
fn boots(suite: Suite, more: fn(Plan) -> Plan) -> Stage {
    let units = |plan: Plan| {
        let plan = plan
            .unit("plain.service", &consumer("Restart=no"))
            .unit("impatient.service", &consumer("Restart=on-failure\nRestartSec=1s"))
            .unit("file.service", &requires("onecred-file@token.service"))
            .unit("all.service", &requires("onecred-publish.service"))
            .unit("second.service", &service("Requires=file.service\nAfter=file.service", ""))
            .unit("stopped.service", &consumer("Restart=on-failure\nRestartSec=1s"))
            .prepare("systemctl enable -q dbus.socket plain impatient file all second stopped")
            .may_be_degraded();
        more(plan)
    };
    let stage = Setup::connect(suite)
        .default("deadline", "2s")
        .secret("password", "op://My Vault/db/password", &["*"])
        .entry(json!({ "name": "token", "reference": "op://My Vault/multi/Dev/token", "target": "/run/secrets/token" }))
        .plan(units)
        .stage_without_connect();
    wait_until("all have failed", || UNITS.iter().all(|unit| is_down(&stage, unit)));
    stage
}

fn is_down(stage: &Stage, unit: &str) -> bool {
    matches!(stage.show(unit, "ActiveState").as_str(), "failed" | "inactive")
        && stage.show(unit, "Job").is_empty()
}

fn outage(suite: Suite) -> Stage {
    boots(suite, |plan| plan)
}

fn tokenless(suite: Suite) -> Stage {
    boots(suite, |plan| plan.prepare("rm /etc/onecred/token"))
}

#[track_caller]
fn all_but_the_stopped_run(stage: &Stage) {
    for unit in &UNITS[..5] {
        wait_until(&format!("{unit} runs"), || stage.show(unit, "ActiveState") == "active");
        let line = stage.waits_for_line(unit, "again: the cause of its failure");
        assert!(line.contains(" onecred["), "{line}");
    }
    wait_until("the provider is through", || {
        !stage.sh("grep -q service /run/onecred/store/refused.json").succeeded()
    });
    for unit in &UNITS[..5] {
        assert_eq!(stage.sh(&format!("wc -l </srv/out/{unit}.starts")).ok().trim(), "1", "{unit}");
    }
    assert!(
        is_down(stage, "stopped.service") && !stage.root().join("srv/out/stopped.service.starts").exists()
    );
    assert!(!stage.journal("stopped.service").contains("again: the cause of its failure"));
}

fn whoever_failed_at_boot_runs_when_1password_is_back(stage: &Stage) {
    assert!(stage.journal("plain.service").contains("away: "), "{}", stage.journal("plain.service"));
    assert_eq!(stage.show("all.service", "ActiveState"), "inactive", "it failed for another");
    stage.sh("systemctl stop stopped.service").ok();
    stage.connect_comes(&fixture());
    all_but_the_stopped_run(stage);
}

fn a_unit_whose_start_cannot_be_queued_stays_failed(stage: &Stage) {
    stage.write(
        "/etc/systemd/system/plain.service.d/needs.conf",
        "[Unit]\nRequires=missing.service\n",
        0o644,
    );
    stage.write(
        "/etc/systemd/system/impatient.service.d/needs.conf",
        "[Unit]\nRefuseManualStart=yes\n",
        0o644,
    );
    stage.sh("systemctl daemon-reload").ok();
    stage.connect_comes(&fixture());
    for (unit, reason) in [
        ("plain.service", "needs missing.service, which is not-found"),
        ("impatient.service", "RefuseManualStart="),
    ] {
        let line = stage.waits_for_line(unit, "could not be started again");
        assert!(line.contains(reason), "{line}");
        assert_eq!(stage.show(unit, "ActiveState"), "failed", "{unit}");
    }
}

fn who_failed_for_a_unit_that_returns_by_itself_is_started(stage: &Stage) {
    let returns = format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nRestart=on-failure\nRestartSec=1s\n\
         LoadCredential=password:{SOCKET}\nExecStart=/bin/sleep infinity\n"
    );
    let needs =
        "[Unit]\nRequires=returns.service\nAfter=returns.service\n[Service]\nExecStart=/bin/sleep infinity\n";
    stage.units([("returns.service", returns.as_str()), ("needs.service", needs)]);
    stage.sh("systemctl start --no-block needs.service").ok();
    wait_until("it is in the list with the other", || {
        stage.sh("grep -q needs.service /run/onecred/store/refused.json").succeeded()
    });
    wait_until("it is restarted by itself", || stage.show("returns.service", "NRestarts") != "0");
    stage.connect_comes(&fixture());
    wait_until("it has returned", || stage.show("returns.service", "ActiveState") == "active");
    wait_until("the other runs", || stage.show("needs.service", "ActiveState") == "active");
    assert!(
        !stage.journal("returns.service").contains("again: the cause of its failure"),
        "systemd has started it"
    );
}

fn the_first_token_starts_what_was_refused_for_none(stage: &Stage) {
    assert!(stage.journal("plain.service").contains("no token: "), "{}", stage.journal("plain.service"));
    stage.sh("systemctl stop stopped.service").ok();
    stage.connect_comes(&fixture());
    let set = ["onecred", "token", "set", "--no-check", "--file"];
    stage.run_with_input(&set, DEFAULT_TOKEN.as_bytes()).ok();
    all_but_the_stopped_run(stage);
}

/// The number of `Type=simple` units, whose start jobs end before they are refused.
const CROWD: Size = Size { short: 80, full: 200 };

fn count(stage: &Stage, state: &str) -> usize {
    let list = format!("systemctl list-units --all --no-legend --plain --state={state} 'crowd@*'");
    stage.sh(&list).ok().lines().count()
}

fn no_unit_of_a_crowd_is_lost(stage: &Stage) {
    let crowd = CROWD.now();
    let text = format!(
        "[Service]\nType=simple\nRemainAfterExit=yes\nLoadCredential=password:{SOCKET}\nExecStart=/bin/true\n"
    );
    stage.units([("crowd@.service", text.as_str())]);
    stage.sh(&format!("systemctl start --no-block $(seq -f crowd@%g.service {crowd})")).ok();
    wait_until("all were refused", || count(stage, "failed") == crowd);
    let listed = || stage.sh("grep -o 'crowd@' /run/onecred/store/refused.json").stdout().lines().count();
    wait_until("all are in the list", || listed() == crowd);
    stage.connect_comes(&fixture());
    let set = ["onecred", "token", "set", "--no-check", "--file"];
    stage.run_with_input(&set, DEFAULT_TOKEN.as_bytes()).ok();
    wait_until("all run", || count(stage, "active") == crowd);
    let calls = stage.calls();
    let items: Vec<&str> =
        calls.iter().map(|call| call.path.as_str()).filter(|path| path.contains("/items/")).collect();
    assert_eq!(items.iter().collect::<std::collections::BTreeSet<_>>().len(), items.len(), "{items:?}");
}
