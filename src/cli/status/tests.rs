use super::screen::line;
use super::source::Quota;
use super::*;
use crate::cli::common::reach::Reach;
use crate::cli::common::table::{Row, table};
use crate::cli::secrets::tests::sample;

const NOW: u64 = 1_764_061_200;

fn status() -> Status {
    let (fine, gone) = ("default".to_owned(), "backup".to_owned());
    let away = Some("away: connect.example does not answer; start it".to_owned());
    let ready = || Some("ready".to_owned());
    let sources = vec![
        SourceStatus { name: fine, state: ready(), ..SourceStatus::default() },
        SourceStatus { name: gone, state: ready(), error: away, ..SourceStatus::default() },
    ];
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let (configuration_error, configuration, creds_socket) = (None, None, None);
    let (sockets, secrets) = (Vec::new(), sample());
    Status {
        version,
        configuration_error,
        configuration,
        sealing_error: None,
        keeper_error: None,
        recovery: None,
        sockets,
        sources,
        secrets,
        creds_socket,
        writable_mounts: Vec::new(),
    }
}

#[test]
fn one_screen() {
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "onecred  {version}
serves   yes
sources  default: no trouble
         backup: away: connect.example does not answer; start it
secrets  4: 1 fresh, 1 never fetched, 1 held, 1 failing
held     db-password (put); to remove the override: onecred release db-password
failing  api-key: not found: no item \"openai\"; make it
"
    );
    assert_eq!(screen(&status(), NOW, Paint::NONE), expected);
}

#[test]
fn what_keeps_units_from_their_credentials_is_a_failure() {
    let source = |state: &str, error: Option<&str>| SourceStatus {
        name: "default".into(),
        state: Some(state.to_owned()).filter(|state| !state.is_empty()),
        error: error.map(str::to_owned),
        ..SourceStatus::default()
    };
    let fine = || Status {
        sources: vec![source("ready", None)],
        secrets: sample().into_iter().filter(|secret| secret.state != "failing").collect(),
        ..status()
    };
    let socket = |active_state: &str, unit_file_state: &str| Socket {
        unit: "onecred-sealed.socket".into(),
        active_state: active_state.into(),
        unit_file_state: unit_file_state.into(),
        reach: Reach::Listens,
        addresses: Vec::new(),
    };
    let removed = Socket { reach: Reach::Removed, ..socket("active", "enabled") };
    let finding = |level| Some(Finding { level, message: "m".into() });
    let too_large = Fault { name: "org.onecred.Error.TooLarge".into(), message: "m".into() };
    let unusable = Listed { state: "held".into(), error: Some(too_large), ..Listed::default() };
    let withheld = vec!["app.service: m".to_owned()];
    let withheld = Listed { state: "fresh".into(), withheld, ..Listed::default() };
    for (case, status, bad) in [
        ("all is well", fine(), false),
        ("a socket that is stopped", Status { sockets: vec![socket("inactive", "enabled")], ..fine() }, true),
        ("one that is not enabled", Status { sockets: vec![socket("active", "disabled")], ..fine() }, false),
        ("one that was removed", Status { sockets: vec![removed], ..fine() }, true),
        ("no token", Status { sources: vec![source("no-token", None)], ..fine() }, true),
        ("a token that is refused", Status { sources: vec![source("refused", None)], ..fine() }, true),
        ("calls that are limited", Status { sources: vec![source("limited", None)], ..fine() }, true),
        ("an outage", Status { sources: vec![source("ready", Some("away"))], ..fine() }, true),
        ("a resolver that does not answer", Status { sources: vec![source("", None)], ..fine() }, true),
        (
            "values that cannot be sealed",
            Status { sealing_error: Some("this host has no key; make one".into()), ..fine() },
            true,
        ),
        ("a failing secret", Status { secrets: sample(), ..fine() }, true),
        ("a restart that is withheld", Status { secrets: vec![withheld], ..fine() }, true),
        ("an override that is too large", Status { secrets: vec![unusable], ..fine() }, true),
        (
            "a configuration that can't be used",
            Status { configuration_error: Some("x".into()), ..fine() },
            true,
        ),
        ("a warning", Status { creds_socket: finding(Level::Warning), ..fine() }, false),
        ("an error", Status { creds_socket: finding(Level::Error), ..fine() }, true),
    ] {
        assert_eq!(status.is_bad(), bad, "{case}");
    }
}

#[test]
fn one_cause_is_shown_once() {
    let message = "no token: source default has no token; set one with: onecred token set";
    let error = || Some(Fault { name: "org.onecred.Error.NoToken".into(), message: message.into() });
    let failing = |number: usize| Listed {
        name: format!("secret-{number:02}"),
        state: "failing".into(),
        error: error(),
        ..Listed::default()
    };
    let source =
        SourceStatus { name: "default".into(), error: Some(message.into()), ..SourceStatus::default() };
    let mut status = status();
    (status.sources, status.secrets) = (vec![source], (0..40).map(failing).collect());
    let one = screen(&status, NOW, Paint::NONE);
    let expected = "\
failing  40 secrets: the same as source default
         secret-00, secret-01, secret-02, secret-03, secret-04, secret-05,
         secret-06, secret-07 and 32 more
";
    assert!(one.ends_with(expected) && one.matches("no token:").count() == 1, "{one}");
    status.sources.clear();
    let one = screen(&status, NOW, Paint::NONE);
    assert!(one.contains("failing  40 secrets: no token:"), "{one}");
    assert!(one.lines().all(|line| line.len() <= 80), "{one}");
}

#[test]
fn a_source_tells_what_it_may_still_be_asked_for() {
    let quota = |until| Quota { calls_today: 790, budget: 800, left: 10, limited_until: until };
    let said = |state: &str, quota| {
        let state = Some(state.to_owned()).filter(|state| !state.is_empty());
        line(&SourceStatus { name: "a".into(), state, quota, ..SourceStatus::default() }, NOW)
    };
    let text = |cell| table(&[Row::new(vec![cell])], Paint::NONE);
    assert_eq!(text(said("ready", Some(quota(None)))), "a: no trouble; 790 of 800 calls today\n");
    let limited = said("limited", Some(quota(Some(NOW + 600))));
    let expected = "a: its calls are limited; 790 of 800 calls today, none for another 10 min\n";
    assert_eq!(text(limited), expected);
    assert_eq!(text(said("ready", Some(quota(Some(NOW - 1))))), "a: no trouble; 790 of 800 calls today\n");
    assert!(text(said("no-token", None)).contains("onecred token set"));
    assert!(text(said("", None)).contains("systemctl status onecred-resolver"));
}

#[test]
fn the_units_that_cause_the_most_calls_are_a_line() {
    let mut status = status();
    status.sources[0].spenders =
        source::consumers(vec![("app.service".into(), 300), ("user 1000".into(), 12)]);
    let screen = screen(&status, NOW, Paint::NONE);
    let expected =
        "sources  default: no trouble\n         most calls in 24 h: app.service 300, user 1000 12\n";
    assert!(screen.contains(expected), "{screen}");
    let json = serde_json::to_value(&status).unwrap();
    let spender = serde_json::json!({ "name": "app.service", "calls": 300 });
    assert_eq!(json["sources"][0]["spenders"][0], spender);
}

#[test]
fn units_that_are_to_be_started_again_are_a_line() {
    let line = |waiting, started| {
        let recovery = Some(Recovery { waiting, started });
        let screen = screen(&Status { recovery, ..status() }, NOW, Paint::NONE);
        screen.lines().find_map(|line| line.strip_prefix("recovery  ").map(str::to_owned))
    };
    assert_eq!(line(0, 500), None);
    assert_eq!(line(1, 0).as_deref(), Some("1 unit waits to be started again"));
    assert_eq!(line(463, 37).as_deref(), Some("463 units wait to be started again; 37 were already started"));
}

#[test]
fn a_restart_that_is_withheld_is_a_line() {
    let mut status = status();
    status.secrets[3].withheld = vec!["app.service: credential db: empty".into()];
    let shown = screen(&status, NOW, Paint::NONE);
    assert!(shown.ends_with("\nwithheld  app.service: credential db: empty\n"), "{shown}");
}

#[test]
fn what_serves_nothing_says_so() {
    let mut status = status();
    status.configuration_error = Some("/etc/onecred/secrets.json:1:1: error: x".into());
    (status.secrets, status.sources) = (Vec::new(), Vec::new());
    status.version = "9.9.9".into();
    let screen = screen(&status, NOW, Paint::NONE);
    assert!(screen.contains("serves   nothing: /etc/onecred/secrets.json:1:1: error: x\n"), "{screen}");
    assert!(screen.contains("9.9.9 (this program is ") && screen.contains("secrets  none\n"), "{screen}");
}

#[test]
fn files_that_are_not_loaded_are_a_line() {
    let mut status = status();
    let error = Some("/etc/onecred/secrets.json:3:5: error: x".to_owned());
    status.configuration = Some(Configuration { state: "rejected".into(), error, loaded: Some(NOW - 60) });
    let said = screen(&status, NOW, Paint::NONE);
    let expected = "serves   yes\nconfig   /etc/onecred/secrets.json:3:5: error: x\n         the configuration of 08:59 UTC stays active\n";
    assert!(said.contains(expected), "{said}");
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["configuration"]["state"], "rejected");
    assert_eq!(json["configurationError"], serde_json::Value::Null, "something is served");
}

#[test]
fn the_limits_of_systemds_socket_are_shown() {
    let mut status = status();
    let message = "systemd-creds.socket allows too few connections; do this".to_owned();
    status.creds_socket = Some(Finding { level: Level::Warning, message });
    let screen = screen(&status, NOW, Paint::NONE);
    assert!(
        screen.contains("\nsystemd  systemd-creds.socket allows too few connections; do this\n"),
        "{screen}"
    );
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["credsSocket"]["level"], "warning");
}

#[test]
fn programs_get_all_of_it() {
    let json = serde_json::to_value(status()).unwrap();
    assert_eq!(json["configurationError"], serde_json::Value::Null);
    assert_eq!(json["sources"][1]["error"], "away: connect.example does not answer; start it");
    assert_eq!(json["secrets"][0]["name"], "api-key");
}
