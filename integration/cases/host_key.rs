//! The host key is one that systemd does not use: onecred seals nothing with it, says why, and has systemd make another where systemd would.
use onecred_integration::{
    cases,
    installed::{SEALED, SOCKET},
    machine::{Suite, wait_until},
    setup::Setup,
    stage::{Stage, consumer},
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "host-key",
    stage,
    shared: false,
    cases: cases![a_machine_that_was_cloned, a_key_that_systemd_refuses],
};

/// Impermanence: /var/lib/systemd was kept, and /etc/machine-id is another.
pub const KEPT: Theme = Theme {
    name: "host-key-kept",
    stage: |suite| setup(suite).plan(|plan| plan.prepare(KEPT_KEY)).stage(),
    shared: false,
    cases: cases![a_machine_id_that_was_not_kept],
};

const KEY: &str = "/var/lib/systemd/credential.secret";
const KEPT_KEY: &str = "rm -f /var/lib/systemd/credential.secret && systemd-creds setup && \
    systemd-id128 new >/etc/machine-id && cp /var/lib/systemd/credential.secret /srv/kept";
const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");

fn setup(suite: Suite) -> Setup {
    Setup::vault(suite).default("maxAge", "session").secret(
        "password",
        "op://My Vault/db/password",
        &["app*"],
    )
}

fn stage(suite: Suite) -> Stage {
    setup(suite).stage()
}

fn sealed() -> String {
    consumer("", &["password"]).replace("LoadCredential=", "LoadCredentialEncrypted=").replace(SOCKET, SEALED)
}

#[track_caller]
fn gets(stage: &Stage, unit: &str) {
    stage.units([(unit, sealed().as_str())]);
    stage.starts(unit, &[PASSWORD]);
}

/// What looks at the key and changes nothing says this of it; or nothing, if it can be used.
#[track_caller]
fn commands_show(stage: &Stage, unit: &str, words: &str, is_shown: bool) {
    let explain = format!("onecred explain {unit} password");
    for command in ["onecred status", &explain, "onecred check --live"] {
        let ran = stage.sh(command);
        assert_eq!(ran.stdout().contains(words), is_shown, "{command}: {ran}");
    }
}

fn a_machine_id_that_was_not_kept(stage: &Stage) {
    gets(stage, "app.service");
    stage.sh(&format!("cmp {KEY} /srv/kept")).fails();
    commands_show(stage, "app.service", "machine ID", false);
}

fn a_machine_that_was_cloned(stage: &Stage) {
    gets(stage, "app-before.service");
    stage
        .sh(&format!(
            "rm {KEY} && head -c 4112 /dev/urandom >{KEY} && chmod 0400 {KEY} && cp {KEY} /srv/foreign"
        ))
        .ok();
    commands_show(stage, "app-before.service", "was made for another machine ID", true);
    stage.sh(&format!("cmp {KEY} /srv/foreign")).ok();
    gets(stage, "app-after.service");
    commands_show(stage, "app-after.service", "machine ID", false);
    // and one that is missing
    stage.sh(&format!("rm {KEY}")).ok();
    gets(stage, "app-last.service");
}

fn a_key_that_systemd_refuses(stage: &Stage) {
    gets(stage, "app-before.service");
    for (n, (break_it, words, remedy, correct)) in [
        ("chmod 0644 KEY", "its mode is 0644", "chmod 0400 KEY", "chmod 0400 KEY"),
        ("ln KEY /var/lib/other", "it has 2 hard links", "find / -xdev -samefile KEY", "rm /var/lib/other"),
        (
            "mv KEY /var/lib/other; ln -s ../other KEY",
            "it is a symbolic link",
            "bind mount",
            "mv /var/lib/other KEY",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        stage.sh(&break_it.replace("KEY", KEY)).ok();
        let unit = format!("app-{n}.service");
        stage.units([(unit.as_str(), sealed().as_str())]);
        stage.run(&["systemctl", "start", unit.as_str()]).fails();
        stage.was_refused(&unit, "password", &[words, &remedy.replace("KEY", KEY)]);
        commands_show(stage, &unit, words, true);
        stage.gets("app-plain.service", "", &[PASSWORD]);
        stage.sh(&correct.replace("KEY", KEY)).ok();
        stage.waits_for_line(&unit, "again: the cause of its failure");
        wait_until("it has its value", || stage.taken(&unit, "password").is_some());
        stage.got(&unit, &[PASSWORD]);
    }
}
