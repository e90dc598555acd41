//! Tests for administrators: reload, check, systemd-analyze, install and uninstall.
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use onecred_integration::{
    cases,
    installed::{LIBEXEC, SOCKET, make, repository},
    machine::{Layer, Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

pub const THEME: Theme = Theme {
    name: "operation",
    stage,
    shared: false,
    cases: cases![
        a_reload_takes_up_a_new_configuration,
        a_broken_reload_fails_and_keeps_the_old_configuration,
        a_broken_configuration_at_start_allows_nothing_and_says_so,
        install_notifies_the_machine_itself,
    ],
};

/// Cases that change nothing.
pub const LOOK: Theme = Theme {
    name: "installed",
    stage,
    shared: true,
    cases: cases![
        verify_is_silent,
        services_are_sandboxed,
        the_resolver_is_no_root,
        nobody_else_can_reach_the_sockets,
        check_finds_nothing_wrong,
        check_names_file_position_and_remedy,
        get_asks_as_systemd_would,
        status_says_something,
        uninstall_leaves_nothing,
        install_replaces_each_file_by_rename,
    ],
};

const UNITS: [&str; 15] = [
    "onecred.socket",
    "onecred-sealed.socket",
    "onecred-host-key.service",
    "onecred.service",
    "onecred-resolver.socket",
    "onecred-resolver.service",
    "run-onecred-store.mount",
    "run-onecred-rw.mount",
    "run-secrets.mount",
    "run-onecred-files.mount",
    "onecred-file@.service",
    "onecred-publish.service",
    "onecred-publish.target",
    "onecred-metrics.service",
    "onecred-metrics.timer",
];
const CONFIG: &str = "/etc/onecred/secrets.json";
const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");

fn stage(suite: Suite) -> Stage {
    Setup::vault(suite).secret("password", "op://My Vault/db/password", &["app", "app-*"]).stage()
}

fn config(stage: &Stage) -> String {
    String::from_utf8(stage.read(CONFIG)).unwrap_or_default()
}

fn a_reload_takes_up_a_new_configuration(stage: &Stage) {
    stage.refuses("late.service", "", "password", &["not allowed"]);
    stage.write(CONFIG, config(stage).replace("\"app\"", "\"app\", \"late\""), 0o644);
    stage.run(&["systemctl", "reload", "onecred"]).ok();
    stage.starts("late.service", &[PASSWORD]);
}

fn a_broken_reload_fails_and_keeps_the_old_configuration(stage: &Stage) {
    stage.gets("app.service", "", &[PASSWORD]);
    stage.write(CONFIG, config(stage).replace("\"units\"", "\"unit\""), 0o644);
    stage.run(&["systemctl", "reload", "onecred"]).fails();
    assert_eq!(stage.show("onecred.service", "ActiveState"), "active");
    let reason = stage.waits_for_line("onecred.service", CONFIG);
    assert!(reason.contains("unit"), "{reason}");
    // journald knows the unit of a process that has ended only by chance
    let resolver = stage.show("onecred-resolver.service", "MainPID");
    for fields in ["_UID=0 OBJECT_SYSTEMD_UNIT=onecred.service", &format!("_PID={resolver}")] {
        wait_until(&format!("a line with {fields} gives the reason"), || {
            stage.sh(&format!("journalctl -q -o cat {fields}")).stdout().contains(CONFIG)
        });
    }
    assert!(
        stage.run(&["systemctl", "status", "onecred"]).stdout().contains(CONFIG),
        "status does not say why"
    );
    stage.starts("app.service", &[PASSWORD]);
}

fn a_broken_configuration_at_start_allows_nothing_and_says_so(stage: &Stage) {
    stage.write(CONFIG, "{ \"secrets\": ", 0o644);
    stage.run(&["systemctl", "stop", "onecred.service"]).ok();
    stage.refuses("app.service", "", "password", &["serves nothing", CONFIG]);
}

fn verify_is_silent(stage: &Stage) {
    let paths = UNITS.map(|unit| format!("/usr/lib/systemd/system/{unit}"));
    // without man(1) no page can be found
    let man = if stage.sh("command -v man").succeeded() { "--man=yes" } else { "--man=no" };
    let verify = ["systemd-analyze", "verify", man];
    let ran = stage.run(&[&verify[..], &paths.each_ref().map(String::as_str)].concat());
    assert!(ran.succeeded() && ran.stdout().is_empty() && ran.stderr().is_empty(), "{ran}");
}

fn services_are_sandboxed(stage: &Stage) {
    let services: Vec<String> = UNITS
        .iter()
        .filter(|unit| unit.ends_with(".service"))
        .map(|unit| unit.replace("@.service", "@db.service"))
        .collect();
    assert!(services.len() >= 6, "{services:?}");
    for unit in services {
        let said = stage.run(&["systemd-analyze", "security", "--no-pager", &unit]).stdout();
        let level = said.lines().find_map(|line| {
            line.split_once("exposure level for ")?.1.split_whitespace().nth(1)?.parse::<f64>().ok()
        });
        assert!(level.is_some_and(|level| level <= 1.5), "{unit}: {level:?} is more than 1.5\n{said}");
    }
}

fn the_resolver_is_no_root(stage: &Stage) {
    stage.gets("app-of-resolver.service", "", &[PASSWORD]);
    let main = stage.show("onecred-resolver.service", "MainPID");
    assert_eq!(stage.run(&["stat", "-c", "%U", &format!("/proc/{main}")]).ok().trim(), "onecred");
}

fn nobody_else_can_reach_the_sockets(stage: &Stage) {
    let probe = format!("{LIBEXEC}/probe");
    let nobody = ["setpriv", "--reuid=nobody", "--clear-groups", &probe];
    let said = stage.run(&[&nobody[..], &[SOCKET, "unit/app.service/password"]].concat()).fails();
    assert!(said.contains("EACCES"), "{said}");
    let looks = ["setpriv", "--reuid=nobody", "--clear-groups", "test", "-w", "/run/onecred/resolver.sock"];
    stage.run(&looks).fails();
}

fn check_finds_nothing_wrong(stage: &Stage) {
    let ran = stage.run(&["onecred", "check"]);
    assert!(ran.succeeded() && ran.stderr().is_empty(), "{ran}");
}

fn check_names_file_position_and_remedy(stage: &Stage) {
    stage.write("/srv/wrong.json", config(stage).replace("\"units\"", "\"unit\""), 0o644);
    let ran = stage.run(&["onecred", "check", "/srv/wrong.json"]);
    assert_eq!(ran.code(), Some(1), "{ran}");
    let said = format!("{}{}", ran.stdout(), ran.stderr());
    assert!(said.contains("/srv/wrong.json:") && said.contains("units"), "{said}");
}

fn get_asks_as_systemd_would(stage: &Stage) {
    // a process started by hand is not in a unit, and the provider reports that
    let ran = stage.run(&["onecred", "get", "--as", "app", "password"]);
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(ran.stderr().contains("app.service") && ran.stdout().is_empty(), "{ran}");
}

fn status_says_something(stage: &Stage) {
    stage.gets("app-of-status.service", "", &[PASSWORD]);
    for unit in ["onecred.service", "onecred-resolver.service"] {
        assert!(!stage.show(unit, "StatusText").is_empty(), "{unit} has no STATUS=");
    }
}

fn uninstall_leaves_nothing(stage: &Stage) {
    let layer = Layer::create("uninstall").unwrap_or_else(|error| panic!("{error}"));
    for target in ["install", "uninstall"] {
        make(target, layer.path(), stage.suite).unwrap_or_else(|error| panic!("{error}"));
        let files = files_below(layer.path());
        assert_eq!(files.is_empty(), target == "uninstall", "after make {target}: {files:?}");
    }
    assert!(repository().join("Makefile").exists());
}

/// dbus-daemon reads a policy as soon as inotify reports its name, so the file must be complete then.
fn install_replaces_each_file_by_rename(stage: &Stage) {
    let layer = Layer::create("install").unwrap_or_else(|error| panic!("{error}"));
    let install = || make("install", layer.path(), stage.suite).unwrap_or_else(|error| panic!("{error}"));
    install();
    let files = files_below(layer.path());
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap_or_else(|error| panic!("{error}"));
    let writes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
    let folders: BTreeSet<&Path> = files.iter().filter_map(|file| Path::new(file).parent()).collect();
    for folder in folders {
        let added = inotify.add_watch(folder, writes | AddWatchFlags::IN_MOVED_TO);
        added.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
    install();
    let mut renamed = 0;
    while let Ok(events) = inotify.read_events() {
        for event in events.iter().filter(|event| !event.mask.contains(AddWatchFlags::IN_ISDIR)) {
            let name = event.name.as_ref().map(|name| name.to_string_lossy()).unwrap_or_default();
            let hidden = name.starts_with('.') && name.ends_with(".new");
            assert!(hidden || !event.mask.intersects(writes), "{name} is written in place: {:?}", event.mask);
            renamed += usize::from(event.mask.contains(AddWatchFlags::IN_MOVED_TO));
        }
    }
    assert_eq!(renamed, files.len(), "not every file was replaced");
    assert_eq!(files_below(layer.path()), files);
}

fn install_notifies_the_machine_itself(stage: &Stage) {
    let plan = |destdir: &str| {
        let mut make = Command::new("make");
        make.args(["--silent", "--dry-run", "-C"]).arg(repository());
        let planned = make.args(["install", "BINARY=/bin/true", destdir]).output();
        String::from_utf8_lossy(&planned.unwrap_or_else(|error| panic!("{error}")).stdout).into_owned()
    };
    let notify = |planned: &str| {
        planned.lines().skip_while(|line| !line.contains("--update-catalog")).collect::<Vec<_>>().join("\n")
    };
    let script = notify(&plan("DESTDIR="));
    assert!(script.contains("systemctl daemon-reload") && script.contains("ReloadConfig"), "{script}");
    stage.sh(&script).ok();
    assert_eq!(notify(&plan("DESTDIR=/srv/package")), "", "a packager's machine is notified");
}

fn files_below(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() && !path.is_symlink() => files_below(&path),
            path => vec![path.display().to_string()],
        })
        .collect()
}
