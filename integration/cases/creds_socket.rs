//! Tests of systemd-creds.socket, through which hardened units decrypt sealed credentials since systemd 258:
//! the drop-in, users that occupy its connections, and what onecred reports about its limits.
use onecred_integration::{
    cases,
    installed::{LIBEXEC, SEALED, SOCKET, make_for},
    machine::{Layer, Suite, wait_until},
    setup::Setup,
    stage::{Stage, consumer},
    theme::Theme,
};
use std::{env, fs, path::Path};

pub const THEME: Theme = Theme {
    name: "creds_socket",
    stage,
    shared: false,
    cases: cases![
        users_hold_all_the_connections_that_they_can_get,
        with_systemds_own_limits_four_users_stop_all_units,
        what_is_wrong_with_the_limits_is_said,
        what_cannot_be_decrypted_is_said,
        a_unit_before_the_socket,
        an_installation_outlasts_upgrades_of_systemd,
    ],
};

const CREDS: &str = "systemd-creds.socket";
const ADDRESS: &str = "/run/systemd/io.systemd.Credentials";
const DROP_IN: &str = "usr/lib/systemd/system/systemd-creds.socket.d/10-onecred.conf";
const OVERRIDE: &str = "/etc/systemd/system/systemd-creds.socket.d/50-test.conf";
const MASK: &str = "/etc/systemd/system/systemd-creds.socket.d/10-onecred.conf";
const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");
/// `MaxConnectionsPerSource=` and `MaxConnections=` of the drop-in.
const LIMITS: (usize, usize) = (256, 4096);

fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .default("maxAge", "1h")
        .secret("password", "op://My Vault/db/password", &["app*"])
        .stage();
    stage.sh("systemctl start dbus.socket onecred-sealed.socket onecred.service").ok();
    stage.write(&format!("{LIBEXEC}/hold.pl"), include_str!("hold.pl"), 0o644);
    stage
}

/// Whether hardened units need the socket with this systemd.
fn is_needed(stage: &Stage) -> bool {
    stage.suite.version().is_ok_and(|version| version >= 258)
}

fn sealed(lines: &str) -> String {
    consumer(lines, &["password"])
        .replace("LoadCredential=", "LoadCredentialEncrypted=")
        .replace(SOCKET, SEALED)
}

fn held(stage: &Stage) -> usize {
    stage.show(CREDS, "NConnections").parse().unwrap_or_default()
}

/// Starts users that occupy as many connections as they can.
fn hold(stage: &Stage, users: usize) {
    let names: Vec<String> = (1..=users).map(|n| format!("holder-{n}.service")).collect();
    let texts: Vec<String> = (1..=users)
        .map(|n| format!("[Service]\nLimitNOFILE=8192\nExecStart=perl {LIBEXEC}/hold.pl {}\n", 20_000 + n))
        .collect();
    stage.units(names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)));
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.run(&[&["systemctl", "start"][..], &words].concat()).ok();
    let number = |property: &str| stage.show(CREDS, property).parse::<usize>().unwrap_or_default();
    let all = number("MaxConnections").min(users * number("MaxConnectionsPerSource"));
    wait_until(&format!("{users} users hold {all} connections"), || held(stage) >= all);
}

/// Starts 20 hardened units at once, and returns how many failed.
fn failed_of_20(stage: &Stage, round: &str) -> usize {
    let names: Vec<String> = (1..=20).map(|n| format!("app-{round}-{n}.service")).collect();
    let text = sealed("PrivateDevices=yes");
    stage.units(names.iter().map(|name| (name.as_str(), text.as_str())));
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.run(&[&["systemctl", "start"][..], &words].concat());
    words.into_iter().filter(|unit| stage.taken(unit, PASSWORD.0).as_deref() != Some(PASSWORD.1)).count()
}

/// The number of users is in `ONECRED_HOLDERS`: 16 can occupy all connections, fewer cannot.
fn users_hold_all_the_connections_that_they_can_get(stage: &Stage) {
    if !is_needed(stage) {
        return assert_eq!(failed_of_20(stage, "alone"), 0);
    }
    let limits = (stage.show(CREDS, "MaxConnectionsPerSource"), stage.show(CREDS, "MaxConnections"));
    assert_eq!(limits, (LIMITS.0.to_string(), LIMITS.1.to_string()));
    assert_eq!(stage.show(CREDS, "TriggerLimitIntervalUSec"), "0");
    let users = env::var("ONECRED_HOLDERS").ok().and_then(|users| users.parse().ok()).unwrap_or(2);
    hold(stage, users);
    let failed = failed_of_20(stage, "held");
    eprintln!("{users} users hold {} connections: {failed} of 20 units failed", held(stage));
    assert_eq!(failed, if users * LIMITS.0 < LIMITS.1 { 0 } else { 20 });
    assert_eq!(stage.show(CREDS, "ActiveState"), "active");
}

fn with_systemds_own_limits_four_users_stop_all_units(stage: &Stage) {
    if !is_needed(stage) {
        return;
    }
    let listens_since = || stage.show(CREDS, "ActiveEnterTimestampMonotonic");
    let before = listens_since();
    stage
        .sh(&format!("mkdir -p $(dirname {MASK}) && ln -s /dev/null {MASK} && systemctl daemon-reload"))
        .ok();
    hold(stage, 4);
    assert_eq!(failed_of_20(stage, "stopped"), 20);
    let checked = stage.sh("onecred check").stderr();
    assert!(
        checked.contains("(16 for each user, 64 in all)") && checked.contains("4 users can stop them all"),
        "{checked}"
    );
    // as in docs/security.md, for machines whose users need no credentials
    let command = "chmod 0600 /run/systemd/io.systemd.Credentials";
    assert!(include_str!("../../docs/security.md").contains(command));
    stage.sh(command).ok();
    stage.sh("systemctl restart 'holder-*.service'").ok();
    wait_until("the users hold nothing", || held(stage) == 0);
    // a reload is enough to apply the drop-in
    stage.sh(&format!("rm {MASK} && systemctl daemon-reload")).ok();
    assert_eq!(stage.show(CREDS, "MaxConnections"), LIMITS.1.to_string());
    assert_eq!(failed_of_20(stage, "closed"), 0);
    assert_eq!(listens_since(), before, "the socket was restarted");
}

/// What check and status report about the socket.
fn said(stage: &Stage) -> (Option<i32>, String, String) {
    let check = stage.sh("onecred check");
    (check.code(), check.stderr(), stage.sh("COLUMNS=400 onecred status").stdout())
}

fn limit(stage: &Stage, lines: &str) {
    stage.write(OVERRIDE, format!("[Socket]\n{lines}\n"), 0o644);
    stage.sh("systemctl daemon-reload").ok();
}

#[track_caller]
fn is_silent(stage: &Stage, why: &str) {
    let (code, check, status) = said(stage);
    assert!(!check.contains(CREDS) && !status.contains(CREDS), "{why}: {check}{status}");
    assert_eq!(code, Some(0), "{why}");
}

fn what_is_wrong_with_the_limits_is_said(stage: &Stage) {
    limit(stage, "MaxConnectionsPerSource=0");
    is_silent(stage, "no unit has a sealed credential");
    stage.units([("app-soft.service", sealed("").as_str())]);
    is_silent(stage, "a unit that may use all devices decrypts by itself");
    let text = format!("[Unit]\nDescription=a\n{}", sealed("DevicePolicy=closed"));
    stage.units([("app-hard.service", text.as_str())]);
    if !is_needed(stage) {
        return is_silent(stage, "before 258 all units decrypt by themselves");
    }
    let (code, check, status) = said(stage);
    assert_eq!(code, Some(0), "{check}");
    for text in [&check, &status] {
        assert!(
            text.contains("(MaxConnectionsPerSource=0): one user can hold all 4096 connections"),
            "{text}"
        );
    }
    assert!(check.starts_with("warning: systemd-creds.socket") && check.contains(OVERRIDE), "{check}");
    let explained = |unit: &str| stage.sh(&format!("onecred explain {unit} password"));
    assert!(explained("app-hard").stdout().contains("note       systemd-creds.socket"));
    assert!(!explained("app-soft").stdout().contains(CREDS), "it decrypts by itself");
    let live = stage.sh("onecred check --live").stderr();
    assert!(live.contains("warning: systemd-creds.socket has no limit"), "{live}");
    limit(stage, "MaxConnectionsPerSource=512");
    is_silent(stage, "it is large enough");
    limit(stage, "MaxConnectionsPerSource=20");
    assert!(said(stage).1.contains("too few connections (20 for each user, 4096 in all)"));
    limit(stage, "PollLimitIntervalSec=60s\nPollLimitBurst=1");
    let (code, check, status) = said(stage);
    for text in [&check, &status] {
        assert!(text.contains("accepts only 1 connection in 60 s") && text.contains(OVERRIDE), "{text}");
    }
    assert_eq!(code, Some(0), "units only wait");
    stage.sh(&format!("rm {OVERRIDE} && systemctl daemon-reload")).ok();
    is_silent(stage, "the drop-in applies again");
    stage.sh(&format!("systemctl stop {CREDS}")).ok();
    let (code, check, status) = said(stage);
    assert!(check.starts_with("error: systemd-creds.socket is not active: "), "{check}");
    assert!(code == Some(1) && status.contains("is not active"), "{check}{status}");
    let explained = explained("app-hard");
    assert!(
        explained.code() == Some(1) && explained.stdout().contains("problem    systemd-creds.socket"),
        "{explained}"
    );
    let json = stage.sh("onecred check --json");
    assert!(json.code() == Some(1) && json.stdout().contains("\"severity\": \"error\""), "{json}");
    // a reload does not depend on it
    stage.sh("onecred check --quiet").ok();
    stage.sh(&format!("systemctl start {CREDS}")).ok();
    is_silent(stage, "the remedy helps");
}

/// Compares what explain says with starts, while the socket or its service is broken.
fn what_cannot_be_decrypted_is_said(stage: &Stage) {
    if !is_needed(stage) {
        return;
    }
    stage.write(&format!("{LIBEXEC}/foreign.pl"), include_str!("foreign.pl"), 0o644);
    let foreign = format!("[Service]\nType=forking\nExecStart=perl {LIBEXEC}/foreign.pl {ADDRESS}\n");
    stage.units([("foreign.service", foreign.as_str())]);
    let drop_in = |unit: &str, text: &str| {
        format!(
            "d=/etc/systemd/system/{unit}.d; mkdir -p $d; printf '{text}' >$d/50-broken.conf; systemctl daemon-reload"
        )
    };
    let template = "systemd-creds@.service";
    let states = [
        ("right", String::new(), ""),
        ("masked", format!("systemctl mask {template}"), "systemd-creds@.service is masked"),
        ("other", drop_in(template, "[Service]\\nExecStart=\\nExecStart=/bin/true\\n"), "runs "),
        (
            "moved",
            drop_in(CREDS, "[Socket]\\nListenStream=\\nListenStream=/run/x\\n"),
            "does not have its address",
        ),
        ("removed", format!("rm {ADDRESS}"), "its socket was removed"),
        ("replaced", "systemctl start foreign.service".to_owned(), "another program"),
        (
            "closed",
            "systemctl start foreign.service; systemctl stop foreign.service".to_owned(),
            "does not accept",
        ),
        ("socket-masked", format!("systemctl mask {CREDS}"), "systemd-creds.socket is masked"),
        ("again", String::new(), ""),
    ];
    let settings = [
        ("private", "PrivateDevices=yes"),
        ("closed", "DevicePolicy=closed"),
        ("allow", "DeviceAllow=/dev/null rw"),
        ("clock", "ProtectClock=yes"),
        ("dynamic", "DynamicUser=yes"),
        ("soft", ""),
    ];
    let mut wrong = Vec::new();
    for (state, change, words) in states {
        let name = |setting: &str| format!("app-{state}-{setting}.service");
        let text = |line: &str| {
            let ask = format!("LoadCredentialEncrypted=password:{SEALED}");
            format!("[Service]\nType=oneshot\n{ask}\n{line}\nExecStart=/bin/grep -qx hunter2 %d/password\n")
        };
        let units: Vec<_> = settings.iter().map(|(key, line)| (name(key), text(line))).collect();
        stage.units(units.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        stage.sh(&change).ok();
        let explained = |unit: &String| stage.sh(&format!("COLUMNS=400 onecred explain {unit} password"));
        let explained: Vec<_> = units.iter().map(|(name, _)| explained(name)).collect();
        let (code, check, status) = said(stage);
        if (code == Some(0)) != words.is_empty() || !check.contains(words) || !status.contains(words) {
            wrong.push(format!("{state}: {words:?} is not in {check} {status}"));
        }
        for ((name, _), explained) in units.iter().zip(explained) {
            let starts = stage.run(&["systemctl", "start", name]).succeeded();
            let has_words = explained.succeeded() || explained.stdout().contains(words);
            if starts != explained.succeeded() || !has_words {
                wrong.push(format!("{name} starts: {starts}, and explain says: {explained}"));
            }
        }
        stage
            .sh(&format!(
                "systemctl stop 'app-*.service'; systemctl unmask {template} {CREDS}; rm -rf /etc/systemd/system/{template}.d /etc/systemd/system/{CREDS}.d; \
                 systemctl stop foreign.service; systemctl daemon-reload; systemctl reset-failed; systemctl restart {CREDS}"
            ))
            .ok();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A unit that is ordered before the socket starts now, but not at boot.
fn a_unit_before_the_socket(stage: &Stage) {
    let text = |lines: &str| {
        format!(
            "[Unit]\nDefaultDependencies=no\nAfter=onecred-sealed.socket\nBefore={CREDS}\n{}",
            sealed(lines)
        )
    };
    stage.units([
        ("app-early-hard.service", text("PrivateDevices=yes").as_str()),
        ("app-early-soft.service", text("").as_str()),
    ]);
    let explained = |unit: &str| stage.sh(&format!("COLUMNS=400 onecred explain {unit} password"));
    let words = "at the next boot app-early-hard.service fails with 243/CREDENTIALS: it is ordered before systemd-creds.socket";
    let (hard, soft) = (explained("app-early-hard"), explained("app-early-soft"));
    assert!(soft.succeeded() && !soft.stdout().contains("243"), "{soft}");
    assert_eq!(hard.stdout().contains(words), is_needed(stage), "{hard}");
    assert!(hard.succeeded(), "{hard}");
    stage.starts("app-early-hard.service", &[PASSWORD]);
    let live = stage.sh("onecred check --live").stdout();
    assert_eq!(
        live.replace("\n  ", " ").contains("at boot app-early-hard.service fails"),
        is_needed(stage),
        "{live}"
    );
    if is_needed(stage) {
        // as at boot, the socket waits for the units
        stage.forget("app-early-hard.service");
        stage.sh(&format!("systemctl stop {CREDS}")).ok();
        stage.sh(&format!("systemctl start app-early-hard.service app-early-soft.service {CREDS}")).fails();
        // onecred starts it again later
        let journal = stage.journal("app-early-hard.service");
        assert!(journal.contains("status=243/CREDENTIALS"), "{journal}");
        stage.got("app-early-soft.service", &[PASSWORD]);
    }
}

/// The drop-in that is installed on another version of systemd, and removed by its uninstallation.
fn left_by_an_installation_on(version: u32) -> String {
    let layer = Layer::create("creds-socket").unwrap_or_else(|error| panic!("{error}"));
    let file = layer.path().join(DROP_IN);
    make_for("install", layer.path(), version).unwrap_or_else(|error| panic!("{error}"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{version}: {error}"));
    make_for("uninstall", layer.path(), version).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        !file.parent().is_some_and(Path::exists),
        "{version}: uninstalling leaves the drop-in's directory"
    );
    text
}

/// An old installation still works after an upgrade of systemd, and a new drop-in does no harm after a
/// downgrade.
fn an_installation_outlasts_upgrades_of_systemd(stage: &Stage) {
    let [old, new] = [252, 262].map(left_by_an_installation_on);
    stage.units([("app-hard.service", sealed("PrivateDevices=yes").as_str())]);
    stage.sh(&format!("rm /{DROP_IN} && systemctl daemon-reload")).ok();
    if is_needed(stage) {
        assert!(said(stage).1.contains("10-onecred.conf is missing or masked"), "{}", said(stage).1);
    }
    stage.write(&format!("/{DROP_IN}"), if is_needed(stage) { old } else { new }, 0o644);
    stage.sh("systemctl daemon-reload").ok();
    is_silent(stage, "installed for another version");
    if is_needed(stage) {
        assert_eq!(stage.show(CREDS, "MaxConnectionsPerSource"), LIMITS.0.to_string());
        return assert_eq!(failed_of_20(stage, "upgraded"), 0);
    }
    let exists = stage.suite.version().is_ok_and(|version| version >= 256);
    assert_eq!(stage.show(CREDS, "LoadState"), if exists { "loaded" } else { "not-found" });
    assert_eq!(stage.sh("systemctl --failed --quiet --no-legend").stdout(), "");
    assert_eq!(failed_of_20(stage, "downgraded"), 0);
}
