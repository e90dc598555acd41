//! Tests of changed secrets, and of recovery after an outage: which units are restarted or started again, and
//! which are not.
use onecred_integration::{
    cases,
    fake_connect::Edit,
    installed::SOCKET,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::{Stage, consumer},
    theme::Theme,
};
use std::fs;

pub const THEME: Theme = Theme {
    name: "rotation",
    stage: rotating,
    shared: false,
    cases: cases![
        a_change_restarts_and_reloads_those_that_run,
        a_burst_restarts_a_unit_once,
        a_restart_that_fails_is_told_and_not_repeated,
        what_is_gone_restarts_nothing,
        a_secret_is_kept_fresh_by_itself,
        a_longer_interval_is_not_starved_by_a_shorter_one,
        files_are_replaced_before_a_unit_is_told,
        a_running_service_sees_a_restart_a_reload_and_new_credentials,
    ],
};

/// Outages.
pub const RECOVERY: Theme = Theme {
    name: "recovery",
    stage: outage,
    shared: false,
    cases: cases![
        units_that_failed_in_an_outage_are_started_again,
        who_was_stopped_or_masked_is_left_alone,
        the_next_provider_knows_them,
        nothing_is_started_where_it_is_turned_off,
        what_the_outage_did_not_cause_is_not_started,
        a_provider_that_stops_leaves_them_to_the_next,
    ],
};

const CONFIG: &str = "/etc/onecred/secrets.json";
const MANAGER: &str = "org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager";

pub(super) fn rotating(suite: Suite) -> Stage {
    let stage = Setup::connect(suite)
        .default("maxAge", "1h")
        .secret("password", "op://My Vault/db/password", &["*"])
        .secret("username", "op://My Vault/db/username", &["*"])
        .secret("token", "op://My Vault/multi/Dev/token", &["*"])
        .stage();
    edit(&stage, |config| {
        for (n, secret) in config["secrets"].as_array_mut().into_iter().flatten().enumerate() {
            secret["restartUnits"] = serde_json::json!(["app*", "never"]);
            if n == 0 {
                secret["reloadUnits"] = serde_json::json!(["web*"]);
                secret["target"] = serde_json::json!("/run/secrets/password");
            }
        }
    });
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    on_the_bus(&stage);
    stage
}

/// A machine whose Connect server is not started yet.
fn outage(suite: Suite) -> Stage {
    let stage = Setup::connect(suite)
        .default("deadline", "2s")
        .secret("password", "op://My Vault/db/password", &["*"])
        .secret("token", "op://My Vault/multi/Dev/token", &["*"])
        .stage();
    edit(&stage, |config| config["secrets"][1]["target"] = serde_json::json!("/run/secrets/token"));
    stage.connect_goes();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    on_the_bus(&stage);
    stage
}

pub(super) fn edit(stage: &Stage, change: impl FnOnce(&mut serde_json::Value)) {
    let mut config = serde_json::from_slice(&stage.read(CONFIG)).expect("JSON");
    change(&mut config);
    stage.write(CONFIG, config.to_string(), 0o644);
    stage.sh("systemctl try-reload-or-restart onecred.service").ok();
}

#[track_caller]
pub(super) fn on_the_bus(stage: &Stage) {
    wait_until("the provider is on the bus", || {
        stage.sh("busctl --no-pager status org.onecred.Credentials1").succeeded()
    });
}

/// A service that keeps running, and records each start and reload with its credential.
pub(super) fn service(credential: &str, lines: &str) -> String {
    format!(
        "[Service]\nType=exec\nReadWritePaths=/srv/out\nLoadCredential={credential}:{SOCKET}\n\
         ExecStartPre=/bin/sh -c 'cat \"$CREDENTIALS_DIRECTORY/{credential}\" >>/srv/out/%n.starts; echo >>/srv/out/%n.starts'\n\
         ExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'echo >>/srv/out/%n.reloads'\n{lines}\n"
    )
}

pub(super) fn lines(stage: &Stage, file: &str) -> Vec<String> {
    let text = fs::read_to_string(stage.root().join("srv/out").join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

pub(super) fn set(stage: &Stage, item: &str, field: &str, value: &str) {
    stage.connect().set("My Vault", item, field, value).unwrap_or_else(|error| panic!("{error}"));
}

pub(super) fn refresh_all(stage: &Stage) -> String {
    stage.sh(&format!("busctl call {MANAGER} RefreshAll t 0")).ok()
}

fn a_change_restarts_and_reloads_those_that_run(stage: &Stage) {
    let units = [
        ("app-one.service", service("password", "")),
        ("app-idle.service", service("password", "")),
        ("other.service", service("password", "")),
        ("web.service", service("password", "")),
    ];
    stage.units(units.each_ref().map(|(name, text)| (*name, text.as_str())));
    stage.sh("systemctl start app-one other web").ok();
    let dry = stage.sh("onecred refresh --dry-run password").ok();
    assert!(
        dry.contains("app-one.service") && dry.contains("restart") && dry.contains("web.service"),
        "{dry}"
    );
    assert!(!dry.contains("idle") && !dry.contains("other"), "{dry}");
    set(stage, "db", "password", "hunter3");
    refresh_all(stage);
    wait_until("the unit was restarted", || lines(stage, "app-one.service.starts") == ["hunter2", "hunter3"]);
    let line = stage.waits_for_line("app-one.service", "was restarted, since secret password has changed");
    assert!(line.contains(" onecred["), "{line}");
    stage.waits_for_line("web.service", "was reloaded, since secret password has changed");
    assert_eq!(lines(stage, "web.service.reloads").len(), 1);
    assert_eq!(lines(stage, "web.service.starts").len(), 1);
    assert_eq!(lines(stage, "other.service.starts"), ["hunter2"]);
    assert!(lines(stage, "app-idle.service.starts").is_empty());
}

fn a_burst_restarts_a_unit_once(stage: &Stage) {
    let unit = service("password", &format!("LoadCredential=token:{SOCKET}"));
    stage.units([("app.service", unit.as_str())]);
    stage.sh("systemctl start app").ok();
    refresh_all(stage);
    for (item, field) in [("db", "password"), ("db", "username"), ("multi", "f2")] {
        set(stage, item, field, "changed");
    }
    let said = refresh_all(stage);
    assert!(said.matches("\"changed\"").count() == 3, "{said}");
    set(stage, "db", "password", "changed again");
    refresh_all(stage);
    stage.waits_for_line("app.service", "was restarted");
    // by now every consequence of the change has been logged
    stage.waits_for_line("app.service", "was restarted");
    assert_eq!(lines(stage, "app.service.starts"), ["hunter2", "changed again"]);
}

fn a_restart_that_fails_is_told_and_not_repeated(stage: &Stage) {
    let unit = service(
        "password",
        "ExecStartPre=/bin/sh -c '! grep -q hunter3 \"$CREDENTIALS_DIRECTORY/password\"'",
    );
    stage.units([("app.service", unit.as_str())]);
    stage.sh("systemctl start app").ok();
    set(stage, "db", "password", "hunter3");
    refresh_all(stage);
    let line = stage.waits_for_line("app.service", "could not be restarted");
    assert!(line.contains("systemctl restart app.service"), "{line}");
    set(stage, "db", "username", "another");
    refresh_all(stage);
    assert_eq!(stage.show("app.service", "ActiveState"), "failed");
    assert_eq!(lines(stage, "app.service.starts"), ["hunter2", "hunter3"], "it is tried once");
}

fn what_is_gone_restarts_nothing(stage: &Stage) {
    stage.units([("app.service", service("password", "").as_str())]);
    stage.sh("systemctl start app").ok();
    refresh_all(stage);
    let gone = Edit::Delete { vault: "My Vault".into(), item: "db".into() };
    stage.connect().edit(&gone).unwrap_or_else(|error| panic!("{error}"));
    let said = refresh_all(stage);
    assert!(said.contains("\"password\" \"failed\" 0 \"org.onecred.Error.NotFound\""), "{said}");
    let state = stage.sh("busctl get-property org.onecred.Credentials1 /org/onecred/Credentials1/secret/password org.onecred.Credentials1.Secret State").ok();
    assert_eq!(state.trim(), "s \"failing\"");
    set(stage, "multi", "f2", "a change that is judged");
    let said = refresh_all(stage);
    assert!(said.contains("\"token\" \"changed\""), "{said}");
    let line = stage.waits_for_line("app.service", "is not restarted although");
    // the cause was the change of another secret; the missing one only prevents the unit from starting
    assert!(line.contains("secret token has changed") && line.contains("credential password: "), "{line}");
    assert_eq!(stage.show("app.service", "ActiveState"), "active");
}

fn a_secret_is_kept_fresh_by_itself(stage: &Stage) {
    edit(stage, |config| config["defaults"]["refresh"] = serde_json::json!("1m"));
    stage.units([("app.service", service("password", "").as_str())]);
    stage.sh("systemctl start app").ok();
    refresh_all(stage);
    let before = stage.calls().len();
    set(stage, "db", "password", "hunter3");
    wait_until("the unit was restarted", || lines(stage, "app.service.starts") == ["hunter2", "hunter3"]);
    assert!(stage.calls().len() - before <= 8, "{:?}", stage.calls());
}

fn a_longer_interval_is_not_starved_by_a_shorter_one(stage: &Stage) {
    edit(stage, |config| {
        config["secrets"][0]["refresh"] = serde_json::json!("1m");
        config["secrets"][2]["refresh"] = serde_json::json!("1h");
    });
    stage.units([("app.service", service("token", "").as_str())]);
    stage.sh("systemctl start app").ok();
    refresh_all(stage);
    // the check for the password finds that the item of the token has changed
    set(stage, "multi", "f2", "changed");
    wait_until("the unit was restarted", || lines(stage, "app.service.starts") == ["devtok", "changed"]);
}

fn files_are_replaced_before_a_unit_is_told(stage: &Stage) {
    let unit = service(
        "password",
        "ExecStartPre=/bin/sh -c 'cat /run/secrets/password >>/srv/out/%n.files; echo >>/srv/out/%n.files'\n[Unit]\nRequires=onecred-file@password.service\nAfter=onecred-file@password.service",
    );
    stage.units([("app.service", unit.as_str())]);
    stage.sh("systemctl start app").ok();
    set(stage, "db", "password", "hunter3");
    refresh_all(stage);
    wait_until("the unit was restarted", || lines(stage, "app.service.files").len() == 2);
    assert_eq!(lines(stage, "app.service.files"), ["hunter2", "hunter3"]);
}

/// Since systemd 260, a reload may refresh the credentials of a running service.
const REFRESHES: u32 = 260;

fn a_running_service_sees_a_restart_a_reload_and_new_credentials(stage: &Stage) {
    // each records its credential and its PID, at its start and at each reload
    let script = "#!/bin/sh\ntell() { echo \"$(cat \"$CREDENTIALS_DIRECTORY/password\") $$\" >>\"/srv/out/$1.sees\"; }\n\
                  trap 'tell \"$1\"' HUP\ntell \"$1\"\nwhile :; do sleep infinity & wait $!; done\n";
    stage.write("/srv/tells", script, 0o755);
    let running = |more: &str| {
        format!(
            "[Service]\nType=exec\nReadWritePaths=/srv/out\nLoadCredential=password:{SOCKET}\nExecStart=/srv/tells %n\n\
             ExecReload=/bin/sh -c 'kill -HUP $MAINPID'\n{more}\n"
        )
    };
    let refreshes = stage.suite.version().expect("a version") >= REFRESHES;
    let units = [
        ("app.service", running("")),
        ("web.service", running("")),
        // an older systemd warns about the key, and reloads as usual
        ("web-new.service", running("RefreshOnReload=credentials")),
    ];
    stage.units(units.each_ref().map(|(name, text)| (*name, text.as_str())));
    stage.sh("systemctl start app web web-new").ok();
    let told = |unit: &str, times: usize| {
        let file = format!("{unit}.service.sees");
        wait_until(&format!("{unit} tells"), || lines(stage, &file).len() == times);
    };
    ["app", "web", "web-new"].iter().for_each(|unit| told(unit, 1));
    refresh_all(stage);
    set(stage, "db", "password", "hunter3");
    refresh_all(stage);
    for (unit, said) in [("app", "restarted"), ("web", "reloaded"), ("web-new", "reloaded")] {
        stage.waits_for_line(
            &format!("{unit}.service"),
            &format!("was {said}, since secret password has changed"),
        );
    }
    let sees = |unit: &str| {
        told(unit, 2);
        let lines = lines(stage, &format!("{unit}.service.sees"));
        let [before, after] = lines.as_slice() else { panic!("{unit}: {lines:?}") };
        let ((before, first), (after, second)) =
            (before.split_once(' ').expect("two words"), after.split_once(' ').expect("two words"));
        (before.to_owned(), after.to_owned(), first == second)
    };
    let (old, new) = ("hunter2".to_owned(), "hunter3".to_owned());
    assert_eq!(sees("app"), (old.clone(), new.clone(), false), "another process with the new value");
    assert_eq!(sees("web"), (old.clone(), old.clone(), true), "the same with what it was started with");
    assert_eq!(
        sees("web-new"),
        (old.clone(), if refreshes { new } else { old }, true),
        "the same with the new value"
    );
}

fn units_that_failed_in_an_outage_are_started_again(stage: &Stage) {
    let dependent = "[Unit]\nRequires=onecred-file@token.service\nAfter=onecred-file@token.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/cp /run/secrets/token /srv/out/dependent\n";
    let second = "[Unit]\nRequires=dependent.service\nAfter=dependent.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/touch /srv/out/second\n";
    let plain = service("password", "");
    let impatient = service(
        "password",
        "Restart=on-failure\nRestartSec=1s\n[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=2",
    );
    stage.units([
        ("plain.service", plain.as_str()),
        ("impatient.service", impatient.as_str()),
        ("dependent.service", dependent),
        ("second.service", second),
    ]);
    stage.sh("systemctl start --no-block plain impatient second").ok();
    wait_until("all have failed", || {
        stage.show("plain.service", "ActiveState") == "failed"
            && stage.show("impatient.service", "Result") != "success"
            && stage.show("impatient.service", "ActiveState") == "failed"
            && stage.show("onecred-file@token.service", "ActiveState") == "failed"
    });
    stage.connect_comes(&onecred_integration::fake_connect::vault::fixture());
    for unit in ["plain.service", "impatient.service", "dependent.service", "second.service"] {
        wait_until(&format!("{unit} runs"), || stage.show(unit, "ActiveState") == "active");
    }
    assert_eq!(stage.sh("cat /srv/out/dependent").ok(), "devtok");
    for unit in ["plain.service", "impatient.service", "second.service"] {
        let line = stage.waits_for_line(unit, "again: the cause of its failure");
        assert!(line.contains(" onecred["), "{line}");
    }
}

fn who_was_stopped_or_masked_is_left_alone(stage: &Stage) {
    for unit in ["stopped.service", "masked.service", "reset.service", "last.service"] {
        stage.units([(unit, service("password", "").as_str())]);
    }
    stage.sh("systemctl start --no-block stopped masked reset last").ok();
    wait_until("all have failed", || {
        ["stopped", "masked", "reset", "last"]
            .iter()
            .all(|unit| stage.show(&format!("{unit}.service"), "ActiveState") == "failed")
    });
    stage.sh("systemctl stop stopped; systemctl reset-failed reset; ln -sf /dev/null /run/systemd/system/masked.service; systemctl daemon-reload").ok();
    stage.connect_comes(&onecred_integration::fake_connect::vault::fixture());
    wait_until("the last one runs", || stage.show("last.service", "ActiveState") == "active");
    wait_until("the provider is through", || {
        !stage.sh("grep -q service /run/onecred/store/refused.json").succeeded()
    });
    for unit in ["stopped.service", "masked.service", "reset.service"] {
        assert!(stage.show(unit, "ActiveState") != "active", "{unit} was started");
        assert!(!stage.journal(unit).contains("again: the cause of its failure"), "{unit}");
    }
}

fn the_next_provider_knows_them(stage: &Stage) {
    stage.units([("plain.service", consumer("RemainAfterExit=yes", &["password"]).as_str())]);
    stage.sh("systemctl start --no-block plain").ok();
    wait_until("it has failed", || stage.show("plain.service", "ActiveState") == "failed");
    wait_until("it is remembered", || {
        stage.sh("grep -q plain.service /run/onecred/store/refused.json").succeeded()
    });
    stage.sh("systemctl kill -s KILL --kill-whom=main onecred.service").ok();
    stage.connect_comes(&onecred_integration::fake_connect::vault::fixture());
    // without a request: it starts without action
    stage.sh("systemctl start onecred.service").ok();
    wait_until("it runs", || stage.show("plain.service", "ActiveState") == "active");
}

fn nothing_is_started_where_it_is_turned_off(stage: &Stage) {
    edit(stage, |config| config["recover"] = serde_json::json!(false));
    stage.units([("plain.service", service("password", "").as_str())]);
    stage.sh("systemctl start --no-block plain").ok();
    wait_until("it has failed", || stage.show("plain.service", "ActiveState") == "failed");
    stage.connect_comes(&onecred_integration::fake_connect::vault::fixture());
    stage.sh(&format!("busctl call {MANAGER} RefreshAll t 1")).ok();
    stage.sh("! grep -qs plain /run/onecred/store/refused.json").ok();
    assert_eq!(stage.show("plain.service", "ActiveState"), "failed");
}

fn what_the_outage_did_not_cause_is_not_started(stage: &Stage) {
    let needing = |unit: &str| {
        format!(
            "[Unit]\nRequires={unit}\nAfter={unit}\n[Service]\nType=exec\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
        )
    };
    stage.units([
        ("base.service", service("password", "").as_str()),
        ("dependent.service", needing("base.service").as_str()),
        ("other.service", service("token", "").as_str()),
        ("enabled.service", needing("other.service").as_str()),
        ("failed.service", needing("other.service").as_str()),
    ]);
    stage.sh("systemctl enable -q enabled; systemctl start --no-block dependent failed").ok();
    let list = |unit: &str| stage.sh(&format!("grep -q {unit} /run/onecred/store/refused.json")).succeeded();
    wait_until("all are in the list", || {
        ["base", "dependent", "other", "failed"].iter().all(|unit| list(&format!("{unit}.service")))
    });
    // an administrator starts the unit by hand, and it requests no credential any more
    stage.write(
        "/etc/systemd/system/base.service.d/none.conf",
        "[Service]\nLoadCredential=\nExecStartPre=\n",
        0o644,
    );
    stage.sh("systemctl daemon-reload; systemctl start base").ok();
    wait_until("it is not in the list", || !list("base.service") && !list("dependent.service"));
    stage.connect_comes(&onecred_integration::fake_connect::vault::fixture());
    wait_until("the others run", || {
        ["other.service", "failed.service"].iter().all(|unit| stage.show(unit, "ActiveState") == "active")
    });
    wait_until("the provider is through", || !list("service"));
    for unit in ["dependent.service", "enabled.service"] {
        assert_eq!(stage.show(unit, "ActiveState"), "inactive", "{unit}");
        assert!(!stage.journal(unit).contains("again: the cause of its failure"), "{unit}");
    }
}

fn a_provider_that_stops_leaves_them_to_the_next(stage: &Stage) {
    edit(stage, |config| config["defaults"]["deadline"] = serde_json::json!("5m"));
    let dependent = "[Unit]\nRequires=plain.service\nAfter=plain.service\n[Service]\nType=exec\nExecStart=/bin/sleep infinity\n";
    stage.units([("plain.service", service("password", "").as_str()), ("dependent.service", dependent)]);
    stage.sh("systemctl start --no-block dependent").ok();
    stage.waits_for_line("plain.service", "is waiting for 1Password");
    stage.sh("systemctl restart onecred.service").ok();
    stage.waits_for_line("plain.service", "onecred was stopped before it had the value");
    stage.connect_comes(&onecred_integration::fake_connect::vault::fixture());
    for unit in ["plain.service", "dependent.service"] {
        wait_until(&format!("{unit} runs"), || stage.show(unit, "ActiveState") == "active");
        stage.waits_for_line(unit, "again: the cause of its failure");
    }
}
