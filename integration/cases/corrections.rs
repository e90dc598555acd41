//! Tests of causes that an administrator corrects: the refused units then start without further action.
use onecred_integration::{
    cases,
    fake_connect::DEFAULT_TOKEN,
    installed::SOCKET,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "corrections",
    stage,
    shared: false,
    cases: cases![a_corrected_token_or_configuration_starts_units],
};

const CONFIG: &str = "/etc/onecred/secrets.json";
const TOKEN: &str = "/etc/onecred/token";

fn stage(suite: Suite) -> Stage {
    let stage = Setup::connect(suite)
        .default("deadline", "2s")
        .default("maxAge", "session")
        .secret("password", "op://My Vault/db/password", &["*"])
        .stage();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    stage
}

/// Starts a unit that is refused for this reason.
#[track_caller]
fn is_refused(stage: &Stage, unit: &str, reason: &str) {
    let text = format!(
        "[Service]\nType=simple\nRemainAfterExit=yes\nLoadCredential=password:{SOCKET}\nExecStart=/bin/true\n"
    );
    stage.units([(unit, text.as_str())]);
    stage.run(&["systemctl", "start", unit]);
    let line = stage.waits_for_line(unit, "refused: ");
    assert!(line.contains(reason), "{line}");
    wait_until(&format!("{unit} has failed"), || stage.show(unit, "ActiveState") == "failed");
}

#[track_caller]
fn runs(stage: &Stage, unit: &str) {
    wait_until(&format!("{unit} runs"), || stage.show(unit, "ActiveState") == "active");
    stage.waits_for_line(unit, "again: the cause of its failure");
    // the next values are fetched again
    stage.sh("systemctl stop onecred.service; find /run/onecred/store -name 'refused.json' -o -type f -delete; systemctl start onecred.service").ok();
}

fn reset_token(stage: &Stage, token: &str) {
    stage.write(TOKEN, token, 0o600);
    stage.run(&["systemctl", "restart", "onecred-resolver.service"]).ok();
}

fn a_corrected_token_or_configuration_starts_units(stage: &Stage) {
    reset_token(stage, "expired");
    is_refused(stage, "by-token-set.service", "denied: ");
    let set = ["onecred", "token", "set", "--no-check", "--file"];
    stage.run_with_input(&set, DEFAULT_TOKEN.as_bytes()).ok();
    runs(stage, "by-token-set.service");

    reset_token(stage, "expired");
    is_refused(stage, "by-file.service", "denied: ");
    let provider = stage.show("onecred.service", "MainPID");
    stage.write(&format!("{TOKEN}.new"), DEFAULT_TOKEN, 0o600);
    stage.sh(&format!("mv {TOKEN}.new {TOKEN}; systemctl reload onecred.service")).ok();
    runs(stage, "by-file.service");
    assert!(!provider.is_empty());

    let right = String::from_utf8(stage.read(CONFIG)).expect("text");
    stage.write(CONFIG, right.replace("127.0.0.1:8080", "127.0.0.1:8080/elsewhere"), 0o644);
    stage.run(&["systemctl", "reload", "onecred.service"]).ok();
    is_refused(stage, "by-configuration.service", "malformed: ");
    stage.write(CONFIG, &right, 0o644);
    stage.run(&["systemctl", "reload", "onecred.service"]).ok();
    runs(stage, "by-configuration.service");

    stage.write(CONFIG, "{", 0o644);
    stage
        .sh("systemctl stop onecred.service; rm -rf /run/onecred/store/*; systemctl start onecred.service")
        .ok();
    is_refused(stage, "by-any-configuration.service", "onecred serves nothing at present");
    stage.write(CONFIG, &right, 0o644);
    stage.run(&["systemctl", "reload", "onecred.service"]).ok();
    runs(stage, "by-any-configuration.service");
}
