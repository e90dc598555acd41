//! Tests of the sockets: one that an administrator stops remains stopped, and the tools report it.
use onecred_integration::{
    cases,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "sockets",
    stage,
    shared: false,
    cases: cases![
        sockets_that_were_stopped_stay_stopped,
        the_provider_starts_none_that_is_stopped,
        sockets_restart_under_a_provider_that_runs,
    ],
};

const SOCKETS: [&str; 3] = ["onecred.socket", "onecred-sealed.socket", "onecred-resolver.socket"];
const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");

fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite).secret("password", "op://My Vault/db/password", &["app*"]).stage();
    stage.sh("systemctl start dbus.socket").ok();
    stage
}

#[track_caller]
fn are(stage: &Stage, units: &[&str], state: &str) {
    for unit in units {
        assert_eq!(stage.show(unit, "ActiveState"), state, "{unit}");
    }
}

fn sockets_that_were_stopped_stay_stopped(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    let status = stage.sh("onecred status").ok();
    assert!(!status.contains(".socket"), "{status}");
    let all = SOCKETS.join(" ");
    stage.sh(&format!("systemctl disable -q --now {all}")).ok();
    wait_until("the provider is stopped, too", || stage.show("onecred.service", "ActiveState") == "inactive");

    for verb in ["status", "list", "reload", "refresh", "get password"] {
        let said = stage.sh(&format!("onecred {verb}")).fails();
        for word in ["does not run", "not active and not enabled", "systemctl enable --now onecred.socket"] {
            assert!(said.contains(word), "onecred {verb}: {said}");
        }
    }
    let ping = "setpriv --reuid=nobody --clear-groups busctl call org.onecred.Credentials1 \
        /org/onecred/Credentials1 org.freedesktop.DBus.Peer Ping";
    let error = stage.sh(ping).fails();
    assert!(error.contains("Launch helper exited") && !error.contains("timed out"), "{error}");
    stage.sh("systemctl start onecred.service").fails();
    are(stage, &SOCKETS, "inactive");
    are(stage, &["onecred.service"], "inactive");
    stage.sh("systemctl start app.service").fails();
    are(stage, &SOCKETS, "inactive");

    stage.sh("systemctl enable -q --now onecred.socket").ok();
    are(stage, &SOCKETS, "active");
    stage.starts("app.service", &[PASSWORD]);
    let status = stage.sh("onecred status").ok();
    assert!(!status.contains(".socket"), "{status}");
    stage.sh("systemctl disable -q onecred.socket").ok();
    let status = stage.sh("onecred status").ok();
    assert!(status.contains("onecred.socket is not enabled"), "{status}");
}

fn the_provider_starts_none_that_is_stopped(stage: &Stage) {
    let stopped = ["onecred-sealed.socket", "onecred-resolver.socket"];
    stage
        .sh(&format!("systemctl disable -q --now {}; systemctl stop onecred.service", stopped.join(" ")))
        .ok();
    let ran = stage.sh("onecred status");
    assert_eq!(ran.code(), Some(1), "units would be refused: {ran}");
    let status = ran.stdout();
    for unit in stopped {
        assert!(status.contains(&format!("{unit} is not active")), "{status}");
    }
    are(stage, &stopped, "inactive");
    are(stage, &["onecred.service"], "active"); // D-Bus may activate it while its own socket is active
    stage.sh("systemctl restart onecred.service").ok();
    are(stage, &stopped, "inactive");
}

fn sockets_restart_under_a_provider_that_runs(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    stage.sh("systemctl restart onecred.socket").ok();
    are(stage, &SOCKETS, "active");
    stage.starts("app.service", &[PASSWORD]);
    stage.sh("systemctl stop onecred.service; systemctl start onecred.service").ok();
    let main = stage.show("onecred.service", "MainPID");
    stage.sh(&format!("kill -KILL {main}")).ok();
    wait_until("it is started again", || {
        stage.show("onecred.service", "MainPID") != main
            && stage.show("onecred.service", "ActiveState") == "active"
    });
    stage.starts("app.service", &[PASSWORD]);
}
