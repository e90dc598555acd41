//! Tests of files with errors. The active configuration stays active in both processes, and every tool
//! reports this. If nothing is served, every tool reports the reason.
use crate::cli::complaint;
use onecred_integration::{
    cases,
    machine::{Suite, wait_until},
    setup::{Setup, field, fixture_with},
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "last_valid",
    stage: |suite| setup(suite).stage(),
    shared: false,
    cases: cases![
        restarts_with_errors_keep_what_worked,
        an_unreadable_file_is_one_with_errors,
        a_source_is_the_one_that_is_active,
        files_that_were_not_loaded_are_reported,
        a_configuration_that_was_removed_does_not_come_back,
        without_a_configuration_every_verb_says_why,
        without_a_store_every_verb_says_why,
    ],
};

/// The same with `"strict": true`.
pub const STRICT: Theme = Theme {
    name: "last_valid_strict",
    stage: |suite| setup(suite).setting("strict", json!(true)).stage(),
    shared: false,
    cases: cases![a_strict_one_refuses_everything],
};

const CONFIG: &str = "/etc/onecred/secrets.json";
const MANAGER: &str = "org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager";
/// What is restarted, and whether by stop and start.
const RESTARTS: [&str; 5] = [
    "systemctl restart onecred.service",
    "systemctl restart onecred-resolver.service",
    "systemctl restart onecred.service onecred-resolver.service",
    "systemctl stop onecred.service onecred-resolver.service; systemctl start onecred.service",
    "systemctl kill -s KILL onecred.service onecred-resolver.service",
];

/// One secret that is fetched first, and others that are requested only after the errors.
fn setup(suite: Suite) -> Setup {
    let items = ["one", "two", "three", "four", "five"].map(|title| (title, vec![field("password", title)]));
    let setup = Setup::connect(suite)
        .holding(fixture_with(items))
        .default("maxAge", "always")
        .default("deadline", "20s")
        .secret("password", "op://My Vault/db/password", &["app*"]);
    ["one", "two", "three", "four", "five"]
        .iter()
        .fold(setup, |setup, name| setup.secret(name, &format!("op://My Vault/{name}/password"), &["app*"]))
}

fn config(stage: &Stage) -> Value {
    serde_json::from_slice(&stage.read(CONFIG)).unwrap_or_else(|error| panic!("{error}"))
}

fn set(stage: &Stage, value: &str) {
    stage.connect().set("My Vault", "db", "password", value).unwrap_or_else(|error| panic!("{error}"));
}

fn property(stage: &Stage, name: &str) -> String {
    let mut said = String::new();
    wait_until("the provider is on the bus", || {
        let asked = stage.sh(&format!("busctl get-property {MANAGER} {name}"));
        said = asked.stdout();
        asked.succeeded()
    });
    said.trim().to_owned()
}

#[track_caller]
fn status_says(stage: &Stage, code: i32, words: &[&str]) {
    let status = stage.sh("onecred status");
    assert_eq!(status.code(), Some(code), "{status}");
    // a column is as wide as its widest word
    let said = status.stdout().split_whitespace().collect::<Vec<_>>().join(" ");
    words.iter().for_each(|word| assert!(said.contains(word), "no {word:?}: {status}"));
}

/// The third line has an error, and the grants are removed.
fn broken() -> String {
    "{\n  \"source\": { \"kind\": \"connect\", \"url\": \"http://127.0.0.1:1\" },\n  \"secrts\": []\n}\n"
        .to_owned()
}

const WHERE: &str = "/etc/onecred/secrets.json:3:";

fn restarts_with_errors_keep_what_worked(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    let good = config(stage);
    stage.write(CONFIG, broken(), 0o644);
    let names = ["one", "two", "three", "four", "five"];
    for (restart, name) in RESTARTS.iter().zip(names) {
        stage.sh(restart).ok();
        set(stage, name);
        // a new version, and a secret that was never fetched
        stage.gets(
            &format!("app-{name}.service"),
            "",
            &[("password", name.as_bytes()), (name, name.as_bytes())],
        );
    }
    // each tool reports the error, and judges by the active configuration
    status_says(
        stage,
        1,
        &["serves yes", WHERE, "\"secrts\"", "the configuration of ", "stays active", "default: no trouble"],
    );
    let json: Value = serde_json::from_str(&stage.sh("onecred status --json").stdout()).unwrap_or_default();
    assert_eq!(json["configuration"]["state"], "rejected", "{json}");
    assert_eq!(property(stage, "ConfigurationState"), "s \"rejected\"");
    assert!(property(stage, "ConfigurationFileError").contains(WHERE));
    assert_eq!(property(stage, "ConfigurationError"), "s \"\"");
    assert!(stage.sh("onecred list").ok().contains("five"));
    let explained = stage.sh("onecred explain app.service one").stdout();
    assert!(explained.contains("because    secret one (/etc/onecred/secrets.json:"), "{explained}");
    for unit in ["onecred.service", "onecred-resolver.service"] {
        // both update their status at a limited rate
        wait_until(&format!("{unit} says what stays active"), || {
            let said = stage.show(unit, "StatusText");
            said.contains("stays active") && said.contains(WHERE)
        });
    }
    let rejected = "journalctl -q -o cat -u onecred.service MESSAGE_ID=e04bc59fb56b466aa99fe40cd5671cc0";
    let said = stage.sh(rejected).ok();
    assert!(
        said.contains("has errors or can't be read, so the one of ") && said.contains("stays active"),
        "{said}"
    );
    // a reload fails and changes nothing
    for reload in ["systemctl reload onecred.service", "onecred reload"] {
        let said = stage.sh(reload).fails();
        assert!(
            reload.starts_with("systemctl") || said.contains("stays active") && said.contains(WHERE),
            "{said}"
        );
    }
    stage.sh("systemctl kill -s HUP onecred-resolver.service").ok();
    stage.starts("app-one.service", &[("password", b"five"), ("one", b"one")]);
    // restore a valid file
    stage.write(CONFIG, good.to_string().replace("app*", "late*"), 0o644);
    status_says(stage, 0, &["changed on disk since it was loaded; run: onecred reload"]);
    assert_eq!(property(stage, "ConfigurationState"), "s \"changed\"");
    stage.sh("systemctl reload onecred.service").ok();
    let status = stage.sh("onecred status").ok();
    assert!(!status.contains("config "), "{status}");
    assert_eq!(property(stage, "ConfigurationState"), "s \"current\"");
    stage.gets("late.service", "", &[("password", b"five")]);
    stage.refuses("app-no-more.service", "", "password", &["not allowed"]);
    for unit in ["onecred.service", "onecred-resolver.service"] {
        let said = stage.show(unit, "StatusText");
        assert!(!said.contains("stays active"), "{unit}: {said}");
    }
}

fn an_unreadable_file_is_one_with_errors(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    for (n, spoil) in [
        format!("chmod 0666 {CONFIG}"),
        format!("ln -sf /nowhere.json {CONFIG}"),
        format!("rm {CONFIG} && mkdir {CONFIG}"),
    ]
    .iter()
    .enumerate()
    {
        stage.sh(spoil).ok();
        stage.sh(RESTARTS[2]).ok();
        set(stage, spoil);
        stage.gets(&format!("app-{n}.service"), "", &[("password", spoil.as_bytes())]);
        status_says(stage, 1, &[CONFIG, "stays active"]);
    }
}

/// The files are valid, were not loaded, and define the source differently.
fn a_source_is_the_one_that_is_active(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    let mut other = config(stage);
    other["source"]["url"] = json!("http://127.0.0.1:1");
    stage.write(CONFIG, other.to_string(), 0o644);
    stage.sh(RESTARTS[1]).ok();
    stage.gets("app-one.service", "", &[("one", b"one")]);
    status_says(stage, 0, &["changed on disk", "default: no trouble"]);
    // the resolver cannot read the file itself; the provider has read it
    stage.sh(&format!("chmod 0600 {CONFIG}")).ok();
    other["source"]["url"] = json!("http://127.0.0.1:8080");
    stage.write(CONFIG, other.to_string(), 0o600);
    stage.sh(RESTARTS[2]).ok();
    stage.gets("app-two.service", "", &[("two", b"two")]);
}

fn files_that_were_not_loaded_are_reported(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    status_says(stage, 0, &["serves yes"]);
    let good = config(stage).to_string();
    stage.write(CONFIG, good.replace("app*", "late*"), 0o644);
    status_says(stage, 0, &["config changed on disk since it was loaded; run: onecred reload"]);
    stage.refuses("late.service", "", "password", &["not allowed"]);
    stage.write(CONFIG, broken(), 0o644);
    status_says(stage, 1, &[WHERE, "stays active"]);
    stage.run(&["systemctl", "reload", "onecred"]).fails();
    status_says(stage, 1, &[WHERE, "stays active"]);
    wait_until("systemctl status says so", || stage.show("onecred.service", "StatusText").contains(WHERE));
    stage.starts("app.service", &[("password", b"hunter2")]);
}

fn a_configuration_that_was_removed_does_not_come_back(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    stage.sh(&format!("rm {CONFIG}")).ok();
    status_says(stage, 1, &["the configuration does not exist", "stays active"]);
    stage.sh(RESTARTS[0]).ok();
    stage.refuses(
        "app-gone.service",
        "",
        "password",
        &["serves nothing", "the configuration does not exist"],
    );
    stage.write(CONFIG, broken(), 0o644);
    stage.sh(RESTARTS[0]).ok();
    stage.refuses("app-later.service", "", "password", &["serves nothing", WHERE]);
}

fn a_strict_one_refuses_everything(stage: &Stage) {
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    stage.write(CONFIG, broken(), 0o644);
    // a failed reload keeps it, as without strict
    stage.run(&["systemctl", "reload", "onecred"]).fails();
    stage.starts("app.service", &[("password", b"hunter2")]);
    stage.sh(RESTARTS[0]).ok();
    stage.refuses("app-refused.service", "", "password", &["serves nothing", WHERE]);
    status_says(stage, 1, &["serves nothing", WHERE]);
}

/// The output of each verb that needs secrets, and of each D-Bus method.
#[track_caller]
fn every_verb_says(stage: &Stage, word: &str) {
    property(stage, "Version");
    for verb in [
        "get password",
        "put password </etc/hostname",
        "rollback password",
        "release password",
        "list",
        "refresh",
        "refresh password",
        "refresh password password",
        "refresh --dry-run",
    ] {
        let (code, said) = complaint(&stage.sh(&format!("onecred {verb}")));
        assert!(
            code == Some(1) && said.contains("serves nothing") && said.contains(word),
            "{verb}: {code:?} {said}"
        );
    }
    for call in
        ["ListSecrets", "Refresh ast 1 password 0", "RefreshAll t 0", "Open s password", "Affected as 0"]
    {
        let said = stage.sh(&format!("busctl call {MANAGER} {call}")).fails();
        assert!(said.contains("serves nothing") && said.contains(word), "{call}: {said}");
    }
    let named = "dbus-send --system --print-reply --dest=org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager.ListSecrets";
    let said = stage.sh(named).fails();
    assert!(said.contains("org.onecred.Error.Misconfigured"), "{said}");
    let said = stage.sh("onecred explain app.service password");
    assert!(said.code() == Some(1) && said.stdout().contains(word), "{said}");
    status_says(stage, 1, &["serves nothing", word]);
}

fn without_a_configuration_every_verb_says_why(stage: &Stage) {
    stage.write(CONFIG, broken(), 0o644);
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    every_verb_says(stage, WHERE);
    let user = stage.sh("setpriv --reuid=nobody --clear-groups onecred list");
    assert_eq!(user.code(), Some(3), "{user}");
    assert!(!user.stderr().contains(WHERE), "{user}");
    let unit = "systemd-run --quiet --wait --pipe --unit=app-asks -p User=nobody onecred list";
    let said = stage.sh(unit);
    assert!(said.stderr().contains("serves nothing") && !said.stderr().contains(WHERE), "{said}");
}

fn without_a_store_every_verb_says_why(stage: &Stage) {
    stage
        .sh("systemctl mask --now run-onecred-store.mount; systemctl start dbus.socket onecred.service")
        .ok();
    every_verb_says(stage, "/run/onecred/store");
}
