//! What the resolver's unit lets whoever has taken it over do: the same unit with a shell script in the resolver's place.
use super::{configure, setup};
use onecred_integration::{cases, stage::Stage, theme::Theme};
use serde_json::json;

pub const THEME: Theme = Theme {
    name: "account_sandbox",
    stage: |suite| setup(suite).stage(),
    shared: false,
    cases: cases![nothing_can_be_done_from_inside],
};

const UNIT: &str = "/usr/lib/systemd/system/onecred-resolver.service";

/// What root's own files and processes are open to, even without a capability; the resolver is not root.
const OF_ROOT: [&str; 2] = ["read-key", "see-others"];

/// Attempts, each of which must fail inside and work outside.
const FORBIDDEN: [(&str, &str); 19] = [
    ("write-etc", "echo x >/etc/onecred/x"),
    ("write-usr", "echo x >/usr/x"),
    ("write-var", "echo x >/var/lib/x"),
    ("write-var-tmp", "echo x >/var/tmp/x"),
    ("write-run", "echo x >/run/x"),
    ("write-onecred", "echo x >/run/onecred/x"),
    ("write-lock", "echo x >/run/lock/x"),
    ("write-tmp", "echo x >/tmp/x"),
    ("write-shm", "echo x >/dev/shm/x"),
    ("write-cgroup", "mkdir /sys/fs/cgroup/x"),
    ("write-store", "echo x >/run/onecred/store/x"),
    ("read-store", "test -n \"$(ls -A /run/onecred/store)\""),
    ("read-key", "cat /var/lib/systemd/credential.secret >/dev/null"),
    ("see-others", "test -e /proc/1/status"),
    ("raw-socket", "perl -e 'socket(my $s, 2, 3, 1) or exit 1'"),
    ("packet-socket", "perl -e 'socket(my $s, 17, 3, 768) or exit 1'"),
    ("netlink-socket", "perl -e 'socket(my $s, 16, 3, 0) or exit 1'"),
    ("namespace", "unshare -m true"),
    ("mount", "mount -t tmpfs x /mnt"),
];

/// What it needs, and what shows that the attempts are heard.
const ALLOWED: [(&str, &str); 4] = [
    ("read-config", "test -r /etc/onecred/secrets.json"),
    ("read-token", "grep -q canary \"$CREDENTIALS_DIRECTORY/token\""),
    ("tcp-socket", "perl -e 'socket(my $s, 2, 1, 6) or exit 1'"),
    ("unix-socket", "perl -e 'socket(my $s, 1, 1, 0) or exit 1'"),
];

fn nothing_can_be_done_from_inside(stage: &Stage) {
    let secret = json!({ "name": "password", "reference": "op://My Vault/db/password", "units": ["app"] });
    configure(
        stage,
        &json!({ "source": { "kind": "file", "path": "/etc/onecred/vault.json" }, "secrets": [secret] }),
    );
    stage.gets("app.service", "", &[super::PASSWORD]); // now the store has something in it
    stage.write("/etc/onecred/token", "canary", 0o600);
    stage.sh("systemd-creds setup; systemctl stop onecred-resolver.service").ok();
    let attempts: String = FORBIDDEN
        .iter()
        .chain(&ALLOWED)
        .map(|(name, attempt)| {
            format!("if ( {attempt} ) 2>/dev/null; then echo {name} works; else echo {name} fails; fi\n")
        })
        .collect();
    stage.write("/usr/local/libexec/attempts", attempts, 0o755);

    let inside = stage.sh(&format!(
        "sed -e 's|^ExecStart=.*|ExecStart=/bin/sh /usr/local/libexec/attempts|; s/^Type=.*/Type=oneshot/; \
            /^Restart=/d; /^WatchdogSec=/d; /^ExecReload=/d' {UNIT}"
    ));
    let inside = inside.ok();
    let as_root = inside.replace("User=onecred", "User=root");
    let outside = "[Service]\nType=oneshot\nLoadCredential=token:/etc/onecred/token\nExecStart=/bin/sh /usr/local/libexec/attempts\n";
    let units = [
        ("as-onecred.service", inside.as_str()),
        ("as-root.service", &as_root),
        ("outside.service", outside),
    ];
    stage.units(units);
    let mut wrong = Vec::new();
    for (unit, _) in units {
        stage.run(&["systemctl", "start", unit]).ok();
        let said = stage.journal(unit);
        for (name, _) in FORBIDDEN.iter().chain(&ALLOWED) {
            let roots = unit == "as-root.service" && OF_ROOT.contains(name);
            let works =
                unit == "outside.service" || roots || ALLOWED.iter().any(|(allowed, _)| allowed == name);
            let expected = format!("]: {name} {}", if works { "works" } else { "fails" });
            if !said.lines().any(|line| line.ends_with(&expected)) {
                wrong.push(format!("{unit} {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
