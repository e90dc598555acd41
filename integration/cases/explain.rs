//! Tests that the statements of `onecred explain` and `check --live` about units are true: each is compared
//! with a start.
use onecred_integration::{
    cases,
    fake_connect::vault::long_value,
    installed::{LIBEXEC, SEALED, SOCKET},
    machine::Suite,
    setup::{Setup, field, fixture_with},
    stage::{End, Stage, consumer},
    theme::Theme,
};
use serde_json::{Value, json};
use std::fmt::Write as _;

pub const THEME: Theme = Theme {
    name: "explain",
    stage,
    shared: true,
    cases: cases![
        lines_are_judged_as_systemd_takes_them,
        what_1password_lacks_is_no_start,
        units_that_never_ask,
        units_that_do_not_run,
        a_secret_under_another_id,
        a_unit_that_may_start_before_the_socket,
        check_live_judges_all_units,
    ],
};

pub const VALUE: &[u8] = b"hunter2";

/// Too large only for the sealed socket.
pub const BETWEEN: usize = 900_000;

pub fn stage(suite: Suite) -> Stage {
    let items = [
        ("postgres", vec![field("password", "hunter2")]),
        ("early", vec![field("password", "hunter2")]),
        ("empty", vec![field("password", "")]),
        ("large", vec![field("password", &long_value(BETWEEN))]),
    ];
    let of = |title: &str| format!("op://My Vault/{title}/password");
    Setup::connect(suite)
        .default("maxAge", "1h")
        .default("deadline", "3s")
        .holding(fixture_with(items))
        .secret("db", &of("postgres"), &["row*", "row-t@*", "long-*", "mnt-*.mount", "app", "old-name"])
        .secret("db-a-x2fb", &of("postgres"), &["row-t@*/db-ax2fb"])
        .secret("db-a-raw", &of("postgres"), &[r"row-t@*/db-a\x2fb"])
        .secret("idx", &of("postgres"), &["long-*"])
        .secret("idxy", &of("postgres"), &["long-*"])
        .secret("spaced", &of("postgres"), &["row*/my db"])
        .secret("entry", &of("postgres"), &["row*/c_entry"])
        .secret("nowhere", &of("nowhere"), &["row*"])
        .secret("nothing", &of("empty"), &["row*"])
        .secret("large", &of("large"), &["row*"])
        .secret("large-too", &of("large"), &["row*"])
        .secret("never", &of("early"), &["early"])
        .secret("other", &of("postgres"), &["app/otherpass"])
        .entry(serde_json::json!({ "name": "typo", "reference": of("postgres"), "units": ["oldname"],
            "restartUnits": ["dbus.servcie", "systemd-journal"], "reloadUnits": ["nomatch-*"] }))
        .stage()
}

/// A unit that copies its credentials to where the stage finds them.
pub fn unit(lines: &str) -> String {
    let take = format!("test -z \"$$CREDENTIALS_DIRECTORY\" || {LIBEXEC}/take %n || :");
    format!("[Service]\nType=oneshot\nExecStart=sh -c '{take}'\n{lines}\n")
}

/// Rows of a name, the explained ID, and lines.
fn rows() -> Vec<(String, &'static str, String)> {
    let mut rows: Vec<(&str, &str, String)> = Vec::new();
    let mut row = |name, lines: &[&str]| rows.push((name, "db", lines.join("\n")));
    let ours = &format!("LoadCredential=db:{SOCKET}");
    let sealed = &format!("LoadCredentialEncrypted=db:{SEALED}");
    row("plain", &[ours]);
    row("sealed", &[sealed]);
    row("plain-of-sealed", &[&format!("LoadCredential=db:{SEALED}")]);
    row("sealed-of-plain", &[&format!("LoadCredentialEncrypted=db:{SOCKET}")]);
    row("no-path", &["LoadCredential=db"]);
    row("name-for-path", &["LoadCredential=db:stored"]);
    row("relative", &["LoadCredential=db:run/onecred/credential.sock"]);
    row("equals", &[&format!("LoadCredential=db={SOCKET}")]);
    row("quoted-path", &[&format!("LoadCredential=db:\"{SOCKET}\"")]);
    row("space-before", &[&format!("LoadCredential=db: {SOCKET}")]);
    row("misspelt-key", &[&format!("LoadCredentials=db:{SOCKET}")]);
    row("dot-dot", &["LoadCredential=db:/run/onecred/../onecred/credential.sock"]);
    row("two-slashes", &["LoadCredential=db:/run//onecred/credential.sock"]);
    row("slash-at-end", &[&format!("LoadCredential=db:{SOCKET}/")]);
    row("link", &["LoadCredential=db:/run/link"]);
    row("hard-link", &["LoadCredential=db:/run/hard.sock"]);
    row("var-run", &["LoadCredential=db:/var/run/onecred/credential.sock"]);
    row("specifiers", &["LoadCredential=db:%t/onecred/credential.sock"]);
    row("missing", &["LoadCredential=db:/run/onecred/credentials.sock"]);
    row("colon", &[&format!("LoadCredential=db:{SOCKET}:x")]);
    row("directory", &["LoadCredential=db:/run/onecred/"]);
    row("file", &["LoadCredential=db:/etc/hostname"]);
    row("twice", &["LoadCredential=db:/etc/hostname", ours]);
    row("twice-otherwise", &[ours, "LoadCredential=db:/etc/hostname"]);
    row("both-directives", &[ours, sealed]);
    row("cleared", &[ours, "LoadCredential="]);
    row("literal", &["SetCredential=db:x", ours]);
    row("literal-only", &["SetCredential=db:x"]);
    row("literal-for-missing", &["SetCredential=db:x", "LoadCredential=db:/run/onecred/nope"]);
    row("literal-without-path", &["SetCredential=db:x", "LoadCredential=db"]);
    row("environment", &[ours, "EnvironmentFile=%d/db"]);
    row("environment-by-path", &[ours, "EnvironmentFile=/run/credentials/%n/db"]);
    row("environment-skipped", &[ours, "EnvironmentFile=-%d/db"]);
    row("environment-missing", &[ours, "EnvironmentFile=/etc/nope.env"]);
    row("environment-there", &[ours, "EnvironmentFile=/etc/os-release"]);
    row("environment-glob", &[ours, "EnvironmentFile=/etc/os-rel*"]);
    row("environment-braces", &[ours, "EnvironmentFile=/etc/{nope,os-release}"]);
    row("environment-glob-none", &[ours, "EnvironmentFile=/etc/nope-*.env"]);
    row("environment-glob-skipped", &[ours, "EnvironmentFile=-/etc/nope-*.env"]);
    row("environment-directory", &[ours, "EnvironmentFile=/etc"]);
    row("environment-directory-skipped", &[ours, "EnvironmentFile=-/etc"]);
    row("environment-glob-directory", &[ours, "EnvironmentFile=/etc/credsto*"]);
    row("dead-socket", &["LoadCredential=db:/run/systemd/notify"]);
    row("other-dead-socket", &[ours, "LoadCredential=x:/run/systemd/notify"]);
    row("quoted-line", &[&format!("LoadCredential=\"db:{SOCKET}\"")]);
    row("quoted-id", &[&format!("LoadCredential=\"db\":{SOCKET}")]);
    row("file-as-encrypted", &["LoadCredentialEncrypted=db:/etc/hostname"]);
    row("store-as-encrypted", &["LoadCredentialEncrypted=db:stored"]);
    row("other-file", &[ours, "LoadCredential=x:/etc/half"]);
    row("other-directory", &[ours, "LoadCredential=x:/etc/halves"]);
    row("other-large", &[ours, "LoadCredential=x:/etc/large"]);
    row("others-large-together", &[ours, "LoadCredential=x:/etc/half", "LoadCredential=y:/etc/half"]);
    row(
        "other-large-with-ours",
        &[ours, "LoadCredential=x:/etc/half", &format!("LoadCredential=large:{SOCKET}")],
    );
    row(
        "ours-large-together",
        &[ours, &format!("LoadCredential=large:{SOCKET}\nLoadCredential=large-too:{SOCKET}")],
    );
    row("other-set", &[ours, "SetCredential=x:y"]);
    row("other-encrypted", &[ours, "LoadCredentialEncrypted=x:/etc/x.cred"]);
    row("other-encrypted-for-another-id", &[ours, "LoadCredentialEncrypted=y:/etc/x.cred"]);
    row("other-file-as-encrypted", &[ours, "LoadCredentialEncrypted=x:/etc/hostname"]);
    row("other-missing-encrypted", &[ours, "LoadCredentialEncrypted=x:/etc/nope"]);
    row("other-set-encrypted", &[ours, "SetCredentialEncrypted=x:bm8gY3JlZGVudGlhbA=="]);
    row("set-encrypted-beside-ours", &[ours, "SetCredentialEncrypted=db:bm8gY3JlZGVudGlhbA=="]);
    row("other-missing", &[ours, "LoadCredential=x:/etc/nope"]);
    row("other-without-path", &[ours, "LoadCredential=x"]);
    row("other-directory-in-store", &[ours, "LoadCredential=x:folder"]);
    row("directory-in-store", &["LoadCredential=db:folder"]);
    row("other-directory-encrypted", &[ours, "LoadCredentialEncrypted=x:/etc/encrypted"]);
    row("other-directory-not-encrypted", &[ours, "LoadCredentialEncrypted=x:/etc/halves"]);
    // ignored before systemd 254, and with a new name before 258
    row("import", &["ImportCredential=d*"]);
    row("import-of-store", &["ImportCredential=stored:db", ours]);
    row("import-renamed", &["ImportCredential=stored:db"]);
    row("import-renamed-otherwise", &["ImportCredential=db-imported:x"]);
    row("import-large", &[ours, "ImportCredential=large-*"]);
    row("import-large-together", &[ours, "ImportCredential=half-*"]);
    row("import-undecryptable", &[ours, "ImportCredential=undecryptable"]);
    row("import-encrypted", &[ours, "ImportCredential=encrypted"]);
    row("import-directory", &[ours, "ImportCredential=fold*"]);
    row("import-dangling", &[ours, "ImportCredential=dangl*"]);
    row("other-refused", &[ours, &format!("LoadCredential=stranger:{SOCKET}")]);
    row("as-user", &[ours, "User=games"]);
    for (name, id, line) in [
        ("space", "my db", format!("LoadCredential=my db:{SOCKET}")),
        ("entry", "c_entry", "LoadCredential=c:/run/links".to_owned()),
        ("not-found", "nowhere", format!("LoadCredential=nowhere:{SOCKET}")),
        ("empty", "nothing", format!("LoadCredential=nothing:{SOCKET}")),
        ("large", "large", format!("LoadCredential=large:{SOCKET}")),
        ("large-sealed", "large", format!("LoadCredentialEncrypted=large:{SEALED}")),
        ("large-beside", "db", format!("LoadCredential=db:{SOCKET}\nLoadCredential=nothing:{SOCKET}")),
    ] {
        rows.push((name, id, line));
    }
    let mut all: Vec<_> =
        rows.into_iter().map(|(name, id, lines)| (format!("row-{name}.service"), id, lines)).collect();
    let long = format!("long-{}.service", "a".repeat(67));
    all.push((long.clone(), "idx", format!("LoadCredential=idx:{SOCKET}")));
    all.push((
        // much longer: the random number in the address sometimes has fewer digits, and then one byte too
        // many still fits
        format!("long-b{}.service", "a".repeat(75)),
        "idxy",
        format!("LoadCredential=idxy:{SOCKET}"),
    ));
    all
}

/// The texts of units with these lines.
fn texts(rows: &[(String, &str, String)]) -> Vec<String> {
    rows.iter().map(|(.., lines)| unit(lines)).collect()
}

/// What onecred reports about a unit to programs.
pub fn explained_in_json(stage: &Stage, unit: &str, id: &str) -> Value {
    let ran = stage.run(&["onecred", "explain", unit, id, "--json"]);
    let said: Value = serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran}"));
    assert_eq!(ran.code(), Some(if said["gets"] == true { 0 } else { 1 }), "{ran}");
    said
}

/// The same, compared with its report to people.
pub fn explained(stage: &Stage, unit: &str, id: &str) -> Value {
    let said = explained_in_json(stage, unit, id);
    let text = stage.run(&["onecred", "explain", unit, id]).stdout();
    assert_eq!(text.contains(" gets "), said["gets"] == true, "{text}");
    said
}

/// The result of starting a unit.
pub fn becomes(stage: &Stage, unit: &str, id: &str) -> &'static str {
    all_become(stage, &[(unit, id)])[0]
}

/// The results of starting units at once.
pub fn all_become(stage: &Stage, units: &[(&str, &str)]) -> Vec<&'static str> {
    let names: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
    stage.run(&[&["systemctl", "start", "--"][..], &names].concat());
    let ends = stage.all_settled(&names);
    let outcome = |(end, (unit, id)): (&End, &(&str, &str))| match (end.succeeded(), stage.taken(unit, id)) {
        (true, Some(value)) if value == VALUE || value.len() == BETWEEN => "gets",
        (true, Some(_)) => "other",
        (true, None) => "without",
        (false, _) => "fails",
    };
    ends.iter().zip(units).map(outcome).collect()
}

fn lines_are_judged_as_systemd_takes_them(stage: &Stage) {
    stage.sh("mkdir -p /run/links && ln -s /run/onecred/credential.sock /run/link && ln /run/onecred/credential.sock /run/links/entry && ln /run/onecred/credential.sock /run/hard.sock").ok();
    stage.sh("mkdir -p /etc/credstore && printf stored >/etc/credstore/stored && chmod 600 /etc/credstore/stored").ok();
    stage.sh("mkdir -p /run/credstore && printf imported >/run/credstore/db-imported").ok();
    stage.sh("head -c 600000 /dev/zero >/etc/half; head -c 1048576 /dev/zero >/etc/large").ok();
    stage.sh("mkdir -p /etc/halves && cp /etc/half /etc/halves/one && cp /etc/half /etc/halves/two").ok();
    stage.sh("cd /etc/credstore && mkdir folder && touch folder/file && cp ../large large-1 && cp ../half half-1 && cp ../half half-2 && ln -s /nope dangling").ok();
    stage.sh("printf x | systemd-creds encrypt --with-key=host --name=x - /etc/x.cred").ok();
    stage.sh("mkdir -p /etc/encrypted && printf x | systemd-creds encrypt --with-key=host --name=x_one - /etc/encrypted/one").ok();
    stage.sh("mkdir -p /etc/credstore.encrypted && cd /etc/credstore.encrypted && echo no >undecryptable && printf x | systemd-creds encrypt --with-key=host --name=encrypted - encrypted").ok();
    let (mut wrong, mut seen) = (String::new(), Vec::new());
    let rows = rows();
    stage.units(rows.iter().map(|(unit, ..)| unit.as_str()).zip(texts(&rows).iter().map(String::as_str)));
    // some at a time, so that none waits for its deadline
    for rows in rows.chunks(8) {
        let explained: Vec<Value> =
            rows.iter().map(|(unit, id, _)| explained_in_json(stage, unit, id)).collect();
        let units: Vec<(&str, &str)> = rows.iter().map(|(unit, id, _)| (unit.as_str(), *id)).collect();
        for (((unit, _), said), becomes) in units.iter().zip(explained).zip(all_become(stage, &units)) {
            if said["outcome"] != becomes {
                let _ = writeln!(wrong, "{unit} {becomes}, and explain says: {said}");
            }
            seen.push(becomes);
            assert!(said["outcome"] == "gets" || said["problems"] != json!([]), "{said}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    for becomes in ["gets", "other", "without", "fails"] {
        assert!(seen.iter().filter(|it| **it == becomes).count() >= 4, "{becomes}: {seen:?}");
    }
    // %i in an ID is escaped, and newer versions lose the escape
    let template = consumer("", &["db-%i"]);
    stage.units([("row-t@.service", template.as_str())]);
    let instance = r"row-t@a\x2fb.service";
    let id = if stage.suite == Suite::Host { r"db-a\x2fb" } else { "db-ax2fb" };
    assert_eq!(explained(stage, instance, id)["outcome"], "gets");
    assert_eq!(becomes(stage, instance, id), "gets");
}

fn what_1password_lacks_is_no_start(stage: &Stage) {
    for (id, line, words) in [
        ("nowhere", format!("LoadCredential=nowhere:{SOCKET}"), "not found: "),
        ("nothing", format!("LoadCredential=nothing:{SOCKET}"), "the field is empty"),
        ("large", format!("LoadCredentialEncrypted=large:{SEALED}"), "too large: "),
    ] {
        let name = format!("rowlack-{id}.service");
        stage.units([(name.as_str(), unit(&line).as_str())]);
        let said = explained(stage, &name, id);
        assert_eq!((&said["outcome"], &said["allowed"]), (&"fails".into(), &true.into()), "{said}");
        let error = said["error"]["message"].as_str().unwrap_or_default();
        assert!(error.contains(words) && said["problem"] == error, "{said}");
        assert!(
            stage.sh(&format!("onecred explain {name} {id}")).stdout().contains("is not available"),
            "{said}"
        );
    }
}

fn units_that_never_ask(stage: &Stage) {
    let line = format!("LoadCredential=db:{SOCKET}");
    let mount = |line: &str| format!("[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere=/mnt/asks\n{line}\n");
    stage.units([("mnt-asks.mount", mount(&line).as_str())]);
    let new = stage.suite == Suite::Sid;
    let said = explained(stage, "mnt-asks.mount", "db");
    assert_eq!(said["outcome"], if new { "gets" } else { "without" }, "{said}");
    // a refusal prevents only units that ask from starting
    let refused = mount(&format!("LoadCredential=stranger:{SOCKET}")).replace("asks", "refused");
    stage.units([("mnt-refused.mount", refused.as_str())]);
    assert_eq!(stage.run(&["systemctl", "start", "mnt-refused.mount"]).succeeded(), !new);
    for (name, text, words) in [
        (
            "rowsock.socket",
            format!("[Socket]\nListenStream=/run/rowsock\n{line}\n"),
            "move the line to rowsock.service",
        ),
        ("rowtime.timer", "[Timer]\nOnActiveSec=1h\n".to_owned(), "the line belongs in rowtime.service"),
        (
            "mnt-auto.automount",
            "[Automount]\nWhere=/mnt/auto\n".to_owned(),
            "an automount unit cannot have credentials",
        ),
        ("rowtarget.target", "[Unit]\n".to_owned(), "a target unit cannot have credentials"),
        ("row.slice", "[Slice]\n".to_owned(), "a slice unit cannot have credentials"),
    ] {
        let service = name.split('.').next().map(|stem| format!("{stem}.service")).unwrap_or_default();
        stage.units([(service.as_str(), unit("").as_str()), (name, text.as_str())]);
        let said = explained(stage, name, "db");
        assert_ne!(said["gets"], true, "{said}");
        let problems = said["problems"].to_string();
        assert!(problems.contains(words) && !problems.contains("onecred add"), "{said}");
    }
}

fn units_that_do_not_run(stage: &Stage) {
    stage.sh("ln -s /dev/null /run/systemd/system/rowmasked.service; mkdir -p /etc/systemd/user; echo >/etc/systemd/user/rowuser.service").ok();
    let line = format!("LoadCredential=db:{SOCKET}");
    stage.units([("rowbad.service", "[Service]\nType=oneshot\n"), ("rowtpl@.service", unit(&line).as_str())]);
    stage.units([("app.service", unit(&line).as_str())]);
    stage.sh("ln -s app.service /run/systemd/system/old-name.service").ok();
    for (name, words) in [
        ("rowmasked", "systemctl unmask rowmasked.service"),
        ("rowbad", "(bad-setting)"),
        ("rowtpl@", "name an instance: rowtpl@NAME.service"),
        ("rowuser", "user managers"),
        ("rowbat", "this machine has no unit rowbat.service; did you mean rowbad.service?"),
        ("rowbad.servce", "did you mean rowbad.service?"),
    ] {
        let said = explained(stage, name, "db");
        assert_eq!(said["outcome"], "fails", "{said}");
        assert!(said["problem"].as_str().is_some_and(|problem| problem.contains(words)), "{words}: {said}");
    }
    // an alias asks with the canonical name
    let said = explained(stage, "old-name", "db");
    assert_eq!((&said["unit"], &said["gets"]), (&"app.service".into(), &true.into()), "{said}");
    assert!(said["notes"].to_string().contains("old-name.service is an alias"), "{said}");
}

fn a_unit_that_may_start_before_the_socket(stage: &Stage) {
    for (name, head, is_noted) in [
        ("ordinary", "", false),
        ("early", "DefaultDependencies=no", true),
        ("after", "DefaultDependencies=no\nAfter=onecred.socket", false),
        ("after-all", "DefaultDependencies=no\nAfter=multi-user.target", false),
    ] {
        let name = format!("row-order-{name}.service");
        let text = format!("[Unit]\n{head}\n{}", unit(&format!("LoadCredential=db:{SOCKET}")));
        stage.units([(name.as_str(), text.as_str())]);
        let said = explained(stage, &name, "db");
        assert_eq!(said["outcome"], "gets", "{said}");
        assert_eq!(said["notes"].to_string().contains("may start before onecred.socket"), is_noted, "{said}");
    }
}

fn a_secret_under_another_id(stage: &Stage) {
    let said = explained(stage, "app", "other");
    assert_eq!(said["allowed"], false, "{said}");
    let reason = said["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("but for credential otherpass") && reason.contains("ask for otherpass"),
        "{said}"
    );
    let said = explained(stage, "app", "otherpas");
    assert!(
        said["reason"].to_string().contains("app.service is allowed to load: otherpass (secret other), db"),
        "{said}"
    );
}

fn check_live_judges_all_units(stage: &Stage) {
    stage.units([
        ("rowlive-missing.service", unit("LoadCredential=db:/run/onecred/credentials.sock").as_str()),
        ("rowlive-ignored.service", unit("LoadCredential=db=/run/onecred/credential.sock").as_str()),
        ("rowlive-store.service", unit("LoadCredential=db").as_str()),
        (
            "rowlive-others.service",
            unit(&format!("LoadCredential=db:{SOCKET}\nLoadCredentialEncrypted=x:/etc/hostname\nEnvironmentFile=/etc/nope-*")).as_str(),
        ),
    ]);
    // a unit is loaded if another one needs it
    let needs = "[Unit]\nWants=rowlive-missing.service rowlive-ignored.service rowlive-store.service rowlive-others.service\n";
    stage.units([("rowlive.target", needs)]);
    stage.sh("systemctl start rowlive.target").ok();
    stage.sh("ln -sf app.service /run/systemd/system/oldname.service").ok();
    let ran = stage.sh("onecred check --live --json");
    assert_eq!(ran.code(), Some(1), "{ran}");
    let said: Value = serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran}"));
    let has = |key: &str, start: &str| {
        let all = said[key].as_array().cloned().unwrap_or_default();
        assert!(
            all.iter().any(|one| one.as_str().is_some_and(|it| it.contains(start))),
            "{start:?}: {said:#}"
        );
    };
    has("problems", "rowlive-missing.service: LoadCredential=db:/run/onecred/credentials.sock: ");
    has(
        "problems",
        "rowlive-ignored.service: systemd ignores the line LoadCredential=db=/run/onecred/credential.sock (/run/systemd/system/rowlive-ignored.service:",
    );
    let fix = "write LoadCredential=db:/run/onecred/credential.sock, then: systemctl daemon-reload";
    assert!(ran.stdout().contains(&format!("a : stands between ID and path; {fix}")), "{ran}");
    has("problems", "rowlive-store.service: LoadCredential=db: without a path");
    has(
        "problems",
        "rowlive-others.service: LoadCredentialEncrypted=x:/etc/hostname: systemd cannot decrypt /etc/hostname",
    );
    has("problems", "rowlive-others.service: EnvironmentFile=/etc/nope-* matches no file");
    has("warnings", "restartUnits of secret typo (/etc/onecred/secrets.json:");
    has("warnings", "this machine has no unit systemd-journal.service");
    has("warnings", "nomatch-*.service matches no unit of this machine");
}
