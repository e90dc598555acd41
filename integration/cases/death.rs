//! Tests that kill, stop, restart or freeze the provider while units ask: each unit gets the right value or
//! does not start.
use onecred_integration::{
    cases,
    fake_connect::{
        Fault, Kind,
        vault::{BIG, long_value},
    },
    installed::{LIBEXEC, SOCKET},
    machine::{Suite, wait_until},
    setup::Setup,
    stage::{End, Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "death",
    stage,
    shared: false,
    cases: cases![
        kill_9_while_a_unit_waits,
        kill_9_while_a_long_value_is_written,
        stop_while_a_unit_waits,
        stop_while_a_long_value_is_written,
        stop_while_a_reader_is_stuck_in_a_long_value,
        restart_while_a_unit_waits,
        restart_while_a_long_value_is_written,
        a_watchdog_abort_while_a_unit_waits,
        a_watchdog_abort_while_a_long_value_is_written,
        out_of_memory_while_a_long_value_is_written,
        the_resolver_is_killed_while_a_unit_waits,
        kills_in_a_storm_of_units,
        the_socket_stays_through_all_of_it,
    ],
};

const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");
const LIMIT: usize = 1 << 20;

fn stage(suite: Suite) -> Stage {
    patient(suite, "120s")
}

fn patient(suite: Suite, deadline: &str) -> Stage {
    Setup::connect(suite)
        .long_values()
        .default("deadline", deadline)
        .default("maxAge", "session")
        .secret("password", "op://My Vault/db/password", &["app*"])
        .secret("big", "op://My Vault/big/value", &["app*"])
        .stage()
}

/// Cases in which no unit waits long.
pub const CROWD: Theme = Theme {
    name: "crowd",
    stage: |suite| patient(suite, "6s"),
    shared: false,
    cases: cases![readers_that_never_read_hold_nobody_up_for_good],
};

/// Starts a consumer that waits for a Connect server that does not answer.
fn a_unit_waits(stage: &Stage, unit: &str) {
    stage.connect().fail(&Fault::of(Kind::Hang)).unwrap_or_else(|error| panic!("{error}"));
    stage.units([(unit, consumer("", &["password"]).as_str())]);
    stage.run(&["systemctl", "start", "--no-block", unit]).ok();
    wait_until("Connect is asked", || !stage.calls().is_empty());
}

/// Connect answers again, and the next unit gets its secret.
#[track_caller]
fn all_is_well_again(stage: &Stage) {
    stage.connect().clear_faults().unwrap_or_else(|error| panic!("{error}"));
    stage.gets("app-next.service", "", &[PASSWORD, ("big", long_value(BIG).as_bytes())]);
}

/// Checks a unit whose request was interrupted by the end of the provider: it has the right value or did not
/// start. Returns whether it started.
#[track_caller]
fn right_or_not_at_all(stage: &Stage, unit: &str, value: (&str, &[u8])) -> bool {
    right_or_refused(stage, unit, &stage.settled(unit), value)
}

#[track_caller]
fn right_or_refused(stage: &Stage, unit: &str, end: &End, value: (&str, &[u8])) -> bool {
    if end.succeeded() {
        stage.took(unit, &[value])
    } else {
        stage.was_243(unit, end);
    }
    end.succeeded()
}

/// A slow reader instead of a unit: when this returns, it has read the beginning of the long value.
fn a_long_value_is_half_read(stage: &Stage) {
    stage.gets("app-warm.service", "", &[("big", long_value(BIG).as_bytes())]);
    let text = format!(
        "[Service]\nType=notify\nStandardOutput=truncate:/srv/out/slow\nExecStartPre=mkfifo /srv/out/go\n\
        ExecStart={LIBEXEC}/probe {SOCKET} unit/app-slow.service/big 1000 /srv/out/go\n"
    );
    stage.units([("app-slow.service", text.as_str())]);
    stage.run(&["systemctl", "start", "app-slow"]).ok();
}

/// Lets the slow reader continue, and checks what it has read at the end.
#[track_caller]
fn it_reads_all_or_too_much(stage: &Stage) {
    stage.sh("echo >/srv/out/go").ok();
    stage.settled("app-slow.service");
    let read = stage.read("/srv/out/slow");
    let whole = read == long_value(BIG).as_bytes();
    assert!(whole || read.len() > LIMIT, "a unit would have started with {} of {BIG} bytes", read.len());
}

fn kill(stage: &Stage) {
    let main = stage.show("onecred.service", "MainPID");
    stage.sh(&format!("kill -KILL {main}")).ok();
    wait_until("the main process is another", || stage.show("onecred.service", "MainPID") != main);
}

fn stick(stage: &Stage) {
    let main = stage.show("onecred.service", "MainPID");
    stage.sh(&format!("kill -STOP {main}")).ok();
    wait_until("the watchdog has bitten", || stage.show("onecred.service", "MainPID") != main);
    assert!(stage.journal("onecred.service").contains("atchdog"), "it was not the watchdog");
}

fn with_an_alert_watchdog(stage: &Stage) {
    stage.write(
        "/run/systemd/system/onecred.service.d/alert.conf",
        "[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\n",
        0o644,
    );
    stage.run(&["systemctl", "daemon-reload"]).ok();
}

/// Turns recovery off, so that the results of refused units can be judged.
fn nothing_is_started_again(stage: &Stage) {
    let config = "/etc/onecred/secrets.json";
    let mut written: serde_json::Value = serde_json::from_slice(&stage.read(config)).unwrap_or_default();
    written["recover"] = serde_json::json!(false);
    stage.write(config, written.to_string(), 0o644);
    stage.sh("systemctl try-reload-or-restart onecred.service").ok();
}

fn kill_9_while_a_unit_waits(stage: &Stage) {
    a_unit_waits(stage, "app.service");
    kill(stage);
    right_or_not_at_all(stage, "app.service", PASSWORD);
    all_is_well_again(stage);
    stage.waits_for_line("app.service", "again: the cause of its failure");
    wait_until("it has its value", || right_or_not_at_all(stage, "app.service", PASSWORD));
}

fn kill_9_while_a_long_value_is_written(stage: &Stage) {
    a_long_value_is_half_read(stage);
    kill(stage);
    it_reads_all_or_too_much(stage);
    all_is_well_again(stage);
}

fn stop_while_a_unit_waits(stage: &Stage) {
    a_unit_waits(stage, "app.service");
    stage.run(&["systemctl", "stop", "onecred.service"]).ok();
    right_or_not_at_all(stage, "app.service", PASSWORD);
    all_is_well_again(stage);
}

fn stop_while_a_long_value_is_written(stage: &Stage) {
    a_long_value_is_half_read(stage);
    stage.run(&["systemctl", "stop", "--no-block", "onecred.service"]).ok();
    wait_until("it is stopping", || stage.show("onecred.service", "ActiveState") == "deactivating");
    it_reads_all_or_too_much(stage);
    all_is_well_again(stage);
}

fn stop_while_a_reader_is_stuck_in_a_long_value(stage: &Stage) {
    a_long_value_is_half_read(stage);
    stage.run(&["systemctl", "stop", "onecred.service"]);
    it_reads_all_or_too_much(stage);
    all_is_well_again(stage);
}

fn restart_while_a_unit_waits(stage: &Stage) {
    a_unit_waits(stage, "app.service");
    stage.run(&["systemctl", "restart", "onecred.service"]).ok();
    right_or_not_at_all(stage, "app.service", PASSWORD);
    all_is_well_again(stage);
}

fn restart_while_a_long_value_is_written(stage: &Stage) {
    a_long_value_is_half_read(stage);
    stage.run(&["systemctl", "restart", "--no-block", "onecred.service"]).ok();
    wait_until("it is stopping", || stage.show("onecred.service", "ActiveState") == "deactivating");
    it_reads_all_or_too_much(stage);
    all_is_well_again(stage);
}

fn a_watchdog_abort_while_a_unit_waits(stage: &Stage) {
    with_an_alert_watchdog(stage);
    a_unit_waits(stage, "app.service");
    stick(stage);
    right_or_not_at_all(stage, "app.service", PASSWORD);
    all_is_well_again(stage);
}

fn a_watchdog_abort_while_a_long_value_is_written(stage: &Stage) {
    with_an_alert_watchdog(stage);
    a_long_value_is_half_read(stage);
    stick(stage);
    it_reads_all_or_too_much(stage);
    all_is_well_again(stage);
}

/// Memory is exhausted, and the next long value needs some. The kernel's OOM killer acts like the `kill -9`
/// above.
fn out_of_memory_while_a_long_value_is_written(stage: &Stage) {
    nothing_is_started_again(stage);
    a_long_value_is_half_read(stage);
    let main = stage.show("onecred.service", "MainPID");
    stage.sh(&format!("prlimit --pid {main} --as=4096")).ok();
    stage.units([("app.service", consumer("", &["big"]).as_str())]);
    stage.run(&["systemctl", "start", "--no-block", "app.service"]).ok();
    wait_until("the provider has ended for want of memory", || {
        stage.show("onecred.service", "MainPID") != main
    });
    it_reads_all_or_too_much(stage);
    right_or_not_at_all(stage, "app.service", ("big", long_value(BIG).as_bytes()));
    all_is_well_again(stage);
}

fn the_resolver_is_killed_while_a_unit_waits(stage: &Stage) {
    a_unit_waits(stage, "app.service");
    stage.connect().clear_faults().unwrap_or_else(|error| panic!("{error}"));
    stage.run(&["systemctl", "kill", "-s", "KILL", "onecred-resolver.service"]).ok();
    stage.got("app.service", &[PASSWORD]);
}

fn kills_in_a_storm_of_units(stage: &Stage) {
    nothing_is_started_again(stage);
    stage.gets("app-warm.service", "", &[("big", long_value(BIG).as_bytes())]);
    let big = long_value(BIG);
    let text = consumer("", &["big"]);
    let (mut started, mut refused) = (0, 0);
    for round in 0..10 {
        let names: Vec<_> = (0..12).map(|n| format!("app-{round}-{n}.service")).collect();
        stage.units(names.iter().map(|name| (name.as_str(), text.as_str())));
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        stage.run(&[&["systemctl", "start", "--no-block"][..], &names].concat()).ok();
        for _ in 0..3 {
            let main = stage.show("onecred.service", "MainPID");
            stage.sh(&format!("kill -KILL {main}")); // it may be gone, or 0 if it does not exist yet
        }
        for (name, end) in names.iter().zip(stage.all_settled(&names)) {
            if right_or_refused(stage, name, &end, ("big", big.as_bytes())) {
                started += 1
            } else {
                refused += 1
            }
        }
    }
    assert_eq!(started + refused, 120);
    assert_eq!(stage.show("onecred.socket", "ActiveState"), "active");
    all_is_well_again(stage);
}

fn the_socket_stays_through_all_of_it(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    for _ in 0..20 {
        let main = stage.show("onecred.service", "MainPID");
        stage.sh(&format!("kill -KILL {main}"));
    }
    all_is_well_again(stage);
    assert_eq!(stage.show("onecred.socket", "ActiveState"), "active");
    assert_eq!(stage.show("onecred.socket", "Result"), "success");
}

/// The memory for them is limited. So a long value may have to wait for them and is refused in the end, while
/// short values are delivered.
fn readers_that_never_read_hold_nobody_up_for_good(stage: &Stage) {
    let big = ("big", long_value(BIG));
    let big = [(big.0, big.1.as_bytes())];
    stage.gets("app-warm.service", "", &big);
    let most = (80 << 20) / BIG; // in the provider's memory
    let (read, readers) = (1000, most + 10);
    let text = format!(
        "[Service]\nStandardOutput=truncate:/srv/out/held\nExecStartPre=mkfifo /srv/out/never\n\
        ExecStart=/bin/sh -c 'for n in $$(seq {readers}); do {LIBEXEC}/probe {SOCKET} unit/app-many.service/big {read} /srv/out/never & done; wait'\n"
    );
    stage.units([("app-many.service", text.as_str())]);
    stage.run(&["systemctl", "start", "app-many"]).ok();
    wait_until("there is no memory left for another", || stage.read("/srv/out/held").len() >= most * read);
    stage.refuses("app-late.service", "", "big", &["no memory for its", "ss -xp"]);
    stage.gets("app-short.service", "", &[PASSWORD]);
    stage.run(&["systemctl", "stop", "app-many"]).ok();
    stage.gets("app-later.service", "", &big);
}
