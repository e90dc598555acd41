//! What the provider's unit lets whoever has taken it over do: the same unit with a shell script in the provider's place.
use onecred_integration::{cases, setup::Setup, stage::Stage, theme::Theme};

pub const THEME: Theme = Theme {
    name: "sandbox",
    stage: |suite| Setup::vault(suite).stage(),
    shared: false,
    cases: cases![the_provider_writes_its_store_and_published_files_alone],
};

const UNIT: &str = "/usr/lib/systemd/system/onecred.service";

/// Attempts, each of which must fail inside and work outside.
const FORBIDDEN: [(&str, &str); 19] = [
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
    ("write-cgroup", "mkdir /sys/fs/cgroup/x"),
    ("take-on", "setpriv --reuid=1 true"),
    ("change-owner-by-path", "chown 1 /run/onecred/files/mine"),
    ("tcp-socket", "perl -e 'socket(my $s, 2, 1, 6) or exit 1'"),
    ("raw-socket", "perl -e 'socket(my $s, 2, 3, 1) or exit 1'"),
    ("packet-socket", "perl -e 'socket(my $s, 17, 3, 768) or exit 1'"),
    ("netlink-socket", "perl -e 'socket(my $s, 16, 3, 0) or exit 1'"),
    ("namespace", "unshare -m true"),
    ("mount", "mount -t tmpfs x /mnt"),
];

/// What it needs, and what shows that the attempts are heard.
const ALLOWED: [(&str, &str); 4] = [
    ("write-store", "echo x >/run/onecred/store/x"),
    ("write-files", "echo x >/run/onecred/files/x"),
    (
        "change-owner",
        "perl -e 'open(my $f, \">\", \"/run/onecred/files/y\") or exit 1; chown(1, 1, $f) or exit 1'",
    ),
    ("unix-socket", "perl -e 'socket(my $s, 1, 1, 0) or exit 1'"),
];

fn the_provider_writes_its_store_and_published_files_alone(stage: &Stage) {
    stage
        .sh("systemctl start onecred.service run-onecred-files.mount && systemctl stop onecred.service")
        .ok();
    stage.sh("mkdir -p /run/mounted && mount -t tmpfs x /run/mounted && touch /run/onecred/files/mine").ok();
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
            /^Restart=/d; /^WatchdogSec=/d; /^ExecReload=/d; /^KillMode=/d; /^Requires=/d' {UNIT}"
    ));
    let inside = inside.ok();
    let outside = "[Service]\nType=oneshot\nExecStart=/bin/sh /usr/local/libexec/attempts\n";
    let units = [("inside.service", inside.as_str()), ("outside.service", outside)];
    stage.units(units);
    let mut wrong = Vec::new();
    for (unit, _) in units {
        stage.run(&["systemctl", "start", unit]).ok();
        let said = stage.journal(unit);
        for (name, _) in FORBIDDEN.iter().chain(&ALLOWED) {
            let works = unit == "outside.service" || ALLOWED.iter().any(|(allowed, _)| allowed == name);
            let expected = format!("]: {name} {}", if works { "works" } else { "fails" });
            if !said.lines().any(|line| line.ends_with(&expected)) {
                wrong.push(format!("{unit} {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
