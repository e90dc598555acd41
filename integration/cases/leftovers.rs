//! Tests of a full store, and of what remains of secrets that are no longer configured or were deleted in
//! 1Password.
use onecred_integration::{
    cases,
    fake_connect::{Edit, vault::long_value},
    installed::SOCKET,
    machine::{Suite, wait_until},
    setup::{Setup, field, fixture_with},
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};

pub const THEME: Theme = Theme {
    name: "leftovers",
    stage,
    shared: false,
    cases: cases![
        a_full_store_refuses_keeps_what_it_has_and_heals,
        what_is_removed_or_gone_leaves_no_copy,
        what_an_admin_holds_stands_and_is_shown,
    ],
};

const CONFIG: &str = "/etc/onecred/secrets.json";
const MANAGER: &str = "org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager";
const LARGE: usize = 600 * 1024;

fn stage(suite: Suite) -> Stage {
    let one = |name: &'static str, value: &str| (name, vec![field("password", value)]);
    let document = fixture_with([
        one("first", &long_value(LARGE)),
        one("second", &long_value(LARGE)),
        one("removed", "canary-removed-1"),
        one("revoked", "canary-revoked-1"),
        one("held", "canary-held-1"),
    ]);
    let mut setup =
        Setup::connect(suite).default("maxAge", "session").default("deadline", "5s").holding(document);
    for name in ["first", "removed", "revoked", "held"] {
        setup = setup.entry(published(name));
    }
    let both = json!({ "name": "both", "content": "{{removed}} {{revoked}}", "escape": "raw", "target": "/run/secrets/both" });
    let stage = setup.template(&both).stage();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    wait_until("the provider is on the bus", || {
        stage.sh("busctl --no-pager status org.onecred.Credentials1").succeeded()
    });
    stage
}

/// A published secret that all units may have.
fn published(name: &str) -> Value {
    let reference = format!("op://My Vault/{name}/password");
    json!({ "name": name, "reference": reference, "units": ["*"], "target": format!("/run/secrets/{name}") })
}

fn change(stage: &Stage, change: impl FnOnce(&mut Value)) {
    let mut config = serde_json::from_slice(&stage.read(CONFIG)).unwrap_or_default();
    change(&mut config);
    stage.write(CONFIG, config.to_string(), 0o644);
    stage.sh("systemctl reload onecred.service").ok();
}

fn set(stage: &Stage, item: &str, value: &str) {
    stage.connect().set("My Vault", item, "password", value).unwrap_or_else(|error| panic!("{error}"));
}

fn delete(stage: &Stage, item: &str) {
    let gone = Edit::Delete { vault: "My Vault".into(), item: item.into() };
    stage.connect().edit(&gone).unwrap_or_else(|error| panic!("{error}"));
}

fn refresh(stage: &Stage, names: &[&str]) -> String {
    stage.sh(&format!("busctl call {MANAGER} Refresh ast {} {} 0", names.len(), names.join(" "))).ok()
}

/// The files that contain this value, in all places where onecred stores or publishes something.
fn copies(stage: &Stage, value: &str) -> Vec<String> {
    let found = stage.run(&["grep", "-rlaF", "--", value, "/run/onecred", "/run/secrets"]).stdout();
    found.lines().map(str::to_owned).collect()
}

fn a_full_store_refuses_keeps_what_it_has_and_heals(stage: &Stage) {
    change(stage, |config| config["limits"] = json!({ "storeSize": "1MiB" }));
    stage.sh("systemctl start onecred-file@first.service").ok();
    stage.gets("app.service", "", &[("first", long_value(LARGE).as_bytes())]);
    // declared after the first one is stored: a reload fetches everything that is published, in any order
    change(stage, |config| {
        config["secrets"].as_array_mut().into_iter().for_each(|all| all.push(published("second")));
    });
    let words = ["too large: ", "limits.storeSize allows 1048576", "raise limits.storeSize"];
    stage.refuses("other.service", "", "second", &words);
    stage.sh("systemctl start onecred-file@second.service").fails();
    // a version that does not fit removes nothing
    let files = || {
        stage.sh("find /run/onecred/store /run/secrets -type f -size +500k -exec sha256sum {} + | sort").ok()
    };
    let before = files();
    assert_eq!(before.lines().count(), 2, "a snapshot and a file: {before}");
    set(stage, "first", &long_value(1 << 20));
    let said = refresh(stage, &["first"]);
    assert!(said.contains("\"first\" \"failed\" 0 \"org.onecred.Error.TooLarge\""), "{said}");
    assert!(said.contains("raise limits.storeSize"), "{said}");
    assert_eq!(files(), before);
    assert!(stage.sh("onecred status").stdout().contains("raise limits.storeSize"));
    // the limit is raised and the configuration reloaded
    change(stage, |config| config["limits"] = json!({ "storeSize": "16MiB" }));
    stage.starts("other.service", &[("second", long_value(LARGE).as_bytes())]);
    stage.sh("systemctl start onecred-file@second.service").ok();
    set(stage, "first", "it fits");
    let said = refresh(stage, &["first"]);
    assert!(said.contains("\"changed\""), "{said}");
    wait_until("the file is replaced", || stage.read("/run/secrets/first") == b"it fits");
}

/// All secrets are published and were changed once, so that there are previous versions.
fn changed_once(stage: &Stage) {
    let names = ["removed", "revoked", "held"];
    stage
        .sh("for name in removed revoked held both; do systemctl start onecred-file@$name.service; done")
        .ok();
    names.iter().for_each(|name| set(stage, name, &format!("canary-{name}-2")));
    let said = refresh(stage, &names);
    assert_eq!(said.matches("\"changed\"").count(), 3, "{said}");
    wait_until("the files are replaced", || {
        names.iter().all(|name| {
            copies(stage, &format!("canary-{name}-2")).iter().any(|file| file.starts_with("/run/secrets/"))
        }) && stage.read("/run/secrets/both") == b"canary-removed-2 canary-revoked-2"
    });
    for name in names {
        let store = |value: &str| {
            copies(stage, value).iter().filter(|file| file.starts_with("/run/onecred/store/")).count()
        };
        let [before, now] = [1, 2].map(|version| store(&format!("canary-{name}-{version}")));
        assert_eq!((before, now), (1, 1), "{name}: the search finds what is there");
    }
}

fn nothing_is_left(stage: &Stage, name: &str) {
    for version in 1..=2 {
        let value = format!("canary-{name}-{version}");
        wait_until(&format!("no copy of {value} is left"), || copies(stage, &value).is_empty());
    }
}

fn what_is_removed_or_gone_leaves_no_copy(stage: &Stage) {
    changed_once(stage);
    change(stage, |config| {
        config["secrets"]
            .as_array_mut()
            .into_iter()
            .for_each(|all| all.retain(|secret| secret["name"] != "removed"));
        config["templates"] = json!([{ "name": "both", "content": "{{revoked}} {{held}}", "escape": "raw", "target": "/run/secrets/both" }]);
    });
    nothing_is_left(stage, "removed");
    delete(stage, "revoked");
    let said = refresh(stage, &["revoked"]);
    assert!(said.contains("org.onecred.Error.NotFound"), "{said}");
    nothing_is_left(stage, "revoked");
    assert!(!copies(stage, "canary-held-2").is_empty(), "the others stay");
    assert!(
        !copies(stage, "canary-held-2").contains(&"/run/secrets/both".to_owned()),
        "nothing is half filled"
    );
    // the next provider does not restore anything either
    stage.sh("systemctl restart onecred.service").ok();
    nothing_is_left(stage, "removed");
    nothing_is_left(stage, "revoked");
}

fn what_an_admin_holds_stands_and_is_shown(stage: &Stage) {
    changed_once(stage);
    stage.sh("onecred rollback held; printf canary-put | onecred put revoked").ok();
    wait_until("the files are what is held", || {
        stage.read("/run/secrets/held") == b"canary-held-1"
            && stage.read("/run/secrets/revoked") == b"canary-put"
    });
    let shown = stage.sh("onecred status").stdout();
    for words in [
        "2 held",
        "held (rollback); to remove the override: onecred release held",
        "revoked (put); to remove the override: onecred release revoked",
    ] {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    let listed = stage.sh("onecred list").ok();
    let line = listed.lines().find(|line| line.starts_with("held")).unwrap_or_default();
    assert!(line.contains("rollback"), "{listed}");
    delete(stage, "held");
    delete(stage, "revoked");
    refresh(stage, &["held", "revoked"]);
    wait_until("what 1Password has no more is gone", || copies(stage, "canary-held-2").is_empty());
    assert!(copies(stage, "canary-revoked-1").is_empty() && copies(stage, "canary-revoked-2").is_empty());
    assert_eq!(stage.read("/run/secrets/held"), b"canary-held-1");
    stage.gets("app.service", "", &[("held", b"canary-held-1"), ("revoked", b"canary-put")]);
    assert!(stage.sh("onecred status").stdout().contains("2 held"), "it stands, and is shown");
    stage.sh("onecred release held; onecred release revoked").ok();
    stage.sh("rm -rf /srv/out/app.service").ok();
    for value in ["canary-held-1", "canary-put"] {
        wait_until(&format!("no copy of {value} is left"), || copies(stage, value).is_empty());
    }
    stage.refuses("late.service", "", "held", &["no item"]);
    assert!(SOCKET.starts_with("/run/onecred/"), "the folders that are searched are those of onecred");
}
