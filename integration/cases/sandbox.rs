//! Tests what an attacker in the provider's unit could do: the same unit with a shell script instead of the
//! provider.
use onecred_integration::{
    attempts::{Attempt, FILTERED, judge, made_by, taken_over},
    cases,
    setup::Setup,
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "sandbox",
    stage: |suite| Setup::vault(suite).stage(),
    shared: false,
    cases: cases![the_provider_writes_its_store_and_published_files_alone],
};

/// Attempts that must fail inside and work outside, in addition to those that are filtered.
const FORBIDDEN: &[Attempt] = &[
    ("write-etc", "echo x >/etc/onecred/x"),
    ("write-usr", "echo x >/usr/x"),
    ("write-var", "echo x >/var/lib/x"),
    ("write-var-tmp", "echo x >/var/tmp/x"),
    ("write-run", "echo x >/run/x"),
    ("write-onecred", "echo x >/run/onecred/x"),
    ("write-units", "mkdir -p /run/systemd/system && echo x >/run/systemd/system/x"),
    ("write-mount", "echo x >/run/mounted/x"),
    ("write-tmp", "echo x >/tmp/x"),
    ("write-shm", "echo x >/dev/shm/x"),
    ("take-on", "setpriv --reuid=1 true"),
    ("change-owner-by-path", "chown 1 /run/onecred/rw/files/mine"),
    ("read-of-others", "cat /run/onecred/rw/files/theirs"),
    ("see-memory", "head -c0 /proc/1/mem"),
    ("set-user-id", "chmod 4755 /run/onecred/rw/files/mine"),
    ("tcp-socket", "perl -e 'socket(my $s, 2, 1, 6) or exit 1'"),
];

/// What the provider needs. It also shows that attempts work at all.
const ALLOWED: &[Attempt] = &[
    ("write-store", "echo x >/run/onecred/store/x"),
    ("write-files", "echo x >/run/onecred/rw/files/x"),
    (
        "change-owner",
        "perl -e 'open(my $f, \">\", \"/run/onecred/rw/files/y\") or exit 1; chown(1, 1, $f) or exit 1'",
    ),
    ("unix-socket", "perl -e 'socket(my $s, 1, 1, 0) or exit 1'"),
];

fn the_provider_writes_its_store_and_published_files_alone(stage: &Stage) {
    stage
        .sh("systemctl start onecred.service run-onecred-files.mount && systemctl stop onecred.service")
        .ok();
    stage.sh("mkdir -p /run/mounted && mount -t tmpfs x /run/mounted && touch /run/onecred/rw/files/mine /run/onecred/rw/files/theirs && chmod 0400 /run/onecred/rw/files/theirs && chown 1 /run/onecred/rw/files/theirs").ok();
    let inside = taken_over(stage, "onecred.service");
    let units = [("inside.service", inside.as_str()), ("outside.service", &made_by(""))];
    let attempts = [FILTERED, FORBIDDEN, ALLOWED].concat();
    judge(stage, &units, &attempts, |unit, name| {
        unit == "outside.service" || ALLOWED.iter().any(|(allowed, _)| *allowed == name)
    });
}
