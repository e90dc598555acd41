//! Tests of the D-Bus interface: authorization, how a unit follows a rotation, and a restart of the bus.
use onecred_integration::{
    cases,
    fake_connect::Fault,
    installed::{LIBEXEC, SOCKET, repository},
    machine::{Suite, wait_until},
    setup::Setup,
    stage::{Stage, consumer},
    theme::Theme,
};
use std::{fs, path::Path, time::Duration};

pub const THEME: Theme = Theme {
    name: "bus",
    stage,
    shared: true,
    cases: cases![
        each_method_answers_busctl,
        an_error_has_a_name_and_says_what_to_do,
        a_user_is_refused_until_polkit_allows,
        a_unit_has_its_own_secrets_and_no_others,
        a_user_s_session_is_no_unit,
        no_value_is_ever_part_of_a_message,
        the_introspection_is_what_is_documented,
    ],
};

/// Cases that need a machine for themselves.
pub const ALONE: Theme = Theme {
    name: "bus_alone",
    stage,
    shared: false,
    cases: cases![
        a_unit_follows_a_rotation,
        a_value_that_was_put_stands_until_it_is_released,
        a_rollback_stands_until_it_is_released,
        the_bus_may_die,
        a_storm_of_refreshes_is_one_flight,
        a_provider_that_was_killed_leaves_its_name_to_the_next,
        a_reload_is_told_by_its_outcome,
        the_bus_starts_the_provider,
    ],
};

/// The same cases with dbus-broker.
pub const BROKER: Theme = Theme {
    name: "bus_broker",
    stage: |suite| {
        let stage = stage(suite);
        stage.sh("systemctl enable -q dbus-broker.service && systemctl stop dbus.service dbus.socket && systemctl daemon-reload && systemctl start dbus.socket dbus-broker.service").ok();
        stage.sh("systemctl restart onecred").ok();
        stage
    },
    shared: false,
    cases: cases![dbus_broker_does_as_well],
};

const MANAGER: &str = "org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager";

pub(crate) fn stage(suite: Suite) -> Stage {
    let stage = Setup::connect(suite)
        .default("maxAge", "1h")
        .default("deadline", "3s")
        .secret("password", "op://My Vault/db/password", &["app*"])
        .secret("username", "op://My Vault/db/username", &["app*", "other"])
        .secret("key", "op://My Vault/multi/Dev/token", &["other"])
        .secret("anybody", "op://My Vault/db/username", &["*"])
        .secret("nowhere", "op://My Vault/nowhere/password", &["app*"])
        .rule(&["by-rule@*"], &["*"], "op://My Vault/{instance}/{credential}")
        .rule(&["guesser"], &["username", "*"], "op://My Vault/db/{credential}")
        .stage();
    let client = fs::read(Path::new(env!("CARGO_BIN_EXE_bus-client"))).expect("the client");
    stage.write(&format!("{LIBEXEC}/bus-client"), client, 0o755);
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    on_the_bus(&stage);
    stage
}

/// Waits until the provider has its name on the bus.
#[track_caller]
fn on_the_bus(stage: &Stage) {
    wait_until("the provider is on the bus", || {
        stage.sh("busctl --no-pager status org.onecred.Credentials1").succeeded()
    });
}

pub(crate) fn call(words: &str) -> String {
    format!("busctl call {MANAGER} {words}")
}

pub(crate) fn property(secret: &str, name: &str) -> String {
    format!(
        "busctl get-property org.onecred.Credentials1 /org/onecred/Credentials1/secret/{secret} org.onecred.Credentials1.Secret {name}"
    )
}

/// Runs a command as an arbitrary user, who is not that of any unit, and outside the units of onecred.
pub(crate) fn as_user(command: &str) -> String {
    format!("setpriv --reuid=news --regid=news --clear-groups {command}")
}

/// Runs the client as a process of a unit, as a user other than root. Returns its output.
pub(crate) fn in_unit(stage: &Stage, unit: &str, words: &str) -> (Option<i32>, String, String) {
    let ran = stage.sh(&format!(
        "systemd-run --unit={unit} --collect --wait --pipe -q -p User=games {LIBEXEC}/bus-client {words}"
    ));
    (ran.code(), ran.stdout(), ran.stderr())
}

fn each_method_answers_busctl(stage: &Stage) {
    let refreshed = stage.sh(&call("Refresh ast 1 password 0")).ok();
    assert!(
        refreshed.contains("\"password\" \"changed\" 1") || refreshed.contains("\"unchanged\" 1"),
        "{refreshed}"
    );
    let again = stage.sh(&call("Refresh ast 1 password 1")).ok();
    assert!(again.contains("\"password\" \"unchanged\" 1 \"\" \"\""), "{again}");
    let all = stage.sh(&call("RefreshAll t 0")).ok();
    assert!(all.contains("\"nowhere\" \"failed\" 0 \"org.onecred.Error.NotFound\""), "{all}");
    let listed = stage.sh(&call("ListSecrets")).ok();
    assert!(listed.starts_with("aa{sv} 5 ") && listed.contains("op://My Vault/db/password"), "{listed}");
    let explained = stage.sh(&call("Explain ss app password")).ok();
    assert!(explained.starts_with("bsss true \"password\" \"op://My Vault/db/password\""), "{explained}");
    let explained = stage.sh(&call("Explain ss stranger password")).ok();
    assert!(
        explained.contains("bsss false") && explained.contains("add \\\"stranger.service\\\""),
        "{explained}"
    );
    assert_eq!(stage.sh(&call("Open s password")).ok().trim().split(' ').next(), Some("h"));
    stage.sh(&call("Reload")).ok();
    assert_eq!(stage.sh(&property("password", "State")).ok().trim(), "s \"fresh\"");
    assert_eq!(stage.sh(&property("nowhere", "State")).ok().trim(), "s \"failing\"");
    assert!(stage.sh(&property("nowhere", "LastError")).ok().contains("no item"));
    let tree = stage.sh("busctl --no-pager --list tree org.onecred.Credentials1").ok();
    assert!(tree.contains("/secret/password") && tree.contains("/source/default"), "{tree}");
    let path =
        "org.onecred.Credentials1 /org/onecred/Credentials1/secret/password org.onecred.Credentials1.Secret";
    assert!(stage.sh(&format!("busctl call {path} Refresh t 1")).ok().contains("st \"unchanged\" 1"));
    stage.sh(&format!("busctl call {path} Open")).ok();
}

fn an_error_has_a_name_and_says_what_to_do(stage: &Stage) {
    let said = stage.sh(&call("Open s passwort")).fails();
    assert!(said.contains("no secret is called \"passwort\"; did you mean \"password\"?"), "{said}");
    let said = stage.sh(&call("Open s nowhere")).fails();
    assert!(said.contains("nowhere: op://My Vault/nowhere/password: not found: no item"), "{said}");
    let said = stage.sh(&call("Refresh ast 1 password 2")).ok();
    assert!(said.contains("org.onecred.Error.InvalidArgument"), "{said}");
    let many = ["password"; 6].join(" ");
    let said = stage.sh(&call(&format!("Refresh ast 6 {many} 0"))).ok();
    assert!(said.starts_with("a(sstss) 1 \"password\" \""), "each name once: {said}");
    let said = stage.sh(&call("Refresh ast 6 a b c d e password 0")).fails();
    assert!(said.contains("no secret is called \"a\""), "{said}");
    let said = stage.sh(&call("Explain ss a/b password")).fails();
    assert!(said.contains("a/b"), "{said}");
    let said = stage.sh(&call("Release s password")).fails();
    assert!(said.contains("password has no override"), "{said}");
}

fn a_user_is_refused_until_polkit_allows(stage: &Stage) {
    for words in [
        "ListSecrets",
        "Explain ss app password",
        "RefreshAll t 0",
        "Refresh ast 1 password 0",
        "Open s password",
        "Reload",
        "Release s password",
    ] {
        let said = stage.sh(&as_user(&call(words))).fails();
        assert!(said.contains("may not do this (org.onecred.credentials1."), "{words}: {said}");
    }
    // they may not list secrets either
    let said = stage.sh(&as_user(&call("Open s passwort"))).fails();
    assert!(said.contains("may not do this"), "{said}");
    assert!(!stage.sh(&as_user(&property("password", "Reference"))).succeeded());
    let rule = "polkit.addRule(function(action, subject) { if (action.id == \"org.onecred.credentials1.inspect\" && subject.user == \"news\") return polkit.Result.YES; });";
    // polkit checks a file when it appears, but not again when it becomes readable
    stage.write("/srv/news.rules", rule, 0o644);
    stage.sh("mkdir -p /etc/polkit-1/rules.d && mv /srv/news.rules /etc/polkit-1/rules.d/10-news.rules").ok();
    wait_until("polkit has the rule", || stage.sh(&as_user(&call("ListSecrets"))).succeeded());
    assert!(stage.sh(&as_user(&property("password", "Reference"))).ok().contains("op://"));
    let said = stage.sh(&as_user(&call("Open s password"))).fails();
    assert!(said.contains("org.onecred.credentials1.read"), "{said}");
    stage.sh("rm /etc/polkit-1/rules.d/10-news.rules").ok();
}

fn a_unit_has_its_own_secrets_and_no_others(stage: &Stage) {
    assert_eq!(in_unit(stage, "app1", "open password"), (Some(0), "hunter2".into(), String::new()));
    assert_eq!(in_unit(stage, "app2", "credential username").1, "bob");
    let (code, value, said) = in_unit(stage, "app3", "open key");
    assert!(code != Some(0) && value.is_empty(), "{value}");
    assert!(said.contains("NotAuthorized") && said.contains("in app3.service may not do this"), "{said}");
    let (_, value, said) = in_unit(stage, "app4", "credential key");
    assert!(value.is_empty() && said.contains("not allowed: secret key"), "{said}");
    assert_eq!(in_unit(stage, "stranger", "open password").1, "");
    // a process that another user runs in a unit of root is not the unit, and cannot read its credentials
    // either
    for words in ["open password", "credential password"] {
        let client = as_user(&format!("{LIBEXEC}/bus-client {words}"));
        let ran = stage.sh(&format!("systemd-run --unit=app-of-root --collect --wait --pipe -q {client}"));
        assert!(
            ran.stdout().is_empty() && ran.stderr().contains("NotAuthorized"),
            "{} {}",
            ran.stdout(),
            ran.stderr()
        );
    }
    let (_, done, said) = in_unit(stage, "app5", "storm 1 password");
    assert_eq!(done.trim(), "1 of 1", "{said}");
    let listed = stage.sh(&format!(
        "systemd-run --unit=app6 --collect --wait --pipe -q -p User=games {}",
        call("ListSecrets")
    ));
    let listed = listed.ok();
    assert!(listed.starts_with("aa{sv} 4 ") && !listed.contains("Dev/token"), "{listed}");
}

fn a_user_s_session_is_no_unit(stage: &Stage) {
    // the processes of a scope belong to whoever asked for the scope
    let said = stage
        .sh(&format!("systemd-run --scope --unit=app7 -q {} {LIBEXEC}/bus-client open anybody", as_user("")))
        .fails();
    assert!(said.contains("NotAuthorized"), "{said}");
    assert_eq!(in_unit(stage, "app8", "open anybody").1, "bob", "a service is one");
}

fn no_value_is_ever_part_of_a_message(stage: &Stage) {
    stage.sh("systemd-run -q --unit=monitor -p StandardOutput=file:/srv/traffic sh -c 'exec dbus-monitor --system --binary'").ok();
    let canary = "monitored-8261";
    wait_until("the monitor sees the bus", || {
        stage.sh(&format!("busctl emit / org.example.Canary Sings s {canary}")).ok();
        stage.sh(&format!("grep -qa {canary} /srv/traffic")).succeeded()
    });
    for words in ["Open s password", "Refresh ast 1 password 1", "ListSecrets", "Explain ss app password"] {
        stage.sh(&call(words)).ok();
    }
    assert_eq!(stage.sh(&format!("{LIBEXEC}/bus-client open password")).ok(), "hunter2");
    let end = "monitored-8262";
    wait_until("the monitor is through", || {
        stage.sh(&format!("busctl emit / org.example.Canary Sings s {end}")).ok();
        stage.sh(&format!("grep -qa {end} /srv/traffic")).succeeded()
    });
    stage.sh("grep -qa 'OpenCredential\\|ListSecrets' /srv/traffic").ok();
    stage.sh("! grep -qa hunter2 /srv/traffic").ok();
    stage.sh("systemctl stop monitor").ok();
}

fn the_introspection_is_what_is_documented(stage: &Stage) {
    let mut xml = String::new();
    for path in ["", "/secret/password", "/source/default"] {
        let call = format!(
            "busctl --json=short call org.onecred.Credentials1 /org/onecred/Credentials1{path} org.freedesktop.DBus.Introspectable Introspect"
        );
        let answer: serde_json::Value = serde_json::from_str(&stage.sh(&call).ok()).expect("JSON");
        let text = answer["data"][0].as_str().expect("a text").to_owned();
        let own = text.find("  <interface name=\"org.onecred").expect("our interface");
        let end = text[own..].find("</interface>").expect("its end");
        xml.push_str(&text[own..own + end + "</interface>\n".len()]);
    }
    let path = repository().join("integration/fixtures/introspection.xml");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &xml).expect("the snapshot is written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        xml == expected,
        "the interface is not that of {}; UPDATE_EXPECTED=1 takes it over:\n{xml}",
        path.display()
    );
}

fn a_unit_follows_a_rotation(stage: &Stage) {
    stage.sh(&format!(
        "systemd-run -q --unit=app-follower -p Type=notify -p User=games -p WorkingDirectory=/srv/out {LIBEXEC}/bus-client follow password /srv/out/followed"
    ))
    .ok();
    let followed = || fs::read_to_string(stage.root().join("srv/out/followed")).unwrap_or_default();
    assert_eq!(followed(), "hunter2");
    stage.connect().set("My Vault", "db", "password", "hunter3").unwrap_or_else(|error| panic!("{error}"));
    let refreshed = stage.sh(&call("Refresh ast 1 password 0")).ok();
    assert!(refreshed.contains("\"password\" \"changed\" "), "{refreshed}");
    wait_until("the unit has the new value", || followed() == "hunter3");
    assert_eq!(stage.show("app-follower.service", "ActiveState"), "active");
}

fn a_value_that_was_put_stands_until_it_is_released(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    stage.write("/srv/glass", "broken glass", 0o600);
    let put = format!("{LIBEXEC}/bus-client put password /srv/glass");
    stage.sh(&as_user(&put)).fails();
    stage.sh(&put).ok();
    stage.starts("app.service", &[("password", b"broken glass")]);
    assert_eq!(stage.sh(&property("password", "State")).ok().trim(), "s \"held\"");
    assert_eq!(stage.sh(&property("password", "Held")).ok().trim(), "s \"put\"");
    stage.sh("systemctl kill -s KILL --kill-whom=main onecred.service").ok();
    stage.starts("app.service", &[("password", b"broken glass")]);
    on_the_bus(stage);
    let line = stage.waits_for_line("onecred.service", "is overridden by an administrator");
    assert!(line.contains("onecred release password"), "{line}");
    stage.sh(&call("Release s password")).ok();
    stage.starts("app.service", &[("password", b"hunter2")]);
    assert_eq!(stage.sh(&property("password", "State")).ok().trim(), "s \"fresh\"");
}

fn a_rollback_stands_until_it_is_released(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    let said = stage.sh(&call("Rollback s password")).fails();
    assert!(said.contains("no previous value"), "{said}");
    stage.connect().set("My Vault", "db", "password", "hunter3").unwrap_or_else(|error| panic!("{error}"));
    stage.sh(&call("Refresh ast 1 password 0")).ok();
    stage.starts("app.service", &[("password", b"hunter3")]);
    // another version of the item with the same password
    stage.connect().set("My Vault", "db", "username", "bob").unwrap_or_else(|error| panic!("{error}"));
    stage.sh(&call("Refresh ast 1 password 0")).ok();
    assert_eq!(stage.sh(&call("Rollback s password")).ok().trim(), "t 1");
    stage.starts("app.service", &[("password", b"hunter2")]);
    assert_eq!(stage.sh(&property("password", "Held")).ok().trim(), "s \"rollback\"");
    stage.sh("systemctl restart onecred.service").ok();
    stage.starts("app.service", &[("password", b"hunter2")]);
    on_the_bus(stage);
    stage.sh(&call("Release s password")).ok();
    stage.starts("app.service", &[("password", b"hunter3")]);
    let line = stage.waits_for_line("onecred.service", "overridden by its previous value, of version 1");
    assert!(line.contains("onecred release password"), "{line}");
}

fn the_bus_may_die(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    let provider = stage.show("onecred.service", "MainPID");
    stage.units([("app-busless.service", consumer("", &["username"]).as_str())]);
    stage.sh("systemctl kill -s KILL dbus.service").ok();
    wait_until("the provider is on the bus again", || stage.sh(&call("ListSecrets")).succeeded());
    stage.sh("systemctl stop dbus.socket dbus.service").ok();
    // systemctl talks to the manager directly, not over D-Bus
    stage.starts("app-busless.service", &[("username", b"bob")]);
    stage.sh("systemctl start dbus.socket dbus.service").ok();
    wait_until("the provider is on the new bus", || stage.sh(&call("ListSecrets")).succeeded());
    assert_eq!(stage.show("onecred.service", "MainPID"), provider, "the provider was restarted");
}

fn a_storm_of_refreshes_is_one_flight(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    // a slow server: even if both are slow, a flight takes longer than the arrival of many calls
    stage.connect().fail(&Fault::delay(Duration::from_millis(200))).unwrap_or_else(|error| panic!("{error}"));
    let before = stage.calls().len();
    let done = stage.sh(&format!("{LIBEXEC}/bus-client storm 1000 password")).ok();
    assert_eq!(done.trim(), "1000 of 1000");
    let calls = stage.calls().len() - before;
    // a flight that began before a call does not count for that call
    assert!(calls <= 100, "{calls} calls for 1000 refreshes of one secret");
}

fn a_provider_that_was_killed_leaves_its_name_to_the_next(stage: &Stage) {
    // a consumer that does not read keeps the keeper running, and its connection to the bus open
    stage.sh(&format!(
        "mkfifo /srv/go; systemd-run -q --unit=app-stuck -p Type=notify {LIBEXEC}/probe {SOCKET} unit/app-stuck.service/nowhere 10 /srv/go"
    ))
    .ok();
    let before = stage.show("onecred.service", "MainPID");
    stage.sh("systemctl kill -s KILL --kill-whom=main onecred.service").ok();
    wait_until("the next provider has the name", || {
        let status = stage.sh("busctl --no-pager status org.onecred.Credentials1").stdout();
        let pid = status.lines().find_map(|line| line.strip_prefix("PID=").map(str::to_owned));
        pid.is_some_and(|pid| pid != before && pid == stage.show("onecred.service", "MainPID"))
    });
    stage.sh(&call("ListSecrets")).ok();
    stage.sh("echo >/srv/go").ok();
}

fn a_reload_is_told_by_its_outcome(stage: &Stage) {
    let config = String::from_utf8(stage.read("/etc/onecred/secrets.json")).unwrap_or_default();
    stage.write("/etc/onecred/secrets.json", config.replace("\"units\"", "\"unit\""), 0o644);
    let said = stage.sh(&call("Reload")).fails();
    assert!(said.contains("/etc/onecred/secrets.json:") && said.contains("unit"), "{said}");
    stage.write("/etc/onecred/secrets.json", config.replace("\"nowhere\"", "\"renamed\""), 0o644);
    stage.sh(&call("Reload")).ok();
    wait_until("the objects are those of the new configuration", || {
        let tree = stage.sh("busctl --no-pager --list tree org.onecred.Credentials1").stdout();
        tree.contains("/secret/renamed") && !tree.contains("/secret/nowhere")
    });
}

fn the_bus_starts_the_provider(stage: &Stage) {
    stage.sh("systemctl stop onecred.service").ok();
    let listed = stage.sh(&call("ListSecrets")).ok();
    assert!(listed.starts_with("aa{sv} 5 "), "{listed}");
    assert_eq!(stage.show("onecred.service", "ActiveState"), "active");
    // calls that wait for it arrive at once
    stage.sh("systemctl stop onecred.service").ok();
    let list = call("ListSecrets");
    stage
        .sh(&format!("all=; for n in $(seq 8); do {list} >&2 & all=\"$all $!\"; done; for one in $all; do wait $one; done"))
        .ok();
}

fn dbus_broker_does_as_well(stage: &Stage) {
    assert_eq!(stage.show("dbus-broker.service", "ActiveState"), "active");
    on_the_bus(stage);
    each_method_answers_busctl(stage);
    a_unit_has_its_own_secrets_and_no_others(stage);
    let said = stage.sh(&as_user(&call("ListSecrets"))).fails();
    assert!(said.contains("may not do this"), "{said}");
    // a call starts the provider; with a stopped socket it fails immediately
    stage.sh("systemctl stop onecred.service").ok();
    stage.sh(&call("ListSecrets")).ok();
    stage.sh("systemctl stop onecred.socket onecred.service").ok();
    let said = stage.sh(&call("ListSecrets")).fails();
    assert!(said.contains("Could not activate remote peer"), "{said}");
}
