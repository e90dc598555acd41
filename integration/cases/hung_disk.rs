//! Disks that hang: those of the host key, of a link to a published file, and of the configuration. Who needs them waits, and others are served.
use onecred_integration::{
    cases,
    installed::{SEALED, SOCKET},
    machine::{Suite, wait_until},
    setup::Setup,
    stage::{Stage, consumer},
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme =
    Theme { name: "hung-disk", stage, shared: false, cases: cases![a_hung_disk_holds_up_only_who_needs_it] };

/// With a source that does not need the disk of the configuration.
pub const CONFIGURATION: Theme = Theme {
    name: "hung-configuration",
    stage: connect,
    shared: false,
    cases: cases![a_reload_from_a_hung_disk_holds_up_no_unit],
};

const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");
const CONFIG: &str = "/etc/onecred";
const SECRETS: &str = "/etc/onecred/secrets.json";

/// Mounts a FUSE file system whose daemon never answers over a directory of the provider's namespace, and holds it until the unit is stopped.
const HANG: &str = "[ -e /dev/fuse ] || mknod /dev/fuse c 10 229
exec 3<>/dev/fuse
nsenter --mount --target \"$1\" mount -n -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other hung \"$2\"
exec sleep infinity
";

fn stage(suite: Suite) -> Stage {
    Setup::vault(suite)
        .default("maxAge", "session")
        .secret("password", "op://My Vault/db/password", &["app*"])
        .entry(json!({ "name": "linked", "reference": "op://My Vault/db/password", "target": "/run/secrets/linked", "links": ["/var/lib/links/one"] }))
        .stage()
}

fn connect(suite: Suite) -> Stage {
    Setup::connect(suite)
        .default("maxAge", "session")
        .default("deadline", "120s")
        .secret("password", "op://My Vault/db/password", &["app*"])
        // no unit of this name exists yet, so it is not fetched ahead
        .secret("cold", "op://My Vault/multi/Dev/token", &["late*"])
        .stage()
}

fn sealed() -> String {
    consumer("", &["password"]).replace("LoadCredential=", "LoadCredentialEncrypted=").replace(SOCKET, SEALED)
}

fn hang(stage: &Stage, n: usize, provider: &str, directory: &str) {
    stage.sh(&format!("systemd-run -q --unit=hang{n} sh /srv/hang.sh {provider} {directory}")).ok();
    let is_mounted = format!("grep -q ' {directory} .* fuse ' /proc/{provider}/mountinfo");
    wait_until(&format!("{directory} hangs"), || stage.sh(&is_mounted).succeeded());
}

fn a_hung_disk_holds_up_only_who_needs_it(stage: &Stage) {
    stage.write("/srv/hang.sh", HANG, 0o755);
    stage.write(
        "/run/systemd/system/onecred.service.d/links.conf",
        "[Service]\nReadWritePaths=/var/lib/links\n",
        0o644,
    );
    stage.sh("mkdir -p /var/lib/links && systemctl daemon-reload && systemctl restart onecred.service").ok();
    stage.gets("app-first.service", "", &[PASSWORD]);
    stage.units([("app-sealed.service", sealed().as_str()), ("app-later.service", sealed().as_str())]);
    stage.starts("app-sealed.service", &[PASSWORD]);
    let provider = stage.show("onecred.service", "MainPID");
    hang(stage, 1, &provider, "/var/lib/systemd");
    hang(stage, 2, &provider, "/var/lib/links");

    // it was published with the value
    stage.sh("rm /run/onecred/rw/secrets/linked").ok();
    stage.sh("systemctl start --no-block onecred-file@linked.service app-later.service").ok();
    let line = stage.waits_for_line("app-later.service", "its disk does not answer");
    assert!(line.contains("credential.secret"), "{line}");
    wait_until("the file is published except for its link", || {
        stage.sh("test -s /run/secrets/linked").succeeded()
    });
    for n in 0..3 {
        stage.gets(&format!("app-plain-{n}.service"), "", &[PASSWORD]);
    }
    let ran = stage.run(&["onecred", "status"]);
    assert!(ran.stdout().contains("its disk does not answer"), "{ran}");
    for unit in ["onecred-file@linked.service", "app-later.service"] {
        assert_eq!(stage.show(unit, "ActiveState"), "activating", "{unit}");
    }
    assert_eq!(stage.show("onecred.service", "MainPID"), provider, "it was started anew");

    stage.sh("systemctl stop hang1.service hang2.service").ok();
    for directory in ["/var/lib/systemd", "/var/lib/links"] {
        stage.sh(&format!("nsenter --mount --target {provider} umount -l {directory}")).ok();
    }
    wait_until("the unit has its value", || stage.taken("app-later.service", "password").is_some());
    stage.got("app-later.service", &[PASSWORD]);
    stage.sh("systemctl restart onecred-file@linked.service").ok();
    assert_eq!(stage.read("/var/lib/links/one"), PASSWORD.1);
}

fn a_reload_from_a_hung_disk_holds_up_no_unit(stage: &Stage) {
    stage.write("/srv/hang.sh", HANG, 0o755);
    stage.gets("app-first.service", "", &[PASSWORD]);
    let processes =
        || ["onecred.service", "onecred-resolver.service"].map(|unit| stage.show(unit, "MainPID"));
    let before = processes();
    for (n, process) in (1..).zip(&before) {
        hang(stage, n, process, CONFIG);
    }
    let mut config: Value = serde_json::from_slice(&stage.read(SECRETS)).unwrap_or_default();
    config["secrets"][1]["name"] = json!("renamed");
    stage.write(SECRETS, config.to_string(), 0o644);
    let reload = format!("kill -HUP {}", before.join(" "));
    stage.sh(&reload).ok();
    for process in &before {
        // D: a thread waits for a disk
        let hangs = format!("grep -q '^State:.D' /proc/{process}/task/*/status");
        wait_until("the reload hangs", || stage.sh(&hangs).succeeded());
    }
    for n in 0..3 {
        stage.gets(&format!("app-plain-{n}.service"), "", &[PASSWORD]);
    }
    stage.gets("late.service", "", &[("cold", b"devtok")]);
    stage.units([("app-sealed.service", sealed().as_str())]);
    stage.starts("app-sealed.service", &[PASSWORD]);
    let ran = stage.run(&["onecred", "status"]);
    assert!(ran.stdout().contains("/etc/onecred can't be read: its disk does not answer"), "{ran}");
    assert_eq!(processes(), before, "a process was started again");

    stage.sh("systemctl stop hang1.service hang2.service").ok();
    for process in &before {
        stage.sh(&format!("nsenter --mount --target {process} umount -l {CONFIG}")).ok();
    }
    stage.sh(&reload).ok();
    stage.waits_for_line("onecred.service", "the configuration was loaded");
    stage.gets("late-renamed.service", "", &[("renamed", b"devtok")]);
    assert_eq!(processes(), before, "a process was started again");
}
