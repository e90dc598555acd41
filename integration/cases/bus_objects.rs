//! The objects on D-Bus: who sees which of them, lists in pages, and what callers get by rules and descriptors.
use crate::bus::{as_user, call, in_unit, property, stage};
use onecred_integration::{
    cases,
    installed::{LIBEXEC, SOCKET},
    stage::Stage,
    theme::Theme,
};

pub const THEME: Theme = Theme {
    name: "bus_objects",
    stage,
    shared: true,
    cases: cases![
        names_of_secrets_are_for_those_who_may_see_them,
        secrets_are_listed_in_pages,
        what_is_opened_often_is_in_memory_once,
        a_rule_gives_over_the_bus_only_what_the_unit_loads,
        a_unit_that_invents_ids_gets_none_and_takes_nothing_from_others,
    ],
};

/// Introspection, and the difference between a secret that exists and one that does not.
fn names_of_secrets_are_for_those_who_may_see_them(stage: &Stage) {
    let call = |path: &str| {
        format!(
            "busctl --json=short call org.onecred.Credentials1 /org/onecred/Credentials1/{path} org.freedesktop.DBus.Introspectable Introspect"
        )
    };
    let all = stage.sh(&call("secret")).ok();
    assert!(all.contains("password") && all.contains("nowhere"), "{all}");
    let of_user = stage.sh(&as_user(&call("secret"))).ok();
    assert!(!of_user.contains("<node name"), "{of_user}");
    assert!(!stage.sh(&as_user(&call("source"))).ok().contains("<node name"));
    let of_unit = stage
        .sh(&format!("systemd-run --unit=app9 --collect --wait --pipe -q -p User=games {}", call("secret")));
    let of_unit = of_unit.ok();
    assert!(of_unit.contains("username") && !of_unit.contains("\\\"key\\\""), "{of_unit}");
    // root learns that an object does not exist, others do not
    let said = stage.sh(&call("secret/unknown")).fails();
    assert!(said.contains("no object"), "{said}");
    let existing = stage.sh(&as_user(&call("secret/password"))).ok();
    assert_eq!(stage.sh(&as_user(&call("secret/unknown"))).ok(), existing);
    let said = stage.sh(&as_user(&property("unknown", "State"))).fails();
    assert!(said.contains("may not do this"), "{said}");
}

fn secrets_are_listed_in_pages(stage: &Stage) {
    let page = |after: &str, limit: u32| stage.sh(&call(&format!("ListSecretsPage su {after} {limit}"))).ok();
    let first = page("''", 2);
    assert!(first.starts_with("aa{sv}s 2 ") && first.trim().ends_with("\"key\""), "{first}");
    assert!(first.contains("\"anybody\"") && !first.contains("\"password\""), "{first}");
    let last = page("key", 0);
    assert!(last.starts_with("aa{sv}s 3 ") && last.trim().ends_with("\"\""), "{last}");
    let of_unit = stage.sh(&format!(
        "systemd-run --unit=app10 --collect --wait --pipe -q -p User=games {}",
        call("ListSecretsPage su '' 0")
    ));
    let of_unit = of_unit.ok();
    assert!(of_unit.starts_with("aa{sv}s 4 ") && !of_unit.contains("Dev/token"), "{of_unit}");
    let said = stage.sh(&as_user(&call("ListSecretsPage su '' 0"))).fails();
    assert!(said.contains("may not do this"), "{said}");
}

fn what_is_opened_often_is_in_memory_once(stage: &Stage) {
    let (code, said, error) = in_unit(stage, "app11", "hoard 200 password");
    assert_eq!(code, Some(0), "{error}");
    // another case may have the value fetched meanwhile
    let files = said.strip_prefix("200 descriptors of ").and_then(|rest| rest.split(' ').next());
    let files: usize = files.and_then(|files| files.parse().ok()).unwrap_or(usize::MAX);
    assert!(files <= 4 && said.trim().ends_with(" memory files with values of {7} bytes"), "{said}");
}

fn a_rule_gives_over_the_bus_only_what_the_unit_loads(stage: &Stage) {
    let run = |id: &str| {
        let ran = stage.sh(&format!(
            "systemd-run --unit=by-rule@db --collect --wait --pipe -q -p User=games -p LoadCredential=username:{SOCKET} {LIBEXEC}/bus-client credential {id}"
        ));
        (ran.stdout(), ran.stderr())
    };
    assert_eq!(run("username").0, "bob", "a line loads it");
    let (value, said) = run("password");
    assert!(value.is_empty() && said.contains("by-rule@db.service loads no credential password"), "{said}");
}

/// A rule gives this unit any field of an item, by a pattern.
fn a_unit_that_invents_ids_gets_none_and_takes_nothing_from_others(stage: &Stage) {
    const INVENTED: usize = 1000;
    let run = |words: &str| {
        stage.sh(&format!(
            "systemd-run --unit=guesser --collect --wait --pipe -q -p User=games -p LoadCredential=password:{SOCKET} {LIBEXEC}/bus-client {words}"
        ))
    };
    let said = run(&format!("guess {INVENTED}")).ok();
    let all = format!("{{\"org.onecred.Error.NotAuthorized\": {INVENTED}}}");
    assert_eq!(said.lines().next(), Some(all.as_str()), "{said}");
    assert!(said.contains("guesser.service loads no credential invented-999 from onecred"), "{said}");
    assert!(said.contains("add a LoadCredential= line for it to the unit"), "{said}");
    // another unit of the same item, at the socket and over the bus
    stage.gets("app12.service", "", &[("password", b"hunter2")]);
    assert_eq!(in_unit(stage, "app13", "credential username").1, "bob");
    // what its line loads, and what the rule names
    assert_eq!(run("credential password").ok(), "hunter2");
    assert_eq!(run("credential username").ok(), "bob");
}
