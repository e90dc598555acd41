//! Tests that the kernel identifies a peer, not the name of its socket.
use onecred_integration::{
    cases,
    installed::{LIBEXEC, SOCKET},
    machine::{Ran, Suite},
    setup::{Setup, field, fixture_with},
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "forged",
    stage,
    shared: true,
    cases: cases![
        the_probe_in_the_right_unit_gets_the_secret,
        an_unprivileged_process_that_reaches_it_is_refused,
        an_unprivileged_user_of_the_right_unit_is_refused,
        root_outside_every_unit_is_refused,
        root_in_another_unit_is_refused,
        a_process_that_has_the_pid_of_another_is_refused,
        a_delegated_group_with_the_name_of_a_unit_is_refused,
        a_user_manager_with_a_unit_of_that_name_is_refused,
        a_peer_without_a_name_is_refused,
        a_peer_with_another_kind_of_name_is_refused,
        a_forged_request_leaves_no_line_in_the_claimed_units_journal,
    ],
};

const LIMIT: usize = 1024 * 1024;
const VALUE: &str = "for app alone";

fn stage(suite: Suite) -> Stage {
    let setup = Setup::vault(suite).holding(fixture_with([("app", vec![field("secret", VALUE)])])).secret(
        "secret",
        "op://My Vault/app/secret",
        &["app", "app-runs"],
    );
    let stage = setup.stage();
    // Any user may connect here, so the provider itself must refuse.
    stage.run(&["chmod", "0666", SOCKET]).ok();
    stage
}

/// Checks the answer to a process whose socket name claims to be `unit`.
#[track_caller]
fn is_refused(answer: &[u8], who: &str) {
    assert!(
        answer.len() > LIMIT,
        "{who} got {} bytes, which systemd would take for a credential",
        answer.len()
    );
    let text = String::from_utf8_lossy(answer);
    assert!(!text.contains(VALUE), "{who} got the secret");
}

/// Runs the probe in a separate unit, and returns what it received.
fn probe_as(stage: &Stage, unit: &str, lines: &str, name: &str) -> Vec<u8> {
    let text = format!(
        "[Service]\nType=oneshot\nStandardOutput=truncate:/srv/out/{unit}.answer\n{lines}\n\
        ExecStart={LIBEXEC}/probe {SOCKET} {name}\n"
    );
    stage.units([(unit, text.as_str())]);
    stage.run(&["systemctl", "start", unit]).ok();
    stage.read(&format!("/srv/out/{unit}.answer"))
}

fn probe(stage: &Stage, words: &[&str]) -> Ran {
    let path = format!("{LIBEXEC}/probe");
    stage.run(&[words, &[&path, SOCKET, "unit/app.service/secret"]].concat())
}

fn the_probe_in_the_right_unit_gets_the_secret(stage: &Stage) {
    let answer = probe_as(stage, "app.service", "", "unit/app.service/secret");
    assert_eq!(String::from_utf8_lossy(&answer), VALUE);
}

fn an_unprivileged_process_that_reaches_it_is_refused(stage: &Stage) {
    is_refused(&probe(stage, &["setpriv", "--reuid=nobody", "--clear-groups"]).ok_bytes(), "nobody");
}

fn an_unprivileged_user_of_the_right_unit_is_refused(stage: &Stage) {
    let text = format!(
        "[Service]\nType=oneshot\nUser=nobody\nStandardOutput=truncate:/srv/out/by-nobody\n\
        ExecStart={LIBEXEC}/probe {SOCKET} unit/app-of-nobody.service/secret\n"
    );
    stage.units([("app-of-nobody.service", text.as_str())]);
    stage.run(&["systemctl", "start", "app-of-nobody"]).ok();
    is_refused(&stage.read("/srv/out/by-nobody"), "a unit's user");
}

fn root_outside_every_unit_is_refused(stage: &Stage) {
    is_refused(&probe(stage, &["env"]).ok_bytes(), "root outside every unit");
}

fn root_in_another_unit_is_refused(stage: &Stage) {
    is_refused(&probe_as(stage, "evil.service", "", "unit/app.service/secret"), "evil.service");
}

/// The process that connected has ended, and its PID belongs to a process of the unit that it claims to be.
fn a_process_that_has_the_pid_of_another_is_refused(stage: &Stage) {
    stage.write("/srv/reuse.pl", include_str!("reuse.pl"), 0o644);
    stage.units([("app-runs.service", "[Service]\nExecStart=/bin/sleep infinity\n")]);
    stage.run(&["systemctl", "start", "app-runs.service", "onecred.service"]).ok();
    let group = "/sys/fs/cgroup/system.slice/app-runs.service";
    let script = format!(
        "systemctl show --value -p MainPID onecred.service | systemd-run -q --unit=reuse --pipe --wait \
         perl /srv/reuse.pl {SOCKET} unit/app-runs.service/secret {group} /srv/out/reuse"
    );
    let cgroup = stage.sh(&script).ok();
    assert!(cgroup.trim().ends_with("/system.slice/app-runs.service"), "{cgroup}");
    is_refused(&stage.read("/srv/out/reuse"), "a process with the PID of another");
}

fn a_delegated_group_with_the_name_of_a_unit_is_refused(stage: &Stage) {
    let group = "/sys/fs/cgroup/system.slice/nest.service/app.service";
    let text = format!(
        "[Service]\nType=oneshot\nDelegate=yes\nStandardOutput=truncate:/srv/out/nest\n\
        ExecStart=/bin/sh -euc 'mkdir {group}; echo $$$$ >{group}/cgroup.procs; exec {LIBEXEC}/probe {SOCKET} unit/app.service/secret'\n"
    );
    stage.units([("nest.service", text.as_str())]);
    stage.run(&["systemctl", "start", "nest"]).ok();
    is_refused(&stage.read("/srv/out/nest"), "app.service below nest.service");
}

fn a_user_manager_with_a_unit_of_that_name_is_refused(stage: &Stage) {
    stage.sh("systemctl start user@65534.service").ok();
    let text = format!(
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c '{LIBEXEC}/probe {SOCKET} unit/app.service/secret >/srv/out/by-user'\n"
    );
    stage.write("/run/systemd/user/app.service", text, 0o644);
    stage.sh("export XDG_RUNTIME_DIR=/run/user/65534; setpriv --reuid=65534 --clear-groups systemctl --user daemon-reload; \
        setpriv --reuid=65534 --clear-groups systemctl --user start app.service").ok();
    is_refused(&stage.read("/srv/out/by-user"), "a user manager's app.service");
}

fn a_peer_without_a_name_is_refused(stage: &Stage) {
    is_refused(&probe_as(stage, "app-nameless.service", "", "-"), "a peer without a name");
}

fn a_peer_with_another_kind_of_name_is_refused(stage: &Stage) {
    let names = [
        "unit/app.service",
        "unit//secret",
        "unit/app.service/",
        "cryptsetup/root",
        "unit/app.service/../secret",
    ];
    for (n, name) in names.iter().enumerate() {
        is_refused(&probe_as(stage, &format!("app-misnamed-{n}.service"), "", name), name);
    }
}

fn a_forged_request_leaves_no_line_in_the_claimed_units_journal(stage: &Stage) {
    let before = stage.journal("victim.service");
    let answer = probe_as(stage, "liar.service", "", "unit/victim.service/secret");
    is_refused(&answer, "liar.service");
    let reason = stage.waits_for_line("onecred.service", "liar.service");
    assert!(reason.contains("victim.service"), "{reason}");
    assert_eq!(stage.journal("victim.service"), before);
}
