//! A service account, from nothing to a secret: no token, the core, the token by `onecred token set`, on the units as they are installed.
use std::{fs, path::Path, process::Command};

use onecred_integration::{
    cases, installed::SOCKET, machine::Suite, setup::Setup, stage::Stage, theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "account",
    stage,
    shared: false,
    cases: cases![a_machine_without_a_token_heals_when_it_comes],
};

const SECRETS: &str = r#"{ "source": { "caFile": "/etc/onecred/ca.pem", "allowedHosts": ["localhost"] },
  "secrets": [ { "name": "password", "reference": "op://My Vault/db/password", "units": ["app"] } ] }"#;

/// A machine with the fake service behind TLS, the core at hand, and no token.
fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite).stage();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/core");
    let core = Command::new(script).output().expect("integration/core runs");
    assert!(core.status.success(), "no core: {}", String::from_utf8_lossy(&core.stderr));
    let core = fs::read(String::from_utf8_lossy(&core.stdout).trim()).expect("the core");
    stage.write("/srv/libop_uniffi_core.so", core, 0o644);
    let fake = fs::read(Path::new(env!("CARGO_BIN_EXE_fake-account"))).expect("the fake");
    stage.write("/usr/local/libexec/fake-account", fake, 0o755);
    stage.sh(
        "mkdir -p /srv/tls; mkfifo /srv/ready; systemd-run -q --unit=fake-account sh -c 'exec /usr/local/libexec/fake-account --listen 127.0.0.1:8443 \
            --tls /srv/tls --name localhost --sign-in https://localhost:8443 --token-file /srv/ops >/srv/ready'
        read -r address </srv/ready; install -m 644 /srv/tls/ca.pem /etc/onecred/ca.pem; rm -f /etc/onecred/token",
    )
    .ok();
    stage.write("/etc/onecred/secrets.json", SECRETS, 0o644);
    stage.write("/etc/hosts", "127.0.0.1 localhost\n", 0o644); // a bare root has none
    stage
}

/// What a unit gets that asks for the password.
fn asks(stage: &Stage) -> (Option<i32>, String) {
    let ask = format!(
        "systemd-run --unit=app --collect --wait --pipe -q -p LoadCredential=password:{SOCKET} sh -c 'cat \"$CREDENTIALS_DIRECTORY/password\"'"
    );
    let ran = stage.sh(&ask);
    (ran.code(), ran.stdout())
}

fn a_machine_without_a_token_heals_when_it_comes(stage: &Stage) {
    let before = asks(stage);
    assert_eq!(before, (Some(243), String::new()));
    let journal = stage.journal("app.service");
    assert!(
        journal.contains("no token: source default has none") && journal.contains("run: onecred token set"),
        "{journal}"
    );
    let line = stage.show("onecred-resolver.service", "StatusText");
    assert_eq!(line, "default (service-account): no token");
    let provider = stage.show("onecred.service", "MainPID");

    let installed = stage.sh("onecred core install /srv/libop_uniffi_core.so").ok();
    assert!(installed.contains("/usr/lib/onecred/libop_uniffi_core.so"), "{installed}");
    stage.sh("printf x | dd of=/srv/libop_uniffi_core.so conv=notrunc bs=1 seek=4096 status=none; ! onecred core install /srv/libop_uniffi_core.so").ok();

    let refused = stage.sh("echo ops_bogus | onecred token set").fails();
    assert!(!refused.contains("bogus") && refused.contains("token"), "{refused}");
    stage.sh("! test -e /etc/onecred/token.cred && ! test -e /etc/onecred/token").ok();

    let set = stage.sh("onecred token set </srv/ops").ok();
    assert!(
        set.contains("localhost") && set.contains("My Vault") && set.contains("/etc/onecred/token.cred"),
        "{set}"
    );
    let token = String::from_utf8(stage.sh("cat /srv/ops").ok_bytes()).expect("text");
    assert!(!set.contains(token.trim()), "the token is told");
    assert_eq!(asks(stage), (Some(0), "hunter2".into()));
    assert_eq!(stage.show("onecred.service", "MainPID"), provider, "the provider was restarted");
    // the line of the status comes after the calls, and is told anew only now and then
    stage.sh("until systemctl status onecred-resolver | grep -E 'Status: \"default \\(service-account\\): ready, [1-9][0-9]* of 800 calls today\"'; do sleep 0.2; done").ok();

    // a reload leaves the session and its worker alone
    let worker = "cat /sys/fs/cgroup/system.slice/onecred-resolver.service/cgroup.procs";
    let before = stage.sh(worker).ok();
    stage.sh("systemctl reload onecred.service onecred-resolver.service; rm -rf /run/onecred/store/*").ok();
    assert_eq!(asks(stage), (Some(0), "hunter2".into()));
    assert_eq!(stage.sh(worker).ok(), before, "it has logged in anew");

    let check = stage.sh("onecred token check").ok();
    assert!(check.contains("left") && !check.contains(token.trim()), "{check}");
    // the token is nowhere in sight; and the search does find it where it is
    stage.write("/srv/canary", &token.trim()[40..100], 0o600);
    stage.sh("grep -qFf /srv/canary /srv/ops").ok();
    stage.sh("! cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -qaFf /srv/canary").ok();
    stage.sh("! journalctl -o export --no-pager | grep -qaFf /srv/canary").ok();
    stage.sh("! grep -rqsaFf /srv/canary /etc /var /tmp").ok();
    // the halves have no capability
    stage.sh("for pid in $(cat /sys/fs/cgroup/system.slice/onecred-resolver.service/cgroup.procs); do grep -q '^CapBnd:.*0000000000000000$' /proc/$pid/status; grep -q '^CapEff:.*0000000000000000$' /proc/$pid/status; grep -q '^NoNewPrivs:.*1$' /proc/$pid/status; done").ok();

    // a worker, or the whole resolver, that is killed costs nobody a secret
    stage.sh("systemctl kill --signal=KILL onecred-resolver.service; rm -rf /run/onecred/store/*; systemctl restart onecred.service").ok();
    assert_eq!(asks(stage), (Some(0), "hunter2".into()));
}
