//! Tests what an attacker in the resolver's unit could do: the same unit with a shell script instead of the
//! resolver.
use super::{configure, setup};
use onecred_integration::{
    attempts::{Attempt, FILTERED, judge, made_by, taken_over},
    cases,
    stage::Stage,
    theme::Theme,
};
use serde_json::json;

pub const THEME: Theme = Theme {
    name: "account_sandbox",
    stage: |suite| setup(suite).stage(),
    shared: false,
    cases: cases![nothing_can_be_done_from_inside],
};

/// What root may do with its own files, sockets and processes even without capabilities; the resolver is not
/// root.
const OF_ROOT: [&str; 4] = ["read-key", "see-others", "ask-for-a-credential", "ask-as-the-provider"];

/// Attempts that must fail inside and work outside, in addition to those that are filtered.
const FORBIDDEN: &[Attempt] = &[
    ("write-etc", "echo x >/etc/onecred/x"),
    ("write-usr", "echo x >/usr/x"),
    ("write-var", "echo x >/var/lib/x"),
    ("write-var-tmp", "echo x >/var/tmp/x"),
    ("write-run", "echo x >/run/x"),
    ("write-onecred", "echo x >/run/onecred/x"),
    ("write-lock", "echo x >/run/lock/x"),
    ("write-tmp", "echo x >/tmp/x"),
    ("write-shm", "echo x >/dev/shm/x"),
    ("write-store", "echo x >/run/onecred/store/x"),
    ("read-store", "test -n \"$(ls -A /run/onecred/store)\""),
    ("read-key", "cat /var/lib/systemd/credential.secret >/dev/null"),
    ("see-others", "test -e /proc/1/status"),
    (
        "ask-for-a-credential",
        "perl -MSocket -e 'socket(my $s, 1, 1, 0); connect($s, pack_sockaddr_un(\"/run/onecred/credential.sock\")) or exit 1'",
    ),
    (
        "ask-as-the-provider",
        "perl -MSocket -e 'socket(my $s, 1, 5, 0); connect($s, pack_sockaddr_un(\"/run/onecred/resolver.sock\")) or exit 1'",
    ),
];

/// What the resolver needs. It also shows that attempts work at all.
const ALLOWED: &[Attempt] = &[
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
    stage.gets("app.service", "", &[super::PASSWORD]); // now the store is not empty
    stage.write("/etc/onecred/token", "canary", 0o600);
    stage.sh("systemd-creds setup; systemctl stop onecred-resolver.service").ok();

    let inside = taken_over(stage, "onecred-resolver.service");
    let as_root = inside.replace("User=onecred", "User=root");
    let outside = made_by("LoadCredential=token:/etc/onecred/token");
    let units = [
        ("as-onecred.service", inside.as_str()),
        ("as-root.service", &as_root),
        ("outside.service", &outside),
    ];
    let attempts = [FILTERED, FORBIDDEN, ALLOWED].concat();
    judge(stage, &units, &attempts, |unit, name| {
        let roots = unit == "as-root.service" && OF_ROOT.contains(&name);
        unit == "outside.service" || roots || ALLOWED.iter().any(|(allowed, _)| *allowed == name)
    });
}
