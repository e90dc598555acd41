//! Tests of the machine: what the other cases rely on.
use onecred_integration::{
    cases,
    machine::{Plan, wait_until},
    stage::Stage,
    theme::Theme,
};
use std::{io::Write, net::TcpListener, thread};

pub const THEME: Theme = Theme {
    name: "machine",
    stage: |suite| {
        let early = "[Unit]\nDefaultDependencies=no\nBefore=systemd-tmpfiles-setup.service\n\
            [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo early'\n\
            [Install]\nWantedBy=sysinit.target\n";
        Stage::of(&Plan::new(suite).unit("early.service", early).prepare("systemctl enable -q early.service"))
    },
    shared: true,
    cases: cases![
        systemd_is_pid_1_and_says_running,
        a_unit_runs_in_its_cgroup_and_logs,
        a_planned_unit_starts_early_in_the_boot,
        a_dynamic_user_has_a_name,
        a_credential_file_reaches_a_unit,
        its_loopback_is_its_own_and_reachable,
        it_has_no_other_network,
        nothing_it_writes_reaches_the_root_below,
    ],
};

fn systemd_is_pid_1_and_says_running(stage: &Stage) {
    assert_eq!(stage.sh("cat /proc/1/comm").ok().trim(), "systemd");
    assert_eq!(stage.run(&["systemctl", "is-system-running"]).ok().trim(), "running");
}

fn a_unit_runs_in_its_cgroup_and_logs(stage: &Stage) {
    stage.units([("where.service", "[Service]\nType=oneshot\nExecStart=/bin/cat /proc/self/cgroup\n")]);
    stage.run(&["systemctl", "start", "where"]).ok();
    assert!(stage.journal("where").contains("0::/system.slice/where.service"), "{}", stage.journal("where"));
}

fn a_planned_unit_starts_early_in_the_boot(stage: &Stage) {
    let began = |unit, property| {
        stage.show(unit, property).parse::<u64>().unwrap_or_else(|_| panic!("{unit} never began"))
    };
    let early = began("early.service", "ExecMainExitTimestampMonotonic");
    assert!(early < began("systemd-tmpfiles-setup.service", "ExecMainStartTimestampMonotonic"));
}

fn a_dynamic_user_has_a_name(stage: &Stage) {
    let user = stage.run(&[
        "systemd-run",
        "-q",
        "--wait",
        "--pipe",
        "-p",
        "DynamicUser=yes",
        "--unit=dyn",
        "id",
        "-un",
    ]);
    assert_eq!(user.ok().trim(), "dyn");
}

fn a_credential_file_reaches_a_unit(stage: &Stage) {
    stage.write("/srv/a-file", "v\0alue\n", 0o600);
    let ask = [
        "systemd-run",
        "-q",
        "--wait",
        "--pipe",
        "-p",
        "LoadCredential=c:/srv/a-file",
        "sh",
        "-c",
        "cat $CREDENTIALS_DIRECTORY/c",
    ];
    assert_eq!(stage.run(&ask).ok(), "v\0alue\n");
}

fn its_loopback_is_its_own_and_reachable(stage: &Stage) {
    let listener = stage.in_network(|| TcpListener::bind("127.0.0.1:8080")).expect("enter").expect("bind");
    let server = thread::spawn(move || listener.accept().and_then(|(mut peer, _)| peer.write_all(b"hello")));
    let heard = stage.run(&["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080; cat <&3"]).ok();
    assert_eq!(heard, "hello");
    server.join().expect("joined").expect("served");
}

fn it_has_no_other_network(stage: &Stage) {
    let devices = stage.sh("tail -n +3 /proc/net/dev | cut -d: -f1").ok();
    assert_eq!(devices.split_whitespace().collect::<Vec<_>>(), ["lo"]);
}

fn nothing_it_writes_reaches_the_root_below(stage: &Stage) {
    stage.write("/etc/onecred-was-here", "", 0o644);
    wait_until("the file is there", || stage.root().join("etc/onecred-was-here").exists());
    let below = stage.suite.root().expect("a root").join("etc/onecred-was-here");
    assert!(!below.exists(), "{} exists", below.display());
}
