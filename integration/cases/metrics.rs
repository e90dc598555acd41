//! Tests of the metrics: the text contains the counts, every user may read it, and the file for node_exporter
//! is never incomplete.
use onecred_integration::{
    cases,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "metrics",
    stage,
    shared: false,
    cases: cases![
        what_happened_is_in_the_text,
        the_secret_s_object_has_its_counts,
        the_source_s_object_tells_what_the_resolver_knows,
        a_user_may_not_see_them,
        a_timer_writes_them_for_node_exporter,
    ],
};

const FOLDER: &str = "/var/lib/prometheus/node-exporter";

fn stage(suite: Suite) -> Stage {
    let stage = Setup::vault(suite)
        .secret("password", "op://My Vault/db/password", &["app*"])
        .secret("nowhere", "op://My Vault/nowhere/password", &["app*"])
        .stage();
    stage.sh("systemctl start dbus.socket").ok();
    stage
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "{line:?} is not in:\n{text}");
    }
}

fn what_happened_is_in_the_text(stage: &Stage) {
    let before = stage.sh("onecred metrics").ok();
    has(&before, &["onecred_answers_total 0", "onecred_serves 1", "onecred_store_items 0", "# EOF"]);
    for unit in ["app1.service", "app2.service"] {
        stage.gets(unit, "", &[("password", b"hunter2")]);
    }
    stage.refuses("other.service", "", "password", &["not allowed"]);
    stage.refuses("app3.service", "", "nowhere", &["no item"]);
    let lines = [
        "onecred_answers_total 2",
        "onecred_answer_latency_seconds_count 2",
        "onecred_refusals_total{kind=\"not-allowed\"} 1",
        "onecred_refusals_total{kind=\"not-found\"} 1",
        "onecred_secret_answers_total{secret=\"password\"} 2",
        "onecred_secret_refusals_total{secret=\"password\"} 1",
        "onecred_secret_refusals_total{secret=\"nowhere\"} 1",
        "onecred_secret_state{secret=\"password\",state=\"fresh\"} 1",
        "onecred_secret_state{secret=\"nowhere\",state=\"failing\"} 1",
        "onecred_source_answers{source=\"default\"} 1",
        "onecred_resolver_answers 1",
        "onecred_source_state{source=\"default\",state=\"ready\"} 1",
        "onecred_store_items 1",
    ];
    let text = stage.sh("onecred metrics").ok();
    has(&text, &lines);
    assert!(!text.contains("hunter2"));
}

fn the_secret_s_object_has_its_counts(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    stage.refuses("other.service", "", "password", &["not allowed"]);
    let object =
        "org.onecred.Credentials1 /org/onecred/Credentials1/secret/password org.onecred.Credentials1.Secret";
    let said = stage.sh(&format!("busctl get-property {object} Answers Refusals")).ok();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["t", "1", "t", "1"], "{said}");
    let listed: serde_json::Value =
        serde_json::from_str(&stage.sh("onecred list --json").ok()).expect("JSON");
    let password = listed.as_array().and_then(|all| all.iter().find(|secret| secret["name"] == "password"));
    assert!(password.is_some_and(|secret| secret["answers"] == 1 && secret["refusals"] == 1), "{listed}");
}

fn the_source_s_object_tells_what_the_resolver_knows(stage: &Stage) {
    let object =
        "org.onecred.Credentials1 /org/onecred/Credentials1/source/default org.onecred.Credentials1.Source";
    let property =
        |name: &str| stage.sh(&format!("busctl get-property {object} {name}")).ok().trim().to_owned();
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    assert_eq!((property("Kind"), property("Budget")), ("s \"file\"".into(), "u 0".into()));
    wait_until("the call is counted", || property("Calls").starts_with("a{st} 1 \"ok\" "));
    assert_eq!(property("State"), "s \"ready\"");
    assert_ne!(property("LastSuccess"), "t 0");
    assert!(stage.sh("onecred status").stdout().contains("sources  default: no trouble\n"));
    let status: serde_json::Value =
        serde_json::from_str(&stage.sh("onecred status --json").stdout()).expect("JSON");
    assert_eq!(status["sources"][0]["kind"], "file", "{status}");
    // without a resolver, everything else is reported
    stage.sh("systemctl stop onecred-resolver.socket onecred-resolver.service").ok();
    wait_until("it is told that the resolver is gone", || property("State") == "s \"\"");
    has(&stage.sh("onecred metrics").ok(), &["onecred_resolver_answers 0", "onecred_answers_total 1"]);
    let said = stage.sh("onecred status").stdout();
    assert!(said.contains("systemctl status onecred-resolver"), "{said}");
}

fn a_user_may_not_see_them(stage: &Stage) {
    let ran = stage.sh("setpriv --reuid=games --regid=games --clear-groups onecred metrics");
    assert_eq!(ran.code(), Some(3), "{ran}");
    assert!(ran.stdout().is_empty(), "{ran}");
}

fn a_timer_writes_them_for_node_exporter(stage: &Stage) {
    stage.sh("systemctl start onecred-metrics.service").ok();
    assert_eq!(stage.show("onecred-metrics.service", "ConditionResult"), "no", "there is no exporter");
    stage.sh(&format!("install -d -o games -g games {FOLDER}")).ok();
    stage.sh("systemctl start onecred-metrics.service").ok();
    let text = stage.sh(&format!("cat {FOLDER}/onecred.prom")).ok();
    has(&text, &["onecred_serves 1", "# EOF"]);
    assert_eq!(stage.sh(&format!("ls -A {FOLDER}")).ok().trim(), "onecred.prom");
    assert_eq!(stage.sh(&format!("stat -c %a {FOLDER}/onecred.prom")).ok().trim(), "644");
    // again, by the timer
    stage.sh(&format!("rm {FOLDER}/onecred.prom && systemctl enable -q onecred-metrics.timer")).ok();
    let sooner = "[Timer]\nOnActiveSec=0\nAccuracySec=1us\n";
    stage.write("/etc/systemd/system/onecred-metrics.timer.d/sooner.conf", sooner, 0o644);
    stage.sh("systemctl daemon-reload && systemctl start onecred-metrics.timer").ok();
    wait_until("the timer has it written", || {
        stage.sh(&format!("grep -qx '# EOF' {FOLDER}/onecred.prom")).succeeded()
    });
}
