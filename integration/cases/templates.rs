//! Tests of templates: they are filled in completely, and systemd's own parser of environment files reads
//! each byte back.
use onecred_integration::{
    cases,
    fake_connect::vault::long_value,
    machine::Suite,
    setup::{Setup, field, fixture_with},
    stage::{Stage, consumer},
    theme::Theme,
};
use serde_json::json;

pub const THEME: Theme = Theme {
    name: "templates",
    stage,
    shared: true,
    cases: cases![
        a_template_is_a_credential,
        systemd_reads_nasty_values_from_an_environment_file,
        a_json_file_holds_them_too,
        a_missing_part_refuses_the_whole,
        list_shows_what_it_is_made_of,
        one_that_is_too_large_is_never_fine,
        a_value_that_no_environment_holds_is_refused,
        another_unit_does_not_get_it,
        a_program_gets_its_environment_from_credentials,
        a_notify_service_stays_the_main_process,
        a_program_is_not_run_without_its_credential,
    ],
};

/// Values with special characters for parsers of environment files, shells and JSON.
const NASTY: [&str; 16] = [
    "plain",
    " leading and trailing \t ",
    "two\nlines\n",
    "\n\nA=injected\nEVIL=1",
    "it's \"quoted\" 'twice'",
    "back\\slash \\n \\\\ \\",
    "$HOME ${PATH} $(id) `id` $$",
    "# no comment ; none either",
    "carriage\r\nreturn\r",
    "\u{1b}[31m\u{7}\u{7f}\u{b}\u{c}",
    "ünïcödé \u{1f511} \u{feff}\u{2028}",
    "\"",
    "'",
    "\\",
    "{{db-password}} %n %% *?[a]",
    "=a=b=",
];

fn stage(suite: Suite) -> Stage {
    let named = |at: usize| format!("n{at}");
    let fields = NASTY.iter().enumerate().map(|(at, value)| field(&named(at), value));
    let vault = fixture_with([
        ("nasty", fields.collect()),
        ("unfit", vec![field("nul", "a\0b"), field("fine", "fine")]),
        ("large", vec![field("half", &long_value(600_000))]),
    ]);
    let reference = |at: usize| format!("{{{{op://My Vault/nasty/n{at}}}}}");
    let env: String = (0..NASTY.len())
        .map(|at| {
            let value = reference(at);
            format!("V{at}={value}\nM{at}=a b {value} {value}# \nQ{at}='s'\"d{value}\"\n")
        })
        .collect();
    let json: Vec<_> = (0..NASTY.len()).map(|at| format!("[{0}, \"<{0}>\"]", reference(at))).collect();
    let template = |name: &str, content: &str, units: &[&str]| json!({ "name": name, "content": content, "units": units });
    Setup::vault(suite)
        .holding(vault)
        .secret("db-password", "op://My Vault/db/password", &["env-*"])
        .template(&template(
            "app.env",
            "A={{db-password}}\nB=x{{ op://My Vault/db/password }}\n",
            &["tpl-app"],
        ))
        .template(&template("nasty.env", &env, &["tpl-nasty"]))
        .template(&template("nasty.json", &format!("[{}]", json.join(",\n")), &["tpl-json"]))
        .template(&template("half.env", "A={{db-password}}\nB={{op://My Vault/db/nothing}}\n", &["tpl-half"]))
        .template(&template(
            "unfit.env",
            "A={{op://My Vault/unfit/fine}}\nB={{op://My Vault/unfit/nul}}\n",
            &["tpl-unfit"],
        ))
        .template(&template(
            "whole",
            "{{op://My Vault/large/half}}{{op://My Vault/large/half}}",
            &["tpl-large"],
        ))
        .stage()
}

fn a_template_is_a_credential(stage: &Stage) {
    stage.gets("tpl-app.service", "", &[("app.env", b"A=hunter2\nB=xhunter2\n")]);
}

fn systemd_reads_nasty_values_from_an_environment_file(stage: &Stage) {
    stage.units([("tpl-nasty.service", consumer("", &["nasty.env"]).as_str())]);
    stage.run(&["systemctl", "start", "tpl-nasty"]).ok();
    stage.settled("tpl-nasty.service");
    let file = stage.taken("tpl-nasty.service", "nasty.env").expect("the file");
    stage.write("/run/nasty.env", &file, 0o400);
    let run = [
        "systemd-run",
        "-q",
        "--wait",
        "--pipe",
        "-p",
        "EnvironmentFile=/run/nasty.env",
        "cat",
        "/proc/self/environ",
    ];
    let environment = stage.run(&run).ok_bytes();
    let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    for (at, value) in NASTY.iter().enumerate() {
        for expected in
            [format!("V{at}={value}"), format!("M{at}=a b {value} {value}#"), format!("Q{at}=sd{value}")]
        {
            let key = expected.split_once('=').expect("a variable").0.as_bytes();
            let found = variables.iter().filter(|v| v.starts_with(key) && v.get(key.len()) == Some(&b'='));
            let found: Vec<_> = found.map(|v| String::from_utf8_lossy(v)).collect();
            assert_eq!(found, [expected.as_str()]);
        }
    }
    assert!(!variables.iter().any(|v| v.starts_with(b"EVIL=") || *v == b"A=injected"), "{variables:?}");
}

fn a_json_file_holds_them_too(stage: &Stage) {
    stage.units([("tpl-json.service", consumer("", &["nasty.json"]).as_str())]);
    stage.run(&["systemctl", "start", "tpl-json"]).ok();
    stage.settled("tpl-json.service");
    let file = stage.taken("tpl-json.service", "nasty.json").expect("the file");
    let read: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
    let expected: Vec<_> = NASTY.iter().map(|value| json!([value, format!("<{value}>")])).collect();
    assert_eq!(read, json!(expected));
}

fn list_shows_what_it_is_made_of(stage: &Stage) {
    let listed: Vec<serde_json::Value> =
        serde_json::from_str(&stage.sh("systemctl start dbus.socket; onecred list --json").ok())
            .expect("JSON");
    let templates: Vec<_> = listed.iter().filter(|one| one["type"] == "template").collect();
    assert!(
        templates
            .iter()
            .any(|one| one["references"][0] == "op://My Vault/nasty/n0" && one["state"].is_string()),
        "{listed:?}"
    );
    assert!(stage.sh("onecred list").ok().contains("\nTEMPLATE "));
}

fn one_that_is_too_large_is_never_fine(stage: &Stage) {
    stage.sh("systemctl start dbus.socket").ok();
    stage.units([("tpl-large.service", consumer("", &["whole"]).as_str())]);
    let refreshed = stage.sh("onecred refresh whole --json");
    let said: serde_json::Value = serde_json::from_str(&refreshed.stdout()).expect("JSON");
    let too_large = "org.onecred.Error.TooLarge";
    assert_eq!((refreshed.code(), &said[0]["error"]["name"]), (Some(1), &json!(too_large)), "{refreshed}");
    let all: serde_json::Value = serde_json::from_str(&stage.sh("onecred list --json").ok()).expect("JSON");
    let all = all.as_array().cloned().unwrap_or_default();
    let named = |name: &str| all.iter().find(|one| one["name"] == name).cloned().unwrap_or_default();
    let whole = named("whole");
    assert_eq!((&whole["state"], &whole["error"]["name"]), (&json!("failing"), &json!(too_large)), "{whole}");
    let list = stage.sh("COLUMNS=200 onecred list").ok();
    assert!(list.contains("whole: the whole: too large: the value has 1200000 bytes"), "{list}");
    let said = stage.sh("onecred explain tpl-large whole --json");
    assert!(said.code() == Some(1) && said.stdout().contains(too_large), "{said}");
    stage.run(&["systemctl", "start", "tpl-large"]).fails();

    let live = stage.sh("onecred check --live --json");
    let said: serde_json::Value = serde_json::from_str(&live.stdout()).expect("JSON");
    let error = |name: &str| {
        let all = said["templates"].as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|one| one["name"] == name).cloned().unwrap_or_default();
        one["error"]["name"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(live.code(), Some(1), "{live}");
    for (name, expected) in [
        ("app.env", ""),
        ("nasty.env", ""),
        ("whole", too_large),
        ("half.env", "org.onecred.Error.NotFound"),
        ("unfit.env", "org.onecred.Error.Failed"),
    ] {
        assert_eq!(error(name), expected, "{name}: {said:#}");
    }
}

fn a_missing_part_refuses_the_whole(stage: &Stage) {
    let words = ["template half.env can't be filled in", "op://My Vault/db/nothing", "not found"];
    stage.refuses("tpl-half.service", "", "half.env", &words);
}

fn a_value_that_no_environment_holds_is_refused(stage: &Stage) {
    let words = ["template unfit.env can't be filled in", "op://My Vault/unfit/nul", "NUL"];
    stage.refuses("tpl-unfit.service", "", "unfit.env", &words);
}

fn another_unit_does_not_get_it(stage: &Stage) {
    let words = [
        "template app.env",
        "does not name tpl-other.service",
        "add \"tpl-other.service\" to the units of app.env",
    ];
    stage.refuses("tpl-other.service", "", "app.env", &words);
}

fn run_unit(lines: &str, exec: &str) -> String {
    format!(
        "[Service]\nReadWritePaths=/srv/out\nLoadCredential=db-password:/run/onecred/credential.sock\n{lines}\nExecStart={exec}\n"
    )
}

fn a_program_gets_its_environment_from_credentials(stage: &Stage) {
    let exec = "/usr/bin/onecred run --env PW=db-password --all --prefix X_ -- sh -c 'printf \"%%s\" \"$PW\" >/srv/out/env.pw; cat /proc/$$$$/cmdline >/srv/out/env.cmd'";
    stage.units([("env-run.service", run_unit("Type=oneshot\nSetCredential=other:x", exec).as_str())]);
    stage.run(&["systemctl", "start", "env-run"]).ok();
    assert_eq!(stage.read("/srv/out/env.pw"), b"hunter2");
    assert!(!String::from_utf8_lossy(&stage.read("/srv/out/env.cmd")).contains("hunter2"));
}

fn a_notify_service_stays_the_main_process(stage: &Stage) {
    let exec = "/usr/bin/onecred run --env PW=db-password -- sh -c 'systemd-notify --ready --pid=$$$$; exec sleep infinity'";
    stage.units([("env-notify.service", run_unit("Type=notify", exec).as_str())]);
    stage.run(&["systemctl", "start", "env-notify"]).ok();
    let pid = stage.show("env-notify.service", "MainPID");
    let environment = stage.read(&format!("/proc/{pid}/environ"));
    assert!(environment.split(|byte| *byte == 0).any(|variable| variable == b"PW=hunter2"));
    let command = stage.read(&format!("/proc/{pid}/cmdline"));
    assert!(command.starts_with(b"sleep\0"), "{:?}", String::from_utf8_lossy(&command));
    stage.run(&["systemctl", "stop", "env-notify"]).ok();
}

fn a_program_is_not_run_without_its_credential(stage: &Stage) {
    let exec = "/usr/bin/onecred run --env PW=nothing -- touch /srv/out/env.never";
    stage.units([("env-none.service", run_unit("Type=oneshot", exec).as_str())]);
    stage.run(&["systemctl", "start", "env-none"]).fails();
    assert_eq!(stage.show("env-none.service", "ExecMainStatus"), "243");
    stage.waits_for_line("env-none.service", "the unit has no credential nothing");
    assert!(!stage.root().join("srv/out/env.never").exists());
}
