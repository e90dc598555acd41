use std::path::Path;

use serde_json::{Value, json};

use crate::config::from_text;
use crate::domain::name::Claim;

/// The errors of a configuration, then its warnings.
fn problems(config: &Value) -> (Vec<String>, Vec<String>) {
    let texts = |problems: Vec<crate::config::Problem>| {
        problems.into_iter().map(|problem| problem.what).collect::<Vec<_>>()
    };
    match from_text(Path::new("secrets.json"), &config.to_string()) {
        Ok(loaded) => (Vec::new(), texts(loaded.warnings)),
        Err(report) => (texts(report.problems), Vec::new()),
    }
}

fn with(mut config: Value) -> Value {
    config["source"] = json!({ "kind": "connect", "url": "https://connect.example", "token": "token" });
    config
}

fn secret(name: &str, units: &[&str]) -> Value {
    json!({ "name": name, "reference": format!("op://v/{name}/f"), "units": units })
}

#[test]
fn one_unit_gets_one_secret_for_an_id() {
    let clashes = |first: &[&str], second: &[&str]| {
        let config = with(json!({ "secrets": [secret("one", first), secret("two", second)] }));
        problems(&config).0
    };
    for (first, second) in [
        ("app/id", "app/other"),
        ("app/id", "app2/id"),
        ("app/id", "app.socket/id"),
        ("app/id", "ap*/id"), // a name takes precedence over a glob
        ("a*/id", "b*/id"),
        ("web@*/id", "web@1/id"),
    ] {
        assert_eq!(clashes(&[first], &[second]), [""; 0], "{first} and {second}");
        assert_eq!(clashes(&[second], &[first]), [""; 0], "{second} and {first}");
    }
    for (first, second, units) in [
        ("app/id", "app/id", "app.service"),
        ("app/id", "app.service/id", "app.service"),
        ("a*/id", "a*/id", "a*.service"),
    ] {
        let expected =
            format!("{units} would get credential id from two secrets: secret two here, and secret one at");
        let said = clashes(&[first], &[second]);
        assert!(matches!(&said[..], [what] if what.starts_with(&expected)), "{said:?}");
    }
    for (first, second) in [("a*/id", "ab*/id"), ("ab*/id", "a*/id"), ("*/id", "web@*/id")] {
        let said = clashes(&[first], &[second]);
        assert!(
            matches!(&said[..], [what] if what.contains("match would get credential id from two secrets")),
            "{said:?}"
        );
    }
}

#[test]
fn an_entry_that_is_written_twice_is_a_warning() {
    let config = |units: &[&str]| with(json!({ "secrets": [secret("one", units)] }));
    let (errors, warnings) = problems(&config(&["app/id", "app.service/id"]));
    assert_eq!(errors, [""; 0]);
    assert_eq!(warnings, ["secret one names app.service twice for credential id"]);
    assert_eq!(problems(&config(&["a*/id", "ab*/id"])), (vec![], vec![]), "both give the same secret");
}

#[test]
fn unit_and_id_have_as_many_bytes_as_systemd_can_ask_for() {
    for (unit_bytes, glob) in [(20, false), (20, true)] {
        for (total, fits) in [(Claim::MAX - 1, true), (Claim::MAX, true), (Claim::MAX + 1, false)] {
            let unit = format!("{}{}.service", "u".repeat(unit_bytes - 8), if glob { "*" } else { "" });
            let entry = format!("{unit}/{}", "i".repeat(total - unit_bytes));
            let (errors, _) = problems(&with(json!({ "secrets": [secret("one", &[&entry])] })));
            assert_eq!(errors.is_empty(), fits, "{entry}: {errors:?}");
            if !fits {
                let least = if glob { "at least " } else { "" };
                let expected =
                    format!("have {least}{total} bytes together, and systemd allows {} at most", Claim::MAX);
                assert!(errors[0].contains(&expected), "{errors:?}");
            }
        }
    }
}

#[test]
fn a_file_has_one_secret_and_is_no_directory() {
    let targets = |first: &str, second: &str| {
        let secret =
            |name: &str, target: &str| json!({ "name": name, "reference": "op://v/i/f", "target": target });
        problems(&with(json!({ "secrets": [secret("one", first), secret("two", second)] }))).0
    };
    for (first, second) in [
        ("/run/secrets/db", "/run/secrets/db2"),
        ("/run/secrets/a/x", "/run/secrets/a/y"),
        ("/run/secrets/ab/c", "/run/secrets/a"),
    ] {
        assert_eq!(targets(first, second), [""; 0], "{first} and {second}");
    }
    let said = targets("/run/secrets/db", "/run/secrets/db");
    assert!(matches!(&said[..], [what] if what.ends_with("have the same target")), "{said:?}");
    for [outer, inner] in [["/run/secrets/a", "/run/secrets/a/b"], ["/run/secrets/a", "/run/secrets/a/b/c"]] {
        for said in [targets(outer, inner), targets(inner, outer)] {
            assert!(
                matches!(&said[..], [what] if what.contains(&format!("the target {inner} is below the one of"))),
                "{said:?}"
            );
        }
    }
}

#[test]
fn a_rule_that_an_earlier_one_hides_is_an_error() {
    let rules = |first: [&[&str]; 2], second: [&[&str]; 2]| {
        let rule = |[units, credentials]: [&[&str]; 2]| json!({ "units": units, "credentials": credentials, "reference": "op://v/{prefix}/{credential}" });
        problems(&with(json!({ "rules": [rule(first), rule(second)] }))).0
    };
    for (first, second) in [
        ([&["app"][..], &["a*"][..]], [&["app"][..], &["*"][..]]),
        ([&["app"], &["a*"]], [&["app", "web"], &["ab*"]]),
        ([&["app"], &["a*"]], [&["app"], &["ab*", "c"]]),
        ([&["web@1"], &["*"]], [&["web@*"], &["*"]]),
    ] {
        assert_eq!(rules(first, second), [""; 0], "{first:?} {second:?}");
    }
    for second in [[&["app"][..], &[][..]], [&[], &["ab"]]] {
        let said = rules([&["app"], &["a*"]], second);
        assert!(matches!(&said[..], [what] if what.starts_with("the rule matches nothing")), "{said:?}");
    }
    for (first, second) in [
        ([&["app"][..], &["a*"][..]], [&["app"][..], &["a*"][..]]),
        ([&["app", "web"], &["a*", "c"]], [&["web"], &["c", "ab"]]),
        ([&["*"], &["*"]], [&["web@*", "app"], &["x"]]),
    ] {
        let said = rules(first, second);
        assert!(matches!(&said[..], [what] if what.starts_with("the rule never applies")), "{said:?}");
    }
}
