//! Tests that no traces of a value remain: uses it in every possible way, then searches for it everywhere.
pub(crate) mod search;

use onecred_integration::{
    cases, fake_connect,
    installed::{LIBEXEC, SEALED, SOCKET},
    machine::{Suite, wait_until},
    setup::{Setup, field, fixture_with},
    stage::{Stage, consumer},
    theme::Theme,
};
use search::{Needles, processes};
use serde_json::json;
use std::{fs, path::Path, time::SystemTime};

pub const THEME: Theme =
    Theme { name: "traces", stage, shared: false, cases: cases![no_trace_of_a_value_is_left] };

const FETCHED: &str = "fetched-\"kQ7vX\\2mZ-Lr94tyWbN-e8Gh3sUcJp";
const CHANGED: &str = "changed-\"pD5nB\\8xV-Tz61qkMfR-a2Jw7oYgHi";
const PUT: &str = "putbyus-\"hS3cE\\6uN-Wq58vdXrK-z4Mb9lPtGa";
const HALVES: [&str; 2] = ["onecred.service", "onecred-resolver.service"];

/// Directories that any process could have written to.
const FOLDERS: [&str; 6] = ["/tmp", "/var", "/etc", "/run", "/dev/shm", "/srv"];
/// Where values are expected: the store, published files, systemd's memory for credentials, and what the
/// units write.
const MEANT: [&str; 6] = [
    "/run/onecred/store",
    "/run/onecred/rw",
    "/run/onecred/files",
    "/run/secrets",
    "/run/credentials",
    "/srv/out",
];
/// Where the token is stored.
const TOKEN: &str = "/etc/onecred/token";

fn stage(suite: Suite) -> Stage {
    let reference = "op://My Vault/canary/password";
    let stage = Setup::connect(suite)
        .default("maxAge", "1h")
        .holding(fixture_with([("canary", vec![field("password", FETCHED)])]))
        .setting("audit", json!("all"))
        .entry(json!({ "name": "canary", "reference": reference, "units": ["app*"], "target": "/run/secrets/canary" }))
        .template(&json!({ "name": "t.json", "content": "{\"key\": \"{{canary}}\"}", "units": ["app*"],
            "target": "/run/onecred/files/t.json" }))
        .stage();
    let client = fs::read(Path::new(env!("CARGO_BIN_EXE_bus-client"))).unwrap_or_default();
    stage.write(&format!("{LIBEXEC}/bus-client"), client, 0o755);
    stage
        .sh("systemd-creds setup; systemctl start dbus.socket onecred.service onecred-resolver.service")
        .ok();
    wait_until("the provider is on the bus", || {
        stage.sh("busctl --no-pager status org.onecred.Credentials1").succeeded()
    });
    stage
}

fn no_trace_of_a_value_is_left(stage: &Stage) {
    let began = SystemTime::now();
    watch_the_bus(stage);
    use_it(stage, FETCHED);
    stage.connect().set("My Vault", "canary", "password", CHANGED).unwrap_or_else(|error| panic!("{error}"));
    stage.sh("onecred refresh canary").ok();
    use_it(stage, CHANGED);
    stage.run_with_input(&["onecred", "put", "canary"], PUT.as_bytes()).ok();
    use_it(stage, PUT);
    stage.sh("onecred release canary && onecred refresh --force canary; onecred status; onecred list; onecred metrics").ok();
    the_bus_was_watched(stage, "Canary1");

    let needles = Needles::of(&[FETCHED, CHANGED, PUT]);
    let found = everywhere(stage, &needles, &HALVES, began);
    assert!(found.is_empty(), "{found:#?}");
    let token = Needles::of(&[fake_connect::DEFAULT_TOKEN]);
    let found: Vec<String> = everywhere(stage, &token, &HALVES[..1], began)
        .into_iter()
        .filter(|place| !place.starts_with(TOKEN))
        .collect();
    assert!(found.is_empty(), "the token: {found:#?}");
    dies_without_a_dump(stage, &needles, began);

    // the same search finds the traces of a careless program
    leak(stage);
    let found = everywhere(stage, &needles, &["leak.service"], began);
    for place in LEAKED {
        assert!(
            found.iter().any(|found| found.contains(place)),
            "what was left in {place} is not found: {found:#?}"
        );
    }
}

/// Passes the secret through all paths.
fn use_it(stage: &Stage, value: &str) {
    let json = json!({ "key": value }).to_string().replace("\":\"", "\": \"");
    stage.gets("app.service", "", &[("canary", value.as_bytes()), ("t.json", json.as_bytes())]);
    let sealed = consumer("", &["canary"]).replace("LoadCredential=", "LoadCredentialEncrypted=");
    stage.units([("app-sealed.service", sealed.replace(SOCKET, SEALED).as_str())]);
    stage.starts("app-sealed.service", &[("canary", value.as_bytes())]);
    stage.refuses("stranger.service", "", "canary", &["not allowed"]);
    stage.sh("systemctl restart onecred-file@canary.service onecred-file@t.json.service").ok();
    wait_until("the file is the value", || stage.read("/run/secrets/canary") == value.as_bytes());
    assert_eq!(stage.sh(&format!("{LIBEXEC}/bus-client open canary")).ok(), value);
    assert_eq!(stage.sh("onecred get canary").ok(), value);
}

fn watch_the_bus(stage: &Stage) {
    stage.sh("systemd-run -q --unit=monitor -p StandardOutput=file:/srv/traffic dbus-monitor --system --binary").ok();
    the_bus_was_watched(stage, "Canary0");
}

/// Waits until the monitor has written what was sent until now.
fn the_bus_was_watched(stage: &Stage, mark: &str) {
    wait_until("the monitor sees the bus", || {
        stage.sh(&format!("busctl emit / org.example.{mark} Sings s now")).ok();
        stage.sh(&format!("grep -qa {mark} /srv/traffic")).succeeded()
    });
}

/// Where the values are, except for the expected places.
fn everywhere(stage: &Stage, needles: &Needles, units: &[&str], since: SystemTime) -> Vec<String> {
    stage.run(&["journalctl", "--sync"]);
    let mut found = needles.in_files(stage, &FOLDERS, &MEANT, since);
    found.extend(needles.in_arguments(stage));
    found.extend(units.iter().flat_map(|unit| needles.in_memory(stage, unit)));
    let journal = stage.run(&["journalctl", "--no-pager", "-a", "-o", "export"]).ok_bytes();
    found.extend(needles.found_in(&journal).map(|what| format!("the journal: {what}")));
    found
}

/// Kills both processes as a crash would, with core dumps enabled: no dump is written.
fn dies_without_a_dump(stage: &Stage, needles: &Needles, since: SystemTime) {
    for unit in HALVES {
        for setting in ["LimitCORE", "MemorySwapMax"] {
            assert_eq!(stage.show(unit, setting), "0", "{setting} of {unit}");
        }
        let drop_in =
            "[Service]\nLimitCORE=infinity\nWorkingDirectory=/run/dumps\nReadWritePaths=/run/dumps\n";
        stage.write(&format!("/run/systemd/system/{unit}.d/dumps.conf"), drop_in, 0o644);
    }
    stage.sh("install -d -m 1777 /run/dumps; systemctl daemon-reload").ok();
    for unit in HALVES {
        stage.sh(&format!("systemctl restart {unit}")).ok();
    }
    stage.gets("app.service", "", &[("canary", CHANGED.as_bytes())]);
    for (unit, signal) in [(HALVES[0], "ABRT"), (HALVES[1], "SEGV")] {
        let before = processes(stage, unit);
        for process in &before {
            let status =
                fs::read_to_string(stage.root().join(format!("proc/{process}/status"))).unwrap_or_default();
            assert!(status.contains("VmSwap:\t       0 kB"), "{unit}: {status}");
        }
        wait_until("it is another one", || {
            // the first SIGSEGV of a process that did not cause it only removes its handler
            stage.sh(&format!("kill -{signal} {}", before.join(" ")));
            let now = processes_if_any(stage, unit);
            !now.is_empty() && !now.contains(&before[0])
        });
    }
    assert_eq!(stage.sh("ls -A /run/dumps").ok(), "");
    assert_eq!(needles.in_files(stage, &FOLDERS, &MEANT, since), Vec::<String>::new());
}

fn processes_if_any(stage: &Stage, unit: &str) -> Vec<String> {
    match stage.show(unit, "SubState").as_str() {
        "running" => processes(stage, unit),
        _ => Vec::new(),
    }
}

/// What is found of the careless program.
const LEAKED: [&str; 10] = [
    "memory of leak.service",
    "cmdline of process",
    "environ of process",
    "the journal",
    "/tmp/leaked",
    "/var/tmp/leaked",
    "/etc/leaked",
    "/run/leaked",
    "/srv/traffic",
    "/run/dumps/",
];

/// A program that mishandles the value: it writes every encoding that the search knows, one to each place.
fn leak(stage: &Stage) {
    let hex: String = CHANGED.bytes().map(|byte| format!("{byte:02x}")).collect();
    let script = format!(
        "value=$(cat /run/secrets/canary)\n\
        printf %s \"$value\" >/tmp/leaked\n\
        printf x%s \"$value\" | base64 -w0 >/var/tmp/leaked\n\
        printf '%s' {hex} >/etc/leaked\n\
        perl -e 'print join(\"\", map {{ $_ . \"\\0\" }} split(//, do {{ local $/; <STDIN> }}))' </run/secrets/canary >/run/leaked\n\
        printf '%s\\n' \"$value\" >&2\n\
        busctl emit / org.example.Leak Sings s \"$value\"\n\
        export value\n\
        (ulimit -c unlimited; cd /run/dumps; exec sh -c 'kill -SEGV $$' leak \"$value\")\n\
        exec sh -c 'systemd-notify --ready; sleep infinity; :' leak \"$value\"\n"
    );
    stage.write("/usr/local/libexec/leak", script, 0o755);
    let unit = "[Service]\nType=notify\nNotifyAccess=all\nLimitCORE=infinity\nExecStart=/bin/bash /usr/local/libexec/leak\n";
    stage.units([("leak.service", unit)]);
    stage.sh("systemctl start leak.service").ok();
    the_bus_was_watched(stage, "Canary2");
}
