//! Tests that `onecred explain` and `status` are right about onecred's sockets while these are removed,
//! replaced, moved or stopped: each statement is compared with a start.
use onecred_integration::{
    cases,
    installed::{LIBEXEC, SEALED, SOCKET},
    machine::Suite,
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use std::fmt::Write as _;

use crate::explain::{all_become, explained_in_json, unit};

pub const THEME: Theme =
    Theme { name: "explain_sockets", stage, shared: false, cases: cases![sockets_that_are_elsewhere] };

fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .default("maxAge", "1h")
        .secret("db", "op://My Vault/db/password", &["row-*"])
        .stage();
    stage.sh("systemctl start dbus.socket").ok();
    stage
}

/// Starts a program that listens at a path in place of another.
fn foreign(stage: &Stage, path: &str) {
    stage.write(&format!("{LIBEXEC}/foreign.pl"), include_str!("foreign.pl"), 0o644);
    let text = format!("[Service]\nType=forking\nExecStart=perl {LIBEXEC}/foreign.pl {path}\n");
    stage.units([("foreign.service", text.as_str())]);
    stage.sh("systemctl daemon-reload; systemctl restart foreign.service").ok();
}

fn sockets_that_are_elsewhere(stage: &Stage) {
    const ELSEWHERE: &str = "/run/onecred/elsewhere.sock";
    let ours = format!("LoadCredential=db:{SOCKET}");
    let lines = [
        ("plain", ours.clone()),
        ("literal", format!("{ours}\nSetCredential=db:x")),
        ("sealed", format!("LoadCredentialEncrypted=db:{SEALED}")),
        ("other", format!("LoadCredential=db:{ELSEWHERE}")),
    ];
    let mut wrong = String::new();
    let mut round = |state: &str, outcomes: [&str; 4], status: &str| {
        let said = stage.sh("COLUMNS=400 onecred status");
        if !said.stdout().contains(status) || said.succeeded() != status.is_empty() {
            let _ = writeln!(wrong, "{state}: {status:?} is not in {said}");
        }
        let names = lines.each_ref().map(|(line, _)| format!("row-{state}-{line}.service"));
        let texts = lines.each_ref().map(|(_, lines)| unit(lines));
        stage.units(names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)));
        let units = names.each_ref().map(|name| (name.as_str(), "db"));
        let explained = units.map(|(name, id)| explained_in_json(stage, name, id));
        for (n, becomes) in all_become(stage, &units).into_iter().enumerate() {
            let (name, outcome, said) = (&names[n], outcomes[n], &explained[n]);
            if said["outcome"] != becomes || becomes != outcome {
                let _ = writeln!(wrong, "{name} {becomes}, not {outcome}, and explain says: {said}");
            }
        }
    };
    let again = || {
        // not limited by the number of starts
        stage.sh("systemctl daemon-reload; systemctl reset-failed; systemctl restart onecred.socket; onecred status").ok();
    };
    let drop_in = |unit: &str, text: &str| {
        stage.write(&format!("/etc/systemd/system/{unit}.d/elsewhere.conf"), text.as_bytes(), 0o644);
        stage.sh("systemctl daemon-reload").ok();
    };
    round("right", ["gets", "gets", "gets", "fails"], "");
    stage.sh(&format!("rm {SOCKET} {SEALED}")).ok();
    round("removed", ["fails", "other", "fails", "fails"], "but its socket was removed");
    stage.sh(&format!("echo x >{SOCKET}; echo x >{SEALED}")).ok();
    round("file", ["other", "other", "fails", "fails"], "was replaced by something else");
    again();
    round("again", ["gets", "gets", "gets", "fails"], "");
    foreign(stage, SOCKET);
    round("foreign", ["other", "other", "gets", "fails"], "that of another program");
    again();
    foreign(stage, SEALED);
    round("foreign-sealed", ["gets", "gets", "fails", "fails"], "that of another program");
    stage.sh("systemctl stop foreign.service").ok();
    round("closed", ["gets", "gets", "fails", "fails"], "does not accept connections");
    again();
    // the provider keeps what its unit does not have any more
    let elsewhere = format!("[Socket]\nListenStream=\nListenStream={ELSEWHERE}\n");
    drop_in("onecred.socket", &elsewhere);
    round("moved", ["gets", "gets", "gets", "fails"], "does not have its address");
    stage.sh("systemctl restart onecred.socket").ok();
    round("moved-again", ["fails", "fails", "gets", "gets"], "does not have its address");
    stage.sh(&format!("rm -r /etc/systemd/system/onecred.socket.d {ELSEWHERE}")).ok();
    again();
    stage.sh("systemctl stop onecred-sealed.socket").ok();
    round("stopped", ["gets", "gets", "gets", "fails"], "onecred-sealed.socket is not active");
    stage.sh("systemctl restart onecred.service").ok();
    round("stopped-again", ["gets", "gets", "fails", "fails"], "onecred-sealed.socket is not active");
    assert!(wrong.is_empty(), "{wrong}");
}
