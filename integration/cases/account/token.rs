//! Tests the path of the token: from a terminal or a pipe to a credential or a file, then to the resolver,
//! and nowhere else.
use super::{Account, PASSWORD, asks, configure, core, prepared};
use onecred_integration::{
    cases,
    fake_connect::vault::fixture,
    machine::wait_until,
    setup::Setup,
    stage::{Stage, consumer},
    theme::Theme,
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    process::Stdio,
};

pub const THEME: Theme = Theme {
    name: "account",
    stage: |suite| prepared(Setup::vault(suite)).stage(),
    shared: false,
    cases: cases![
        a_machine_without_a_token_heals_when_it_comes,
        a_token_is_kept_as_it_was_said,
        units_that_lacked_the_core_start_once_it_is_installed,
    ],
};

fn config(account: &Account) -> Value {
    let secret = json!({ "name": "password", "reference": "op://My Vault/db/password", "units": ["app"] });
    json!({ "source": account.source(), "secrets": [secret] })
}

fn a_machine_without_a_token_heals_when_it_comes(stage: &Stage) {
    let account = Account::comes(stage, 8443, fixture());
    let token = account.token();
    configure(stage, &config(&account));
    assert_eq!(asks(stage, "app", "password"), (Some(243), String::new()));
    let journal = stage.journal("app.service");
    let words = ["no token: source default has none", "run: onecred token set"];
    assert!(words.iter().all(|word| journal.contains(word)), "{journal}");
    let line = stage.show("onecred-resolver.service", "StatusText");
    assert_eq!(line, "default (service-account): no token");
    let provider = stage.show("onecred.service", "MainPID");

    stage.write("/srv/libop_uniffi_core.so", core(), 0o644);
    let installed = stage.sh("onecred core install /srv/libop_uniffi_core.so").ok();
    assert!(installed.contains("/usr/lib/onecred/libop_uniffi_core.so"), "{installed}");
    stage.sh("printf x | dd of=/srv/libop_uniffi_core.so conv=notrunc bs=1 seek=4096 status=none").ok();
    stage.sh("onecred core install /srv/libop_uniffi_core.so").fails();

    let refused = stage.sh("echo ops_bogus | onecred token set").fails();
    assert!(!refused.contains("bogus") && refused.contains("token"), "{refused}");
    stage.sh("! test -e /etc/onecred/token.cred && ! test -e /etc/onecred/token").ok();

    let set = stage.run_with_input(&["onecred", "token", "set"], token.as_bytes()).ok();
    for word in ["localhost", "My Vault", "written: /etc/onecred/token.cred"] {
        assert!(set.contains(word), "{set}");
    }
    assert!(!set.contains(&token), "the token is told");
    assert_eq!(asks(stage, "app", "password"), (Some(0), "hunter2".into()));
    assert_eq!(stage.show("onecred.service", "MainPID"), provider, "the provider was restarted");
    // the status line is written after the calls, at a limited rate
    wait_until("the status tells the quota", || {
        let line = stage.show("onecred-resolver.service", "StatusText");
        line.starts_with("default (service-account): ready, ") && line.contains(" of 800 calls today")
    });

    // a reload keeps the session and its worker
    let worker = "grep -las 'core-[w]orker' /proc/[0-9]*/cmdline";
    let before = stage.sh(worker).ok();
    stage.sh("systemctl reload onecred.service onecred-resolver.service; rm -rf /run/onecred/store/*").ok();
    assert_eq!(asks(stage, "app", "password"), (Some(0), "hunter2".into()));
    assert_eq!(stage.sh(worker).ok(), before, "it has logged in anew");

    let check = stage.sh("onecred token check").ok();
    assert!(check.contains("left") && !check.contains(&token), "{check}");
    // a token that was left in plain text is reported, and so is that others can read it
    stage.write("/etc/onecred/token", &token, 0o644);
    let open = stage.sh("onecred token check").fails();
    assert!(open.contains("not used any more: rm /etc/onecred/token") && open.contains("0644"), "{open}");
    stage.sh("rm /etc/onecred/token; onecred token check").ok();

    is_nowhere_else(stage, &token, true);
    // neither process has capabilities
    stage
        .sh("for pid in $(cat /sys/fs/cgroup/system.slice/onecred-resolver.service/cgroup.procs); do \
        grep -q '^CapBnd:.*0000000000000000$' /proc/$pid/status; grep -q '^CapEff:.*0000000000000000$' /proc/$pid/status; \
        grep -q '^NoNewPrivs:.*1$' /proc/$pid/status; done")
        .ok();
    // killing the resolver does not affect cached secrets
    stage.sh("systemctl kill --signal=KILL onecred-resolver.service; rm -rf /run/onecred/store/*; systemctl restart onecred.service").ok();
    assert_eq!(asks(stage, "app", "password"), (Some(0), "hunter2".into()));
}

/// No substring of 40 characters of a token is in a wrong place, and the same search finds it in the right
/// one.
fn is_nowhere_else(stage: &Stage, token: &str, encrypted: bool) {
    let pieces: String = (0..token.len() / 40).map(|n| format!("{}\n", &token[n * 40..][..40])).collect();
    stage.write("/srv/pieces", pieces, 0o600);
    let search = "grep -rsaFlf /srv/pieces --exclude-dir=credentials /etc /var /tmp /run";
    let processes = "for process in /proc/[0-9]*; do cat $process/environ $process/cmdline 2>/dev/null; done \
        | grep -qaFf /srv/pieces";
    let journal = "journalctl --sync; journalctl -o export --no-pager | grep -qaFf /srv/pieces";
    let place = if encrypted { "" } else { "/etc/onecred/token\n" };
    assert_eq!(stage.sh(search).stdout(), place, "the token, or a part of it, is in files");
    assert!(
        !stage.sh(processes).succeeded(),
        "the token, or a part of it, is in a process's environment or arguments"
    );
    assert!(!stage.sh(journal).succeeded(), "the token, or a part of it, is in the journal");
    stage.sh("grep -qaFf /srv/pieces /run/credentials/onecred-resolver.service/token").ok();

    let piece = &token[80..120];
    stage.sh(&format!("echo 'x{piece}y' >/var/tmp/found")).ok();
    assert_eq!(stage.sh(search).stdout(), format!("{place}/var/tmp/found\n"));
    stage.sh(&format!("rm /var/tmp/found; CANARY=x{piece} sleep 60 & {processes}; kill $!")).ok();
    stage.sh(&format!("logger 'x{piece}y'; {journal}")).ok();
}

fn a_token_is_kept_as_it_was_said(stage: &Stage) {
    let account = Account::comes(stage, 8443, fixture());
    let token = account.token();
    configure(stage, &config(&account));
    stage.write(super::LIBRARY, core(), 0o644);
    let set = |arguments: &[&str]| {
        stage.run_with_input(&[&["onecred", "token", "set"], arguments].concat(), token.as_bytes())
    };
    let works = || {
        super::begin_anew(stage);
        assert_eq!(asks(stage, "app", "password"), (Some(0), "hunter2".into()));
    };

    // as a file
    let said = set(&["--file"]).ok();
    assert!(said.contains("written: /etc/onecred/token\n"), "{said}");
    assert_eq!(stage.sh("stat -c '%a %U:%G' /etc/onecred/token").ok(), "600 root:root\n");
    works();
    is_nowhere_else(stage, &token, false);
    let check = stage.sh("onecred token check");
    assert!(check.succeeded() && check.stderr().contains("plain text"), "{check}");
    let check = stage.sh("chmod 640 /etc/onecred/token; onecred token check");
    assert!(check.succeeded() && check.stderr().contains("the group of /etc/onecred/token"), "{check}");
    let open = stage.sh("chmod 644 /etc/onecred/token; onecred token check").fails();
    assert!(open.contains("other users may have read the token") && open.contains("0644"), "{open}");

    // encrypted, entered on a terminal, which does not show it
    let shown = typed(stage, "onecred token set --with-key host", &token);
    assert!(shown.contains("written: /etc/onecred/token.cred") && !shown.contains(&token[..20]), "{shown}");
    assert!(shown.contains("/etc/onecred/token contains an earlier token"), "{shown}");
    stage.sh("rm /etc/onecred/token; test $(stat -c %a /etc/onecred/token.cred) = 600").ok();
    works();
    // the test detects a terminal that does show it
    assert!(typed(stage, "printf 'not shown: '; cat", &token).contains(&token[..20]));

    // without a test, the account is not asked
    let before = account.calls();
    let said = set(&["--no-check"]);
    assert!(said.succeeded() && said.stderr().contains("was not tested"), "{said}");
    assert_eq!(account.calls(), before);
    works();

    // a rejected token changes nothing
    account.control().set_token("another").expect("steered");
    let refused = set(&[]).fails();
    assert!(refused.contains("the token is refused, and nothing was changed"), "{refused}");
    account.control().set_token("account-at-8443").expect("steered");
    works();
    assert_eq!(asks(stage, "app", PASSWORD.0).1.as_bytes(), PASSWORD.1);
}

/// The output of a terminal while a command runs on it and a line is entered at its prompt.
fn typed(stage: &Stage, command: &str, line: &str) -> String {
    let mut inside = stage.inside();
    inside.args(["timeout", "60", "script", "-qec", command, "/dev/null"]);
    let mut child = inside.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script runs");
    let (mut keys, mut screen) = (child.stdin.take().expect("keys"), child.stdout.take().expect("a screen"));
    let mut shown = Vec::new();
    while !shown.ends_with(b"not shown: ") {
        let mut byte = [0];
        let read = screen.read(&mut byte).expect("a screen");
        assert!(read == 1, "there was no prompt: {}", String::from_utf8_lossy(&shown));
        shown.extend(byte);
    }
    keys.write_all(format!("{line}\r\u{4}").as_bytes()).expect("keys");
    screen.read_to_end(&mut shown).expect("a screen");
    drop(keys);
    child.wait().expect("script ends");
    String::from_utf8_lossy(&shown).into_owned()
}

fn units_that_lacked_the_core_start_once_it_is_installed(stage: &Stage) {
    let account = Account::comes(stage, 8443, fixture());
    configure(stage, &config(&account));
    stage.write("/etc/onecred/token", account.token(), 0o600);
    let unit = consumer("Type=simple\nRemainAfterExit=yes", &["password"]);
    stage.units([("app.service", unit.as_str())]);
    stage.run(&["systemctl", "start", "app.service"]);
    let line = stage.waits_for_line("app.service", "refused: ");
    assert!(line.contains("misconfigured: ") && line.contains("onecred core install"), "{line}");
    wait_until("it has failed", || stage.show("app.service", "ActiveState") == "failed");
    stage.write("/srv/libop_uniffi_core.so", core(), 0o644);
    let installed = stage.sh("onecred core install /srv/libop_uniffi_core.so").ok();
    assert!(installed.contains("onecred-resolver.service"), "{installed}");
    // systemd calls a unit of this type active before its program runs
    let (id, value) = PASSWORD;
    wait_until("it has its credential", || stage.taken("app.service", id).as_deref() == Some(value));
    assert_eq!(stage.show("app.service", "ActiveState"), "active");
}
