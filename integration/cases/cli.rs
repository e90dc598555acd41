//! Tests of the verbs on a booted machine: their output for people and programs, and their errors.
use onecred_integration::{
    cases,
    fake_connect::vault,
    installed::make,
    machine::{Layer, Ran, Suite},
    setup::{Setup, field},
    stage::{Stage, consumer},
    theme::Theme,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Cases that change nothing.
pub const THEME: Theme = Theme {
    name: "cli",
    stage,
    shared: true,
    cases: cases![
        status_is_one_screen,
        list_shows_each_secret_and_its_error,
        explain_gives_the_decision_and_its_reason,
        get_writes_the_value_as_it_is,
        refresh_tells_what_came_of_each,
        a_terminal_sees_colours_and_progress,
        what_is_shown_fits_80_columns,
        a_user_is_told_what_is_missing,
        programs_get_json,
        a_wrong_command_line_is_2,
        what_is_generated_can_be_used,
        names_are_completed,
    ],
};

pub(crate) fn stage(suite: Suite) -> Stage {
    let login = |n: u8, title: &str, fields: Vec<Value>| {
        let id = format!("{:a<26}", format!("item{}b", char::from(b'a' + n)));
        json!({ "id": id, "title": title, "category": "LOGIN", "version": 1, "fields": fields })
    };
    let mut document = vault::fixture();
    document["vaults"].as_array_mut().expect("vaults").push(json!({
        "id": format!("{:a<26}", "vaultserversb"), "name": "Servers", "contentVersion": 1,
        "items": [
            login(0, "postgres", vec![field("password", "hunter2"), field("username", "bob\n")]),
            login(1, "openai", vec![field("credential", "sk-canary")]),
        ],
    }));
    let stage = Setup::connect(suite)
        .holding(document)
        .default("maxAge", "1h")
        .default("deadline", "3s")
        .secret("db-password", "op://Servers/postgres/password", &["app", "explained"])
        .secret("db-user", "op://Servers/postgres/username", &["app", "web@*/user"])
        .secret("nowhere", "op://Servers/nowhere/password", &["app"])
        .stage();
    stage.sh("systemctl start dbus.socket").ok();
    stage
}

/// Runs a command as an arbitrary user.
pub(crate) fn as_user(command: &str) -> String {
    format!("setpriv --reuid=games --regid=games --clear-groups {command}")
}

/// Runs a command on a terminal.
fn on_terminal(stage: &Stage, command: &str) -> Ran {
    stage.sh(&format!("TERM=xterm script -qec '{command}' /dev/null </dev/null"))
}

fn json_of(ran: Ran) -> Value {
    serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("no JSON: {error}: {ran}"))
}

/// The error message of a verb, which must not be D-Bus's own text, and its exit code.
#[track_caller]
pub(crate) fn complaint(ran: &Ran) -> (Option<i32>, String) {
    let said = ran.stderr();
    assert!(said.starts_with("onecred: "), "{ran}");
    assert!(!said.contains("org.freedesktop") && !said.contains("org.onecred.Error"), "{said}");
    (ran.code(), said)
}

fn refresh_all(stage: &Stage) {
    stage.sh("onecred refresh || test $? = 1").ok();
}

fn status_is_one_screen(stage: &Stage) {
    refresh_all(stage);
    let ran = stage.sh("onecred status");
    assert_eq!(ran.code(), Some(1), "a secret fails: {ran}");
    let said = ran.stdout();
    for line in [
        "serves   yes\n",
        "sources  default: no trouble\n",
        "secrets  3: 2 fresh, 1 failing\n",
        "failing  nowhere: not found: no item \"nowhere\"",
    ] {
        assert!(said.contains(line), "{line:?}: {said}");
    }
    let version = stage.sh("onecred --version").ok().replace("onecred ", "onecred  ");
    assert!(said.starts_with(&version) && !said.contains("this program"), "{said}");
}

fn list_shows_each_secret_and_its_error(stage: &Stage) {
    refresh_all(stage);
    let said = stage.sh("onecred list").ok();
    let lines: Vec<&str> = said.lines().collect();
    let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["NAME", "STATE", "VERSION", "AGE", "SOURCE", "UNITS"], "{said}");
    assert_eq!(words(1)[..3], ["db-password", "fresh", "1"], "{said}");
    assert_eq!(words(1)[5..], ["default", "app.service,", "explained.service"], "{said}");
    assert!(lines[2].ends_with("app.service, web@*.service/user"), "{said}");
    assert_eq!(words(3)[..2], ["nowhere", "failing"], "{said}");
    assert_eq!(lines[4], "", "{said}");
    assert!(lines[5].starts_with("nowhere: not found: no item \"nowhere\""), "{said}");
    assert!(!said.contains('\x1b'), "colours in a pipe: {said:?}");
}

fn explain_gives_the_decision_and_its_reason(stage: &Stage) {
    let template = consumer("", &["user"]);
    stage
        .units([("explained.service", consumer("", &["db-password"]).as_str()), ("web@.service", &template)]);
    let said = stage.sh("onecred explain explained db-password").ok();
    assert!(said.starts_with("explained.service gets db-password\n"), "{said}");
    assert!(said.contains("op://Servers/postgres/password") && said.contains("secrets.json:"), "{said}");
    stage.sh("onecred explain web@7 user").ok();
    let ran = stage.sh("onecred explain stranger.service db-password");
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(
        ran.stdout().contains("stranger.service is refused db-password\nbecause  not allowed: "),
        "{ran}"
    );
    assert!(ran.stdout().contains("add \"stranger.service\" to the units of db-password"), "{ran}");
    let (code, said) = complaint(&stage.sh("onecred explain a/b db-password"));
    assert!(code == Some(1) && said.contains("is not a unit name"), "{said}");
}

fn get_writes_the_value_as_it_is(stage: &Stage) {
    assert_eq!(stage.sh("onecred get db-password").ok_bytes(), b"hunter2");
    assert_eq!(stage.sh("onecred get db-user").ok_bytes(), b"bob\n");
    assert_eq!(on_terminal(stage, "onecred get db-password").ok(), "hunter2\r\n");
    let (code, said) = complaint(&stage.sh("onecred get passwort"));
    assert!(
        code == Some(1) && said.contains("no secret is called \"passwort\"; see: onecred list"),
        "{said}"
    );
    for verb in ["get", "rollback", "release"] {
        let (_, said) = complaint(&stage.sh(&format!("onecred {verb} db-pasword")));
        assert!(said.contains("did you mean \"db-password\"?"), "{verb}: {said}");
    }
    let (_, said) = complaint(&stage.sh("onecred get nowhere"));
    assert!(
        said.starts_with("onecred: nowhere: op://Servers/nowhere/password: not found: no item"),
        "{said}"
    );
}

fn refresh_tells_what_came_of_each(stage: &Stage) {
    let said = stage.sh("onecred refresh --force db-password db-user").ok();
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.lines().all(|line| line.ends_with("  version 1")), "{said}");
    let ran = stage.sh("onecred refresh");
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(ran.stderr().is_empty() && ran.stdout().contains("db-password  unchanged  version 1\n"), "{ran}");
    assert!(ran.stdout().contains("nowhere      failed\n\nnowhere: not found: no item"), "{ran}");
    let ran = stage.sh("onecred refresh passwort");
    assert!(ran.code() == Some(1) && ran.stdout().contains("no secret is called \"passwort\""), "{ran}");
}

fn a_terminal_sees_colours_and_progress(stage: &Stage) {
    refresh_all(stage);
    let shown = on_terminal(stage, "onecred list").ok();
    assert!(shown.contains("\x1b[32mfresh\x1b[0m") && shown.contains("\x1b[31mfailing\x1b[0m"), "{shown:?}");
    let shown = on_terminal(stage, "NO_COLOR=1 onecred list").ok();
    assert!(shown.contains("failing") && !shown.contains('\x1b'), "{shown:?}");
    let shown = on_terminal(stage, "onecred refresh --force db-password").ok();
    assert!(
        shown.contains("refreshing: 0 of 1 secret, 0 s") && shown.contains("\r\x1b[Kdb-password"),
        "{shown:?}"
    );
}

fn what_is_shown_fits_80_columns(stage: &Stage) {
    refresh_all(stage);
    for verb in ["status", "list", "refresh", "check --live", "get nowhere", "--help"] {
        let ran = stage.sh(&format!("env -u COLUMNS onecred {verb} 2>&1 || test $? = 1"));
        let shown = ran.ok();
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{verb}: {shown}");
    }
    let shown = on_terminal(stage, "stty rows 24 cols 60; env -u COLUMNS onecred get nowhere").stdout();
    assert!(shown.lines().count() > 2 && shown.lines().all(|line| line.chars().count() <= 61), "{shown:?}");
}

fn a_user_is_told_what_is_missing(stage: &Stage) {
    let verbs =
        ["status", "list", "explain app db-password", "get db-password", "refresh", "reload", "check --live"];
    for verb in verbs.into_iter().chain(["release db-password", "put db-password"]) {
        let (code, said) = complaint(&stage.sh(&as_user(&format!("onecred {verb} </etc/hostname"))));
        assert_eq!(code, Some(3), "{verb}: {said}");
        assert!(said.contains("may not do this") && said.contains("run it as root"), "{verb}: {said}");
    }
}

fn programs_get_json(stage: &Stage) {
    refresh_all(stage);
    let status = json_of(stage.sh("onecred status --json"));
    assert_eq!(status["configurationError"], Value::Null, "{status}");
    let source = &status["sources"][0];
    assert_eq!((&source["name"], &source["error"]), (&json!("default"), &Value::Null), "{status}");
    assert_eq!((&source["kind"], &source["state"]), (&json!("connect"), &json!("ready")), "{status}");
    assert_eq!(status["secrets"][0]["state"], "fresh", "{status}");
    let list = json_of(stage.sh("onecred list --json"));
    assert_eq!(list[0]["reference"], "op://Servers/postgres/password", "{list}");
    assert_eq!(list[2]["error"]["name"], "org.onecred.Error.NotFound", "{list}");
    // the unit does not exist, and the configuration does not name it
    let explained = json_of(stage.sh("onecred explain app db-password --json"));
    assert_eq!((&explained["allowed"], &explained["secret"]), (&json!(true), &json!("db-password")));
    assert_eq!((&explained["gets"], &explained["outcome"]), (&json!(false), &json!("fails")), "{explained}");
    let refreshed = json_of(stage.sh("onecred refresh --json"));
    assert_eq!((&refreshed[0]["outcome"], &refreshed[2]["outcome"]), (&json!("unchanged"), &json!("failed")));
    let checked = json_of(stage.sh("onecred check --json"));
    assert_eq!((&checked["valid"], &checked["summary"]["secrets"]), (&json!(true), &json!(3)), "{checked}");
    let checked = stage.sh("echo { >/tmp/broken.json; onecred check --json /tmp/broken.json");
    assert_eq!(checked.code(), Some(1), "{checked}");
    assert_eq!(json_of(checked)["problems"][0]["severity"], "error");
    let live = json_of(stage.sh("onecred check --live --json"));
    assert_eq!(
        (live["secrets"].as_array().map(Vec::len), &live["problems"]),
        (Some(3), &json!([])),
        "{live}"
    );
}

fn a_wrong_command_line_is_2(stage: &Stage) {
    for line in ["", "get", "explain app", "add a op://v/i/f", "get --socket /x a", "nonsense"] {
        let ran = stage.sh(&format!("onecred {line}"));
        assert_eq!(ran.code(), Some(2), "{ran}");
    }
}

fn what_is_generated_can_be_used(stage: &Stage) {
    let layer = Layer::create("generated").unwrap_or_else(|error| panic!("{error}"));
    make("install", layer.path(), stage.suite).unwrap_or_else(|error| panic!("{error}"));
    let share = layer.path().join("usr/share");
    let sections = ["man/man1", "man/man5", "man/man8"];
    let pages: Vec<_> = sections
        .iter()
        .flat_map(|section| fs::read_dir(share.join(section)).expect("pages").flatten())
        .collect();
    assert!(pages.len() > 28, "{pages:?}");
    for page in pages {
        let shown = is_silent("man", &["--warnings", "-E", "UTF-8", "-l"], &page.path());
        let wide = shown.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{} does not fit 80 columns", page.path().display());
        is_silent("mandoc", &["-T", "lint", "-W", "error"], &page.path());
    }
    is_silent("bash", &["-n"], &share.join("bash-completion/completions/onecred"));
    is_silent("zsh", &["-n"], &share.join("zsh/site-functions/_onecred"));
    is_silent("fish", &["--no-execute"], &share.join("fish/vendor_completions.d/onecred.fish"));
}

fn names_are_completed(stage: &Stage) {
    let complete = |words: &str| stage.sh(&format!("onecred complete -- {words}")).ok();
    assert_eq!(complete("get db-"), "db-password\ndb-user\n");
    assert_eq!(complete("token check --source ''"), "default\n");
    let units = complete("explain onecred-resolver.");
    assert_eq!(units, "onecred-resolver.service\nonecred-resolver.socket\n");
    // a configuration that does not exist
    let absent = stage.sh("onecred complete -- remove --config /srv/absent ''");
    assert!(absent.succeeded() && absent.stdout().is_empty() && absent.stderr().is_empty(), "{absent}");
    let script = r#"
        . /usr/share/bash-completion/completions/onecred
        COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'; COMP_LINE='onecred explain app.service db-u'; COMP_POINT=${#COMP_LINE}
        _onecred; echo "${COMPREPLY[@]}""#;
    stage.write("/srv/complete.bash", script, 0o644);
    assert_eq!(stage.sh("bash /srv/complete.bash").ok(), "db-user\n");
}

/// A program on the host finds no problem in a file. Returns what it prints.
#[track_caller]
fn is_silent(program: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    command.args(arguments).arg(file).env("MANROFFSEQ", "").env("MANWIDTH", "80").stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {}: {said}", file.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
