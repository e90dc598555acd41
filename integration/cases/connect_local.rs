//! Tests of a Connect server on this machine: the token goes only to a process of an allowed user, whoever listens at
//! the server's address, and wherever its port leads.
use crate::connect;
use onecred_integration::{
    cases,
    fake_connect::vault::fixture,
    machine::wait_until,
    stage::{CONNECT, Stage},
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "connect_local",
    stage: |suite| connect::stage(suite, "3s", "always"),
    shared: false,
    cases: cases![
        another_user_listens_in_its_place,
        a_port_forwarder_counts_as_its_user,
        a_redirected_connection_gets_nothing,
    ],
};

const CONFIG: &str = "/etc/onecred/secrets.json";
const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");
/// The address that forwards to the server or is redirected to it.
const OTHER: &str = "http://127.0.0.1:8081";

/// Sets the source, and the deadline of all secrets.
fn set(stage: &Stage, deadline: &str, source: Value) {
    let mut config: Value = serde_json::from_slice(&stage.read(CONFIG)).unwrap_or_default();
    config["source"] = source;
    config["defaults"]["deadline"] = json!(deadline);
    stage.write(CONFIG, config.to_string(), 0o644);
    stage.sh("systemctl reload onecred.service").ok();
}

fn another_user_listens_in_its_place(stage: &Stage) {
    stage.connect_goes();
    let (_, port) = CONNECT.rsplit_once(':').unwrap_or_default();
    let thief = format!(
        "use Socket; socket(L, AF_INET, SOCK_STREAM, 0); setsockopt(L, SOL_SOCKET, SO_REUSEADDR, 1);
        bind(L, sockaddr_in({port}, INADDR_LOOPBACK)) and listen(L, 9) or die;
        while (accept(C, L)) {{ open(O, '>>', '/srv/out/stolen'); print O 'accepted'; while (sysread(C, $_, 99)) {{ print O $_ }} print O \"\\n\"; close O; close C }}"
    );
    stage.write("/srv/thief", thief, 0o644);
    stage.sh("systemd-run -q --unit=thief -p User=nobody perl /srv/thief").ok();
    wait_until("the other user listens", || {
        stage
            .sh(&format!(
                "grep -q ':{:04X} 00000000:0000 0A' /proc/net/tcp",
                port.parse::<u16>().unwrap_or(0)
            ))
            .succeeded()
    });
    let words = ["a process of user ID 65534 answers, so the token was not sent", "connectUsers"];
    stage.refuses("app.service", "", "password", &words);
    stage.sh("systemctl stop thief").ok();
    let stolen = String::from_utf8_lossy(&stage.read("/srv/out/stolen")).into_owned();
    assert!(!stolen.is_empty() && stolen.lines().all(|line| line == "accepted"), "{stolen}");
    stage.connect_comes(&fixture());
    stage.starts("app.service", &[PASSWORD]);
}

/// As container engines run one for published ports. The process that accepts decides, not the one that listens: here that is systemd.
fn a_port_forwarder_counts_as_its_user(stage: &Stage) {
    let forwards = |user: &str| {
        let service =
            format!("[Service]\n{user}ExecStart=/usr/lib/systemd/systemd-socket-proxyd {CONNECT}\n");
        stage.sh("systemctl stop forward.socket forward.service").code();
        stage.units([
            ("forward.socket", "[Socket]\nListenStream=127.0.0.1:8081\n"),
            ("forward.service", &service),
        ]);
        stage.sh("systemctl start forward.socket").ok();
    };
    stage.sh("systemctl start onecred.service").ok();
    forwards("User=nobody\n");
    set(stage, "3s", json!({ "kind": "connect", "url": OTHER }));
    stage.refuses(
        "app-refused.service",
        "",
        "password",
        &["a process of user ID 65534 answers", "connectUsers"],
    );
    set(stage, "60s", json!({ "kind": "connect", "url": OTHER, "connectUsers": ["nobody"] }));
    stage.gets("app-named.service", "", &[PASSWORD]);
    forwards("");
    set(stage, "60s", json!({ "kind": "connect", "url": OTHER }));
    stage.gets("app-root.service", "", &[PASSWORD]);
}

/// As container engines do for published ports. Even a server of root is not recognised, because the kernel's table
/// has no row for the address that was connected to.
fn a_redirected_connection_gets_nothing(stage: &Stage) {
    stage.write("/srv/redirect", include_str!("redirect.pl"), 0o644);
    let redirected = stage.sh("perl /srv/redirect 8081 8080");
    if redirected.stderr().contains("the kernel has no") {
        eprintln!("skipped: {}", redirected.stderr());
        return;
    }
    redirected.ok();
    stage.sh("systemctl start onecred.service").ok();
    let before = stage.calls().len();
    set(stage, "20s", json!({ "kind": "connect", "url": OTHER }));
    let choices = [
        "the connection is redirected",
        "the token was not sent",
        "use https",
        "unix:/run/connect/api.sock",
        "\"insecure\": true",
    ];
    stage.refuses("app-refused.service", "", "password", &choices);
    assert_eq!(stage.calls().len(), before, "{:?}", stage.calls());
    set(stage, "60s", json!({ "kind": "connect", "url": OTHER, "insecure": true }));
    stage.gets("app-insecure.service", "", &[PASSWORD]);
}
