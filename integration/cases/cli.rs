//! The verbs on a booted machine: what each shows, writes and says when it can't, to people and to programs.
use onecred_integration::{
    cases,
    fake_connect::vault,
    installed::{make, repository},
    machine::{Layer, Ran, Suite, wait_until},
    setup::{Setup, field},
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// What only looks.
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
        a_user_is_told_what_is_missing,
        programs_get_json,
        a_wrong_command_line_is_2,
        what_is_generated_can_be_used,
    ],
};

/// What needs a machine of its own.
pub const ALONE: Theme = Theme {
    name: "cli_alone",
    stage,
    shared: false,
    cases: cases![
        a_value_is_put_and_released,
        the_version_before_comes_back,
        a_reload_with_errors_says_so,
        check_live_right_after_the_installation,
        check_live_tells_each_problem_with_its_remedy,
        a_unit_gets_what_was_added,
        without_a_bus_or_a_service_it_says_so,
        the_commands_of_the_readme_run,
        the_commands_of_the_bus_s_documentation_run,
    ],
};

fn stage(suite: Suite) -> Stage {
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
        .secret("db-password", "op://Servers/postgres/password", &["app"])
        .secret("db-user", "op://Servers/postgres/username", &["app", "web@*/user"])
        .secret("nowhere", "op://Servers/nowhere/password", &["app"])
        .stage();
    stage.sh("systemctl start dbus.socket").ok();
    stage
}

/// Runs it as a user that is nobody in particular.
fn as_user(command: &str) -> String {
    format!("setpriv --reuid=games --regid=games --clear-groups {command}")
}

/// Runs it on a terminal.
fn on_terminal(stage: &Stage, command: &str) -> Ran {
    stage.sh(&format!("TERM=xterm script -qec '{command}' /dev/null </dev/null"))
}

fn json_of(ran: Ran) -> Value {
    serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("no JSON: {error}: {ran}"))
}

/// What a verb complained of, which is never the bus's own wording, and its exit code.
#[track_caller]
fn complaint(ran: &Ran) -> (Option<i32>, String) {
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
    let said = stage.sh("onecred status").ok();
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
    assert_eq!(words(1)[5..], ["default", "app.service"], "{said}");
    assert!(lines[2].ends_with("app.service, web@*.service/user"), "{said}");
    assert_eq!(words(3)[..2], ["nowhere", "failing"], "{said}");
    assert!(lines[4].starts_with("    not found: no item \"nowhere\""), "{said}");
    assert!(!said.contains('\x1b'), "colours in a pipe: {said:?}");
}

fn explain_gives_the_decision_and_its_reason(stage: &Stage) {
    let said = stage.sh("onecred explain app db-password").ok();
    assert!(said.starts_with("app.service gets db-password\n"), "{said}");
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
    assert!(ran.stdout().contains("nowhere      failed     not found: no item \"nowhere\""), "{ran}");
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
    assert_eq!(status["sources"], json!([{ "name": "default", "error": null }]), "{status}");
    assert_eq!(status["secrets"][0]["state"], "fresh", "{status}");
    let list = json_of(stage.sh("onecred list --json"));
    assert_eq!(list[0]["reference"], "op://Servers/postgres/password", "{list}");
    assert_eq!(list[2]["error"]["name"], "org.onecred.Error.NotFound", "{list}");
    let explained = json_of(stage.sh("onecred explain app db-password --json"));
    assert_eq!((&explained["allowed"], &explained["secret"]), (&json!(true), &json!("db-password")));
    let refreshed = json_of(stage.sh("onecred refresh --json"));
    assert_eq!((&refreshed[0]["outcome"], &refreshed[2]["outcome"]), (&json!("unchanged"), &json!("failed")));
    let live = json_of(stage.sh("onecred check --live --json"));
    assert_eq!(
        (live["secrets"].as_array().map(Vec::len), &live["problems"]),
        (Some(3), &json!([])),
        "{live}"
    );
}

fn a_wrong_command_line_is_2(stage: &Stage) {
    for line in
        ["", "get", "explain app", "add a op://v/i/f", "check --json", "get --socket /x a", "nonsense"]
    {
        let ran = stage.sh(&format!("onecred {line}"));
        assert_eq!(ran.code(), Some(2), "{ran}");
    }
}

fn what_is_generated_can_be_used(stage: &Stage) {
    let layer = Layer::create("generated").unwrap_or_else(|error| panic!("{error}"));
    make("install", layer.path(), stage.suite).unwrap_or_else(|error| panic!("{error}"));
    let share = layer.path().join("usr/share");
    let pages: Vec<_> = fs::read_dir(share.join("man/man1")).expect("pages").flatten().collect();
    assert!(pages.len() > 12, "{pages:?}");
    for page in pages {
        is_silent("man", &["--warnings", "-E", "UTF-8", "-l"], &page.path());
        is_silent("mandoc", &["-T", "lint", "-W", "error"], &page.path());
    }
    is_silent("bash", &["-n"], &share.join("bash-completion/completions/onecred"));
    is_silent("zsh", &["-n"], &share.join("zsh/site-functions/_onecred"));
    is_silent("fish", &["--no-execute"], &share.join("fish/vendor_completions.d/onecred.fish"));
}

/// A program of the machine that runs the tests finds nothing wrong with a file.
#[track_caller]
fn is_silent(program: &str, arguments: &[&str], file: &Path) {
    let mut command = Command::new(program);
    command.args(arguments).arg(file).env("MANROFFSEQ", "").env("MANWIDTH", "80").stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {}: {said}", file.display());
}

fn a_value_is_put_and_released(stage: &Stage) {
    let get = || stage.sh("onecred get db-password").ok_bytes();
    let put = stage.sh("printf %s 'broken glass' | onecred put db-password");
    assert!(put.succeeded() && put.stderr().is_empty(), "{put}");
    assert!(put.stdout().contains("until: onecred release db-password"), "{put}");
    assert_eq!(get(), b"broken glass");
    stage.gets("app.service", "", &[("db-password", b"broken glass")]);
    let status = stage.sh("onecred status").ok();
    assert!(
        status.contains("held     db-password (put); end that by: onecred release db-password\n"),
        "{status}"
    );
    assert!(stage.sh("onecred list").ok().contains("held (put)"));
    let said = stage.sh("echo glass | onecred put db-password").stderr();
    assert!(said.contains("warning: the value ends with a newline"), "{said}");
    // typed: not shown, and the line's end is no part of it; what comes while the echo is still on is forgotten
    let quiet = "until stty -F /dev/pts/0 -a 2>/dev/null | grep -q -- ' -echo '; do sleep 0.02; done";
    let typed =
        stage.sh(&format!("({quiet}; printf 'typed\\r') | script -qec 'onecred put db-password' /dev/null"));
    assert!(typed.stdout().contains("Value to stand in for db-password, not shown: "), "{typed}");
    assert!(!typed.stdout().contains("typed"), "{typed}");
    assert_eq!(get(), b"typed");
    let (code, said) = complaint(&stage.sh("onecred put db-password </dev/null"));
    assert!(code == Some(1) && said.contains("the value is empty"), "{said}");
    stage.sh("onecred release db-password").ok();
    assert_eq!(get(), b"hunter2");
    let (code, said) = complaint(&stage.sh("onecred release db-password"));
    assert!(code == Some(1) && said.contains("nothing stands in for db-password"), "{said}");
}

fn the_version_before_comes_back(stage: &Stage) {
    assert_eq!(stage.sh("onecred get db-password").ok(), "hunter2");
    let (code, said) = complaint(&stage.sh("onecred rollback db-password"));
    assert!(code == Some(1) && said.contains("there is no version before"), "{said}");
    stage
        .connect()
        .set("Servers", "postgres", "password", "broken")
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(stage.sh("onecred refresh db-password").ok().starts_with("db-password  changed  version 2"));
    assert_eq!(stage.sh("onecred get db-password").ok(), "broken");
    let said = stage.sh("onecred rollback db-password").ok();
    assert!(said.contains("get version 1, until: onecred release db-password"), "{said}");
    assert_eq!(stage.sh("onecred get db-password").ok(), "hunter2");
    assert!(stage.sh("onecred list").ok().contains("held (rollback)"));
    stage.sh("onecred release db-password").ok();
    assert_eq!(stage.sh("onecred get db-password").ok(), "broken");
}

fn config(stage: &Stage) -> String {
    String::from_utf8(stage.read("/etc/onecred/secrets.json")).unwrap_or_default()
}

fn a_reload_with_errors_says_so(stage: &Stage) {
    stage.sh("onecred get db-password").ok();
    let before = config(stage);
    stage.write("/etc/onecred/secrets.json", before.replace("\"units\"", "\"unit\""), 0o644);
    let (code, said) = complaint(&stage.sh("onecred reload"));
    assert_eq!(code, Some(1));
    assert!(said.contains("the one before stays in force: /etc/onecred/secrets.json:"), "{said}");
    assert!(said.contains("onecred check"), "{said}");
    stage.write("/etc/onecred/secrets.json", before.replace("\"nowhere\"", "\"renamed\""), 0o644);
    assert_eq!(stage.sh("onecred reload").ok(), "the configuration was read anew\n");
    assert!(stage.sh("onecred list").ok().contains("renamed"));
    // one that is broken from the start serves nothing
    stage.write("/etc/onecred/secrets.json", "{", 0o644);
    stage.sh("systemctl restart onecred").ok();
    let status = stage.sh("onecred status");
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(status.stdout().contains("serves   nothing: /etc/onecred/secrets.json:1:"), "{status}");
}

fn check_live_right_after_the_installation(stage: &Stage) {
    // nothing was ever asked for: the bus starts the provider, and that the resolver
    stage.sh("! systemctl is-active -q onecred-resolver.service").ok();
    stage.write("/etc/onecred/secrets.json", config(stage).replace("/nowhere/", "/openai/"), 0o644);
    let ran = stage.sh("onecred check --live");
    assert_eq!(ran.code(), Some(1), "{ran}");
    assert!(ran.stdout().contains("nowhere: not found: no field \"password\""), "{ran}");
    stage.write(
        "/etc/onecred/secrets.json",
        config(stage).replace("/openai/password", "/openai/credential"),
        0o644,
    );
    let ran = stage.sh("onecred check --live");
    assert!(ran.code() == Some(1) && ran.stdout().contains("another configuration in force"), "{ran}");
    stage.sh("onecred reload").ok();
    let ran = stage.sh("onecred check --live");
    assert!(ran.succeeded(), "{ran}");
    assert_eq!(ran.stdout(), "3 secrets, 1 source: fine\n3 secrets found in 1Password\n");
}

fn check_live_tells_each_problem_with_its_remedy(stage: &Stage) {
    stage.sh("onecred check --live || test $? = 1").ok();
    stage.connect_goes();
    let ran = stage.sh("onecred check --live");
    assert_eq!(ran.code(), Some(1), "{ran}");
    // once, for all that have it
    assert!(ran.stdout().contains("db-password, db-user, nowhere: away: "), "{ran}");
    assert!(ran.stdout().contains("0 of 3 secrets found in 1Password\n"), "{ran}");
    let said = stage.sh("onecred status").ok();
    assert!(said.contains("sources  default: away: "), "{said}");
    stage.sh("rm /etc/onecred/token && systemctl restart onecred-resolver").ok();
    let ran = stage.sh("onecred check --live");
    assert!(ran.stdout().contains("no token: ") && ran.stdout().contains("onecred token set"), "{ran}");
}

fn a_unit_gets_what_was_added(stage: &Stage) {
    let add = "onecred add api-key op://Servers/openai/credential --unit adder --id key";
    let shown = stage.sh(&format!("{add} --dry-run")).ok();
    assert!(shown.contains("would write /etc/onecred/secrets.d/api-key.json:\n"), "{shown}");
    stage.sh("! test -e /etc/onecred/secrets.d/api-key.json").ok();
    let said = stage.sh(add).ok();
    assert!(
        said.contains("written: /etc/systemd/system/adder.service.d/50-onecred-api-key.conf\n"),
        "{said}"
    );
    let unit = "[Service]\nType=oneshot\nExecStart=/usr/local/libexec/onecred-tests/take %n\n";
    stage.units([("adder.service", unit)]);
    // what it says to run, and nothing else
    let run: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(run.len(), 3, "{said}");
    stage.sh(&run.join("\n")).ok();
    stage.got("adder.service", &[("key", b"sk-canary")]);
    assert!(stage.sh(add).ok().starts_with("all of it is there already\n"));
    let (code, said) =
        complaint(&stage.sh("onecred add api-key op://Servers/postgres/password --unit adder"));
    assert!(code == Some(1) && said.contains("is declared already"), "{said}");
    let (_, said) =
        complaint(&stage.sh(&as_user("onecred add other op://Servers/postgres/password --unit app")));
    assert!(said.contains("run it as root"), "{said}");
}

fn without_a_bus_or_a_service_it_says_so(stage: &Stage) {
    stage.sh("onecred list").ok();
    stage.sh("systemctl stop onecred.service && rm /usr/share/dbus-1/system-services/org.onecred.*").ok();
    stage.sh("busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig").ok();
    let (code, said) = complaint(&stage.sh("onecred list"));
    assert_eq!(code, Some(1));
    assert!(said.contains("not on the system bus") && said.contains("systemctl status onecred"), "{said}");
    stage.sh("systemctl stop dbus.socket dbus.service").ok();
    let (code, said) = complaint(&stage.sh("onecred list"));
    assert_eq!(code, Some(1));
    assert!(said.contains("system bus can't be reached") && said.contains("dbus.socket"), "{said}");
}

/// The commands in the blocks for shells of a part of a document.
fn commands(document: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join(document)).expect("the document");
    let part = text.split_once(heading).unwrap_or_else(|| panic!("{document} has no {heading:?}")).1;
    let part = if heading.starts_with("## ") { part.split("\n## ").next().unwrap_or(part) } else { part };
    let blocks = part.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest));
    let text: String = blocks.map(|block| block.replace("\\\n", " ")).collect();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.replace("sudo ", "")).collect()
}

fn the_commands_of_the_readme_run(stage: &Stage) {
    // all that is configured is there
    stage.write("/etc/onecred/secrets.json", config(stage).replace("/nowhere/", "/postgres/"), 0o644);
    let commands = commands("README.md", "## Day to day");
    assert!(commands.len() >= 10, "{commands:?}");
    stage.write("/root/value.txt", "broken glass", 0o600);
    for command in commands {
        let ran = stage.sh(&format!("cd /root; {command}"));
        assert!(ran.succeeded(), "{ran}");
    }
}

fn the_commands_of_the_bus_s_documentation_run(stage: &Stage) {
    stage.write("/etc/onecred/secrets.json", config(stage).replace("/nowhere/", "/postgres/"), 0o644);
    stage.sh("systemctl start onecred.service").ok();
    wait_until("the provider is on the bus", || stage.sh("onecred status").succeeded());
    stage.write("/root/value.txt", "broken glass", 0o600);
    let commands = commands("docs/dbus.md", "# ");
    for command in &commands {
        let ran = stage.sh(&format!("cd /root; {command}"));
        // what watches is ended by its time
        assert!(ran.succeeded() || command.starts_with("timeout ") && ran.code() == Some(124), "{ran}");
    }
    // and every member of the interface has one
    let interface = fs::read_to_string(repository().join("integration/fixtures/introspection.xml"));
    let interface = interface.expect("the snapshot of the interface");
    let document = fs::read_to_string(repository().join("docs/dbus.md")).expect("the document");
    for kind in ["method", "property", "signal"] {
        for member in interface.split(&format!("<{kind} name=\"")).skip(1) {
            let name = member.split('"').next().unwrap_or_default();
            assert!(document.contains(&format!("`{name}")), "docs/dbus.md does not name {kind} {name}");
        }
    }
    let called = |name: &str| commands.iter().any(|command| command.contains(name));
    for member in interface.split("<method name=\"").skip(1) {
        let name = member.split('"').next().unwrap_or_default();
        assert!(
            called(name) || called(&format!("onecred {}", name.to_lowercase())),
            "no command calls {name}"
        );
    }
}
