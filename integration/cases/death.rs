//! Tests that kill, stop, restart or freeze the provider while units ask at both sockets: each unit gets the right
//! value or does not start.
use onecred_integration::{
    cases,
    fake_connect::{Fault, Kind, vault::long_value},
    installed::{LIBEXEC, SEALED, SOCKET},
    machine::{Suite, wait_until},
    setup::{Setup, field, fixture_with},
    size::Size,
    stage::{End, Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "death",
    stage,
    shared: false,
    cases: cases![
        kill_9_while_units_wait,
        kill_9_while_a_long_value_is_written,
        stop_while_units_wait,
        stop_while_a_long_value_is_written,
        stop_while_readers_are_stuck_in_a_long_value,
        restart_while_units_wait,
        restart_while_a_long_value_is_written,
        a_watchdog_abort_while_units_wait,
        a_watchdog_abort_while_a_long_value_is_written,
        out_of_memory_while_a_long_value_is_written,
        the_resolver_is_killed_while_units_wait,
        kills_in_a_storm_of_units,
        the_socket_stays_through_all_of_it,
    ],
};

const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");
const LIMIT: usize = 1 << 20;
/// The size of a value that does not fit into a socket's buffer, and that fits, encrypted, into what the probe reads.
const LONG: usize = 700 * 1024;
/// The units that wait for a value, one at each socket.
const WAITING: [&str; 2] = ["app.service", "app-sealed.service"];
/// The readers that have read a part of a value: names, and their sockets.
const SLOW: [(&str, &str); 2] = [("app-slow", SOCKET), ("app-slow-sealed", SEALED)];

fn stage(suite: Suite) -> Stage {
    patient(suite, "120s")
}

fn patient(suite: Suite, deadline: &str) -> Stage {
    Setup::connect(suite)
        .holding(fixture_with([("long", vec![field("value", &long_value(LONG))])]))
        .default("deadline", deadline)
        .default("maxAge", "session")
        .secret("password", "op://My Vault/db/password", &["app*"])
        .secret("long", "op://My Vault/long/value", &["app*"])
        .stage()
}

/// Cases in which no unit waits long.
pub const CROWD: Theme = Theme {
    name: "crowd",
    stage: |suite| patient(suite, "6s"),
    shared: false,
    cases: cases![readers_that_never_read_hold_nobody_up_for_good],
};

fn sealed(credentials: &[&str]) -> String {
    consumer("", credentials).replace("LoadCredential=", "LoadCredentialEncrypted=").replace(SOCKET, SEALED)
}

/// Starts consumers that wait for a Connect server that does not answer.
fn units_wait(stage: &Stage) {
    stage.connect().fail(&Fault::of(Kind::Hang)).unwrap_or_else(|error| panic!("{error}"));
    let texts = [consumer("", &["password"]), sealed(&["password"])];
    stage.units(WAITING.into_iter().zip(texts.iter().map(String::as_str)));
    stage.run(&[&["systemctl", "start", "--no-block"][..], &WAITING].concat()).ok();
    for unit in WAITING {
        // 03: connected
        let connected = format!("grep -q ' 03 .*/unit/{unit}/password$' /proc/net/unix");
        wait_until(&format!("{unit} has asked"), || stage.sh(&connected).succeeded());
    }
    wait_until("Connect is asked", || !stage.calls().is_empty());
}

/// Connect answers again, and the next units get their secrets.
#[track_caller]
fn all_is_well_again(stage: &Stage) {
    stage.connect().clear_faults().unwrap_or_else(|error| panic!("{error}"));
    let long = long_value(LONG);
    let values = [PASSWORD, ("long", long.as_bytes())];
    stage.gets("app-next.service", "", &values);
    stage.units([("app-next-sealed.service", sealed(&["password", "long"]).as_str())]);
    stage.starts("app-next-sealed.service", &values);
}

/// Checks the units whose requests were interrupted by the end of the provider: each has the right value or did
/// not start.
#[track_caller]
fn right_or_not_at_all(stage: &Stage) {
    for unit in WAITING {
        right_or_refused(stage, unit, &stage.settled(unit), PASSWORD);
    }
}

/// Checks the result of one unit. Returns whether it started.
#[track_caller]
fn right_or_refused(stage: &Stage, unit: &str, end: &End, value: (&str, &[u8])) -> bool {
    if end.succeeded() {
        stage.took(unit, &[value])
    } else {
        stage.was_243(unit, end);
    }
    end.succeeded()
}

/// A slow reader at each socket instead of units: when this returns, they have read the beginning of the long value.
fn a_long_value_is_half_read(stage: &Stage) {
    stage.gets("app-warm.service", "", &[("long", long_value(LONG).as_bytes())]);
    let texts = SLOW.map(|(name, socket)| {
        format!(
            "[Service]\nType=notify\nStandardOutput=truncate:/srv/out/{name}\nExecStartPre=mkfifo /srv/out/{name}.go\n\
            ExecStart={LIBEXEC}/probe {socket} unit/{name}.service/long 1000 /srv/out/{name}.go\n"
        )
    });
    let names = SLOW.map(|(name, _)| format!("{name}.service"));
    stage.units(names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)));
    stage.run(&["systemctl", "start", &names[0], &names[1]]).ok();
}

/// Lets the slow readers continue, and checks what they have read at the end.
#[track_caller]
fn they_read_all_or_too_much(stage: &Stage) {
    for (name, _) in SLOW {
        stage.sh(&format!("echo >/srv/out/{name}.go")).ok();
        stage.settled(&format!("{name}.service"));
    }
    let read = stage.read("/srv/out/app-slow");
    let whole = read == long_value(LONG).as_bytes();
    assert!(whole || read.len() > LIMIT, "a unit would have started with {} of {LONG} bytes", read.len());
    // systemd decrypts all of a value or nothing
    let decrypted = stage.sh("systemd-creds decrypt --name=long /srv/out/app-slow-sealed -");
    if decrypted.succeeded() {
        assert!(decrypted.stdout() == long_value(LONG), "a unit would have started with another value");
    } else {
        assert!(stage.read("/srv/out/app-slow-sealed").len() > LIMIT, "{decrypted}");
    }
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

fn kill_9_while_units_wait(stage: &Stage) {
    units_wait(stage);
    kill(stage);
    right_or_not_at_all(stage);
    all_is_well_again(stage);
    for unit in WAITING {
        stage.waits_for_line(unit, "again: the cause of its failure");
        wait_until("it has its value", || right_or_refused(stage, unit, &stage.settled(unit), PASSWORD));
    }
}

fn kill_9_while_a_long_value_is_written(stage: &Stage) {
    a_long_value_is_half_read(stage);
    kill(stage);
    they_read_all_or_too_much(stage);
    all_is_well_again(stage);
}

fn stop_while_units_wait(stage: &Stage) {
    units_wait(stage);
    stage.run(&["systemctl", "stop", "onecred.service"]).ok();
    right_or_not_at_all(stage);
    all_is_well_again(stage);
}

fn stop_while_a_long_value_is_written(stage: &Stage) {
    a_long_value_is_half_read(stage);
    stage.run(&["systemctl", "stop", "--no-block", "onecred.service"]).ok();
    wait_until("it is stopping", || stage.show("onecred.service", "ActiveState") == "deactivating");
    they_read_all_or_too_much(stage);
    all_is_well_again(stage);
}

fn stop_while_readers_are_stuck_in_a_long_value(stage: &Stage) {
    a_long_value_is_half_read(stage);
    stage.run(&["systemctl", "stop", "onecred.service"]);
    they_read_all_or_too_much(stage);
    all_is_well_again(stage);
}

fn restart_while_units_wait(stage: &Stage) {
    units_wait(stage);
    stage.run(&["systemctl", "restart", "onecred.service"]).ok();
    right_or_not_at_all(stage);
    all_is_well_again(stage);
}

fn restart_while_a_long_value_is_written(stage: &Stage) {
    a_long_value_is_half_read(stage);
    stage.run(&["systemctl", "restart", "--no-block", "onecred.service"]).ok();
    wait_until("it is stopping", || stage.show("onecred.service", "ActiveState") == "deactivating");
    they_read_all_or_too_much(stage);
    all_is_well_again(stage);
}

fn a_watchdog_abort_while_units_wait(stage: &Stage) {
    with_an_alert_watchdog(stage);
    units_wait(stage);
    stick(stage);
    right_or_not_at_all(stage);
    all_is_well_again(stage);
}

fn a_watchdog_abort_while_a_long_value_is_written(stage: &Stage) {
    with_an_alert_watchdog(stage);
    a_long_value_is_half_read(stage);
    stick(stage);
    they_read_all_or_too_much(stage);
    all_is_well_again(stage);
}

/// Memory is exhausted, and the next long value needs some. The kernel's OOM killer acts like the `kill -9`
/// above.
fn out_of_memory_while_a_long_value_is_written(stage: &Stage) {
    nothing_is_started_again(stage);
    a_long_value_is_half_read(stage);
    let main = stage.show("onecred.service", "MainPID");
    stage.sh(&format!("prlimit --pid {main} --as=4096")).ok();
    stage.units([("app.service", consumer("", &["long"]).as_str())]);
    stage.run(&["systemctl", "start", "--no-block", "app.service"]).ok();
    wait_until("the provider has ended for want of memory", || {
        stage.show("onecred.service", "MainPID") != main
    });
    they_read_all_or_too_much(stage);
    let end = stage.settled("app.service");
    right_or_refused(stage, "app.service", &end, ("long", long_value(LONG).as_bytes()));
    all_is_well_again(stage);
}

fn the_resolver_is_killed_while_units_wait(stage: &Stage) {
    units_wait(stage);
    stage.connect().clear_faults().unwrap_or_else(|error| panic!("{error}"));
    stage.run(&["systemctl", "kill", "-s", "KILL", "onecred-resolver.service"]).ok();
    for unit in WAITING {
        stage.got(unit, &[PASSWORD]);
    }
}

/// Kills the keepers that are in a scope.
const KILL_KEEPERS: &str =
    "cat /sys/fs/cgroup/system.slice/onecred-keeper-*.scope/cgroup.procs | xargs -r kill -KILL";
/// How often units start while the provider, or its keeper alone, is killed.
const KILL_ROUNDS: Size = Size { short: 4, full: 10 };

fn kills_in_a_storm_of_units(stage: &Stage) {
    nothing_is_started_again(stage);
    stage.gets("app-warm.service", "", &[("long", long_value(LONG).as_bytes())]);
    let long = long_value(LONG);
    let text = consumer("", &["long"]);
    let (mut started, mut refused, rounds) = (0, 0, KILL_ROUNDS.now());
    for round in 0..rounds {
        let names: Vec<_> = (0..12).map(|n| format!("app-{round}-{n}.service")).collect();
        stage.units(names.iter().map(|name| (name.as_str(), text.as_str())));
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        stage.run(&[&["systemctl", "start", "--no-block"][..], &names].concat()).ok();
        for _ in 0..3 {
            let main = stage.show("onecred.service", "MainPID");
            // they may be gone, or not exist yet
            stage.sh(&if round % 2 == 0 { format!("kill -KILL {main}") } else { KILL_KEEPERS.to_owned() });
        }
        for (name, end) in names.iter().zip(stage.all_settled(&names)) {
            if right_or_refused(stage, name, &end, ("long", long.as_bytes())) {
                started += 1
            } else {
                refused += 1
            }
        }
    }
    assert_eq!(started + refused, 12 * rounds);
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
    let long = ("long", long_value(LONG));
    let long = [(long.0, long.1.as_bytes())];
    stage.gets("app-warm.service", "", &long);
    let most = (80 << 20) / LONG; // in the provider's memory
    let (read, readers) = (1000, most + 10);
    let text = format!(
        "[Service]\nStandardOutput=truncate:/srv/out/held\nExecStartPre=mkfifo /srv/out/never\n\
        ExecStart=/bin/sh -c 'for n in $$(seq {readers}); do {LIBEXEC}/probe {SOCKET} unit/app-many.service/long {read} /srv/out/never & done; wait'\n"
    );
    stage.units([("app-many.service", text.as_str())]);
    stage.run(&["systemctl", "start", "app-many"]).ok();
    wait_until("there is no memory left for another", || stage.read("/srv/out/held").len() >= most * read);
    stage.refuses("app-late.service", "", "long", &["no memory for its", "ss -xp"]);
    stage.gets("app-short.service", "", &[PASSWORD]);
    stage.run(&["systemctl", "stop", "app-many"]).ok();
    stage.gets("app-later.service", "", &long);
}
