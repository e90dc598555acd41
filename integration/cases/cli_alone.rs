//! Tests of the verbs that change something, or that need something to be wrong.
use crate::cli::{as_user, complaint, stage};
use onecred_integration::{cases, machine::wait_until, stage::Stage, theme::Theme};

pub const THEME: Theme = Theme {
    name: "cli_alone",
    stage,
    shared: false,
    cases: cases![
        a_value_is_put_and_released,
        the_version_before_comes_back,
        a_server_that_was_set_back_for_good_is_taken_at_its_word,
        a_reload_with_errors_says_so,
        check_live_right_after_the_installation,
        check_live_tells_each_problem_with_its_remedy,
        status_knows_what_a_token_check_found,
        who_asks_in_the_wrong_form_is_told,
        a_unit_gets_what_was_added_until_it_is_removed,
        what_cannot_be_added_is_a_line_for_nixos,
        without_a_bus_or_a_service_it_says_so,
    ],
};

fn a_value_is_put_and_released(stage: &Stage) {
    let get = || stage.sh("onecred get db-password").ok_bytes();
    let put = stage.sh("printf %s 'broken glass' | onecred put db-password");
    assert!(put.succeeded() && put.stderr().is_empty(), "{put}");
    assert!(put.stdout().contains("until: onecred release db-password"), "{put}");
    assert_eq!(get(), b"broken glass");
    stage.gets("app.service", "", &[("db-password", b"broken glass")]);
    let status = stage.sh("onecred status").stdout();
    assert!(
        status.contains("held     db-password (put); to remove the override: onecred release db-password\n"),
        "{status}"
    );
    assert!(stage.sh("onecred list").ok().contains("held (put)"));
    let said = stage.sh("echo glass | onecred put db-password").stderr();
    assert!(said.contains("warning: the value ends with a newline"), "{said}");
    // typed: not shown, and the value does not include the line break; what arrives while echo is still on is
    // discarded
    let quiet = "until stty -F /dev/pts/0 -a 2>/dev/null | grep -q -- ' -echo '; do sleep 0.02; done";
    let typed =
        stage.sh(&format!("({quiet}; printf 'typed\\r') | script -qec 'onecred put db-password' /dev/null"));
    assert!(typed.stdout().contains("New value of db-password, not shown: "), "{typed}");
    assert!(!typed.stdout().contains("typed"), "{typed}");
    assert_eq!(get(), b"typed");
    let (code, said) = complaint(&stage.sh("onecred put db-password </dev/null"));
    assert!(code == Some(1) && said.contains("the value is empty"), "{said}");
    stage.sh("onecred release db-password").ok();
    assert_eq!(get(), b"hunter2");
    let (code, said) = complaint(&stage.sh("onecred release db-password"));
    assert!(code == Some(1) && said.contains("db-password has no override"), "{said}");
}

fn the_version_before_comes_back(stage: &Stage) {
    assert_eq!(stage.sh("onecred get db-password").ok(), "hunter2");
    let (code, said) = complaint(&stage.sh("onecred rollback db-password"));
    assert!(code == Some(1) && said.contains("no previous value"), "{said}");
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

fn a_server_that_was_set_back_for_good_is_taken_at_its_word(stage: &Stage) {
    let before = stage.connect().document().unwrap_or_else(|error| panic!("{error}"));
    stage.connect().set("Servers", "postgres", "password", "lost").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(stage.sh("onecred get db-password").ok(), "lost");
    stage.connect().load(&before).unwrap_or_else(|error| panic!("{error}"));
    let ran = stage.sh("onecred refresh db-password");
    assert!(ran.code() == Some(1) && ran.stdout().contains("returned version 1 of"), "{ran}");
    assert_eq!(stage.sh("onecred get db-password").ok(), "lost");
    // as in docs/operations.md
    let text = include_str!("../../docs/operations.md");
    for command in
        ["systemctl stop onecred.service run-onecred-store.mount", "systemctl restart onecred-resolver"]
    {
        assert!(text.contains(command), "{command}");
        stage.sh(command).ok();
    }
    assert_eq!(stage.sh("onecred get db-password").ok(), "hunter2");
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
    assert!(said.contains("the configuration has errors; the configuration of "), "{said}");
    assert!(said.contains(" stays active: /etc/onecred/secrets.json:"), "{said}");
    assert!(said.contains("onecred check"), "{said}");
    stage.write("/etc/onecred/secrets.json", before.replace("\"nowhere\"", "\"renamed\""), 0o644);
    assert_eq!(stage.sh("onecred reload").ok(), "the configuration was loaded\n");
    assert!(stage.sh("onecred list").ok().contains("renamed"));
}

fn check_live_right_after_the_installation(stage: &Stage) {
    // nothing was ever requested: D-Bus activates the provider, which activates the resolver
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
    assert!(ran.code() == Some(1) && ran.stdout().contains("active configuration differs"), "{ran}");
    stage.sh("onecred reload").ok();
    let ran = stage.sh("onecred check --live");
    assert!(ran.succeeded(), "{ran}");
    assert_eq!(ran.stdout(), "3 secrets, 1 source: valid\n3 secrets found in 1Password\n");
}

fn check_live_tells_each_problem_with_its_remedy(stage: &Stage) {
    stage.sh("onecred check --live || test $? = 1").ok();
    stage.connect_goes();
    let ran = stage.sh("onecred check --live");
    assert_eq!(ran.code(), Some(1), "{ran}");
    // reported once for all three
    assert!(ran.stdout().contains("3 secrets: away: "), "{ran}");
    assert!(ran.stdout().contains("\n    db-password, db-user, nowhere\n"), "{ran}");
    assert!(ran.stdout().contains("0 of 3 secrets found in 1Password\n"), "{ran}");
    let said = stage.sh("onecred status").stdout();
    assert!(said.contains("sources  default: away: "), "{said}");
    stage.sh("rm /etc/onecred/token && systemctl restart onecred-resolver").ok();
    let ran = stage.sh("onecred check --live");
    assert!(ran.stdout().contains("no token: ") && ran.stdout().contains("onecred token set"), "{ran}");
}

fn status_knows_what_a_token_check_found(stage: &Stage) {
    stage.sh("onecred token check").ok();
    assert!(stage.sh("onecred status").stdout().contains("sources  default: no trouble"));
    stage.connect_goes();
    stage.sh("onecred token check").fails();
    // an answer about the sources is valid for two seconds
    wait_until("status says so", || stage.sh("onecred status").stdout().contains("sources  default: away: "));
    assert_eq!(stage.sh("onecred status").code(), Some(1));
}

fn who_asks_in_the_wrong_form_is_told(stage: &Stage) {
    let unit = |line: &str| format!("[Service]\nType=oneshot\nExecStart=true\n{line}\n");
    let explained = || stage.sh("onecred explain app db-password || true").ok();
    assert!(explained().contains("this machine has no unit app.service"), "{}", explained());
    stage.units([("app.service", unit("LoadCredential=other:/etc/hostname").as_str())]);
    assert!(explained().contains("no LoadCredential= line for it is loaded in"), "{}", explained());

    let right = "LoadCredential=db-password:/run/onecred/credential.sock";
    let sealed = "LoadCredentialEncrypted=db-password:/run/onecred/sealed.sock";
    stage.units([("app.service", unit(right).as_str())]);
    assert!(explained().starts_with("app.service gets db-password\n"), "{}", explained());
    assert!(explained().contains(&format!("\nasks       {right}\n")), "{}", explained());
    for (line, what) in [
        ("LoadCredential=db-password:/run/onecred/sealed.sock", "answers with encrypted values"),
        (
            "LoadCredentialEncrypted=db-password:/run/onecred/credential.sock",
            "answers with values that are not encrypted",
        ),
    ] {
        stage.units([("app.service", unit(line).as_str())]);
        let said = explained();
        assert!(!said.contains(" gets db-password\n"), "{said}");
        assert!(said.contains(what) && said.contains(sealed), "{said}");
        let json = stage.sh("onecred explain app db-password --json");
        assert_eq!(json.code(), Some(1), "{json}");
        let json = json.stdout();
        assert!(json.contains(&format!("\"asks\": \"{line}\"")), "{json}");
        let live = stage.sh("onecred check --live");
        assert_eq!(live.code(), Some(1), "{live}");
        assert!(live.stdout().contains(&format!("app.service: {line}: ")), "{live}");
    }
    stage.units([("app.service", unit(sealed).as_str())]);
    assert!(explained().contains(&format!("\nasks       {sealed}\n")), "{}", explained());
    let live = stage.sh("onecred check --live").stdout();
    assert!(!live.contains("app.service"), "{live}");
}

fn a_unit_gets_what_was_added_until_it_is_removed(stage: &Stage) {
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
    // run the commands that it prints, and nothing else
    let run: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(run.len(), 3, "this machine got its host key at boot: {said}");
    stage.sh(&run.join("\n")).ok();
    stage.got("adder.service", &[("key", b"sk-canary")]);
    assert!(stage.sh(add).ok().starts_with("everything exists already\n"));
    let (code, said) =
        complaint(&stage.sh("onecred add api-key op://Servers/postgres/password --unit adder"));
    assert!(code == Some(1) && said.contains("is declared already"), "{said}");
    let (_, said) =
        complaint(&stage.sh(&as_user("onecred add other op://Servers/postgres/password --unit app")));
    assert!(said.contains("run it as root"), "{said}");
    let near = stage.sh("onecred add other op://Servers/postgres/password --unit addre --dry-run");
    assert!(
        near.stderr().contains("addre.service does not exist on this host; did you mean adder"),
        "{near}"
    );
    // and remove it again
    let (code, said) = complaint(&stage.sh(&as_user("onecred remove api-key")));
    assert!(code == Some(1) && said.contains("run it as root"), "{said}");
    let said = stage.sh("onecred remove api-key").ok();
    let run: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(run, ["systemctl daemon-reload", "onecred reload"], "{said}");
    stage.sh(&run.join("\n")).ok();
    // systemctl show does not print this property
    assert!(!stage.sh("systemctl cat adder.service").ok().contains("LoadCredential"));
    stage
        .sh("! test -e /etc/systemd/system/adder.service.d && ! test -e /etc/onecred/secrets.d/api-key.json")
        .ok();
    assert!(!stage.sh("onecred list").ok().contains("api-key"));
    let (code, said) = complaint(&stage.sh("onecred remove api-key"));
    assert!(code == Some(1) && said.contains("nothing to remove: no secret is called \"api-key\""), "{said}");
    let (code, said) = complaint(&stage.sh("onecred remove db-password"));
    assert!(code == Some(1) && said.contains("is declared in /etc/onecred/secrets.json:"), "{said}");
}

fn what_cannot_be_added_is_a_line_for_nixos(stage: &Stage) {
    stage.sh("mount --bind /etc/systemd/system /etc/systemd/system").ok();
    stage.sh("mount -o remount,bind,ro /etc/systemd/system").ok();
    let (code, said) =
        complaint(&stage.sh("onecred add api-key op://Servers/openai/credential --unit adder --id key"));
    assert_eq!(code, Some(1));
    assert!(said.contains("nothing was written: /etc/systemd/system is on a file system"), "{said}");
    let line = "systemd.services.adder.onecred.credentials.key = \"op://Servers/openai/credential\";\n";
    assert!(said.ends_with(line), "{said}");
    stage.sh("! test -e /etc/onecred/secrets.d/api-key.json").ok();
    let (code, said) = complaint(&stage.sh("onecred token set </dev/null"));
    assert_eq!(code, Some(1));
    assert!(
        said.contains("onecred token set --file") && said.contains("services.onecred.tokenCredential"),
        "{said}"
    );
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
