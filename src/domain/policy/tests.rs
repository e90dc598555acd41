use super::*;
use crate::domain::name::SourceName;
use crate::domain::reference::Reference;
use crate::domain::secret::{Grant, MaxAge, Rotation};
use crate::domain::template::{Form, Template};
use proptest::prelude::*;
use std::time::Duration;

fn wanted(label: &str) -> Wanted {
    Wanted {
        label: label.into(),
        reference: Reference::parse(&format!("op://v/{label}/password")).expect("valid"),
        source: SourceName::default_source(),
        max_age: MaxAge::Age(Duration::from_secs(30)),
        deadline: Duration::from_secs(60),
        allow_empty: false,
        trim: false,
    }
}

fn secret(name: &str, units: &[&str]) -> Secret {
    let name = SecretName::parse(name).expect("valid");
    let grant = |entry: &&str| {
        let (units, credential) = match entry.split_once('/') {
            Some((units, id)) => (units, CredentialId::parse(id).expect("valid")),
            None => (*entry, name.to_credential()),
        };
        Grant { units: UnitPattern::parse(units).expect("valid"), credential }
    };
    Secret {
        wanted: wanted(name.as_str()),
        grants: units.iter().map(grant).collect(),
        name,
        target: None,
        rotation: Rotation::default(),
        declared_at: "secrets.json:1".into(),
    }
}

fn rule(units: &str, credentials: &str, reference: &str) -> Rule {
    Rule {
        units: vec![UnitPattern::parse(units).expect("valid")],
        credentials: vec![Glob::parse(credentials).expect("valid")],
        reference: ReferenceTemplate::parse(reference).expect("valid"),
        wanted: wanted("rule"),
        declared_at: "secrets.json:9".into(),
    }
}

fn judge(policy: &Policy, unit: &str, credential: &str) -> Result<String, Denial> {
    let unit = UnitName::parse(unit).expect("valid");
    let credential = CredentialId::parse(credential).expect("valid");
    policy.judge(&unit, &credential).map(|what| what.references())
}

#[test]
fn names_go_before_globs_and_secrets_before_rules() {
    let policy = Policy::new(
        vec![
            secret("db", &["app", "web@*"]),
            secret("special", &["web@1/db"]),
            secret("other", &["*/shared"]),
            secret("third", &["*.service/shared"]),
        ],
        vec![rule("web@*", "*", "op://v/{prefix}-{instance}/{credential}"), rule("*", "x", "op://v/never/x")],
    );
    assert_eq!(judge(&policy, "app.service", "db").as_deref(), Ok("op://v/db/password"));
    assert_eq!(judge(&policy, "web@2.service", "db").as_deref(), Ok("op://v/db/password"));
    assert_eq!(judge(&policy, "web@1.service", "db").as_deref(), Ok("op://v/special/password"));
    assert_eq!(judge(&policy, "web@a-b.service", "key").as_deref(), Ok("op://v/web-a-b/key"));
    assert_eq!(judge(&policy, r"web@a\x20b.service", "x").as_deref(), Ok("op://v/web-a b/x"));
    assert!(matches!(judge(&policy, r"web@a\x2fb.service", "x"), Err(Denial::Template { .. })));
    assert!(matches!(judge(&policy, "app.service", "shared"), Err(Denial::Several { .. })));
    assert!(matches!(judge(&policy, "evil.service", "db"), Err(Denial::NotNamed { .. })));
    assert!(matches!(judge(&policy, "app.service", "nothing"), Err(Denial::Unknown { .. })));
    assert!(judge(&policy, "app.socket", "db").is_err(), "an entry without a type means the service");
}

#[test]
fn a_denial_names_the_ids_that_the_unit_may_ask_for() {
    let policy = Policy::new(
        vec![
            secret("db", &["app/dbpass", "web@*/dbpass"]),
            secret("api-key", &["app", "ap*"]),
            secret("x", &["*/shared"]),
            secret("y", &["*.service/shared"]),
        ],
        vec![],
    );
    let remedy = |unit: &str, id: &str| {
        let denial = judge(&policy, unit, id).unwrap_err();
        denial.remedy(&UnitName::parse(unit).unwrap(), &CredentialId::parse(id).unwrap())
    };
    for (unit, id, words) in [
        (
            "app.service",
            "db",
            "have the unit ask for dbpass, which is db, or add \"app.service\" to the units of db",
        ),
        ("web@1.service", "db", "have the unit ask for dbpass, which is db"),
        ("evil.service", "db", "to allow it, add \"evil.service\" to the units of db"),
        (
            "app.service",
            "dbpas",
            "app.service is allowed to load: dbpass (secret db), api-key; ask for one of these IDs, or declare",
        ),
        ("evil.service", "dbpas", "declare it in /etc/onecred/secrets.json"),
        // what it is loaded under is another secret's ID, too
        ("app.service", "x", "to allow it, add \"app.service\" to the units of x"),
    ] {
        let remedy = remedy(unit, id);
        assert!(remedy.starts_with(words), "{unit} {id}: {remedy}");
    }
    let denial = judge(&policy, "app.service", "db").unwrap_err();
    let (unit, id) = (UnitName::parse("app.service").unwrap(), CredentialId::parse("db").unwrap());
    assert!(denial.cause(&unit, &id).ends_with("for credential db, but for credential dbpass"));
    assert!(policy.gives_any(&unit) && policy.gives_any(&UnitName::parse("evil.service").unwrap()));
    let policy_of_app = Policy::new(vec![secret("db", &["app"])], vec![rule("web@*", "*", "op://v/i/f")]);
    for (unit, any) in [("app.service", true), ("web@1.service", true), ("other.service", false)] {
        let unit = UnitName::parse(unit).unwrap();
        assert_eq!(policy_of_app.gives_any(&unit), any, "{unit}");
        assert_eq!(policy_of_app.named(&unit).len(), usize::from(unit.as_str() == "app.service"), "{unit}");
    }
    let names = ["a", "b", "c", "d", "e"];
    let policy_of_many = Policy::new(names.map(|name| secret(name, &["app"])).into(), vec![]);
    let remedy = judge(&policy_of_many, "app.service", "x").unwrap_err().remedy(&unit, &id);
    assert!(remedy.starts_with("app.service is allowed to load: a, b, c; ask"), "{remedy}");
    assert_eq!(
        policy.named(&unit).iter().map(CredentialId::as_str).collect::<Vec<_>>(),
        ["api-key", "dbpass"]
    );
}

#[test]
fn templates_are_given_as_secrets_are() {
    let grant = |units: &str, id: &str| Grant {
        units: UnitPattern::parse(units).expect("valid"),
        credential: CredentialId::parse(id).expect("valid"),
    };
    let filling = Arc::new(Filling {
        name: SecretName::parse("app.env").expect("valid"),
        template: Template::parse("A={{a}}\nB={{b}}", Form::Env).expect("valid"),
        parts: vec![Arc::new(wanted("a")), Arc::new(wanted("b"))],
    });
    let mut policy = Policy::new(
        vec![secret("a", &["*/app.env", "own/app.env"])],
        vec![rule("*", "*", "op://v/i/{credential}")],
    );
    policy.add_template(filling, &[grant("app", "app.env"), grant("own", "app.env")], "secrets.json:5");
    let both = Ok("op://v/a/password, op://v/b/password");
    assert_eq!(judge(&policy, "app.service", "app.env").as_deref(), both, "its name goes before a glob");
    assert_eq!(judge(&policy, "web.service", "app.env").as_deref(), Ok("op://v/a/password"));
    assert!(
        matches!(judge(&policy, "own.service", "app.env"), Err(Denial::Several { names, .. }) if names.len() == 2)
    );
    assert_eq!(policy.by_name("app.env").map(Deliverable::label), Some("app.env"));
    let filling = match policy.by_name("app.env") {
        Some(Deliverable::Template(filling)) => Arc::clone(filling),
        other => panic!("{other:?}"),
    };
    let mut policy = Policy::new(vec![], vec![]);
    policy.add_template(filling, &[grant("app", "env")], "secrets.json:5");
    let (unit, id) =
        (UnitName::parse("x.service").expect("valid"), CredentialId::parse("env").expect("valid"));
    let denial = policy.judge(&unit, &id).expect_err("not named");
    assert!(denial.cause(&unit, &id).contains("template app.env (secrets.json:5) does not name x.service"));
}

#[test]
fn a_refusal_says_which_line_to_add() {
    let policy = Policy::new(vec![secret("db", &["app", "app/password"])], vec![]);
    let (unit, id) =
        (UnitName::parse("web.service").expect("valid"), CredentialId::parse("db").expect("valid"));
    let denial = policy.judge(&unit, &id).expect_err("not named");
    assert!(
        denial
            .cause(&unit, &id)
            .contains("not allowed: secret db (secrets.json:1) does not name web.service")
    );
    assert!(denial.remedy(&unit, &id).contains(r#"add "web.service" to the units of db"#));
    let id = CredentialId::parse("password").expect("valid");
    let denial = policy.judge(&unit, &id).expect_err("not named");
    assert!(denial.remedy(&unit, &id).contains(r#"add "web.service/password""#));
}

#[test]
fn patterns() {
    let covers = |a: &str, b: &str| Glob::parse(a).expect("valid").covers(&Glob::parse(b).expect("valid"));
    assert!(
        covers("*", "x")
            && covers("a*", "ab*")
            && covers("a*", "a?")
            && covers("a?", "ab")
            && covers("a", "a")
            && covers("a*.service", "ab*.service")
            && covers("a*b", "a[b-c]*?xb")
    );
    assert!(!covers("a?", "a*") && !covers("b*", "a*") && !covers("a", "a*") && !covers("a*b", "a*"));
    assert!(
        !covers("a*b", "a*[b]") && !covers("a*b*", "a*b*c") && !covers("ab*ba", "a*") && !covers("a*", "*a")
    );
    for wrong in ["", "a/b", "a b", "{a,b}*", "[", "a@.x y"] {
        assert!(UnitPattern::parse(wrong).is_err(), "{wrong}");
    }
    let unit = UnitName::parse(r"tpl@a\x2fb.service").expect("valid");
    for right in ["tpl@*", r"tpl@a\x2fb", r"tpl@a\x2f?.service", "*", "tpl@[a-b]*"] {
        assert!(UnitPattern::parse(right).expect(right).matches(&unit), "{right}");
    }
}

proptest! {
    #[test]
    fn nobody_gets_what_no_entry_gives(unit in "[a-c]{1,2}", id in "[a-c]{1,2}", entries in proptest::collection::vec("[a-c*]{1,2}(/[a-c]{1,2})?", 0..4)) {
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let policy = Policy::new(vec![secret("a", &entries)], vec![]);
        let whole = format!("{unit}.service");
        let given = entries.iter().any(|entry| {
            let (pattern, credential) = entry.split_once('/').unwrap_or((entry, "a"));
            credential == id && UnitPattern::parse(pattern).expect("valid").matches(&UnitName::parse(&whole).expect("valid"))
        });
        prop_assert_eq!(judge(&policy, &whole, &id).is_ok(), given);
    }
}

proptest! {
    #[test]
    fn what_is_covered_is_matched(a in "[ab*?]{0,4}(\\[[!]?[ab]\\])?[ab*]{0,2}", b in "[ab*?]{0,4}(\\[[!]?[ab]\\])?[ab*]{0,2}", text in "[ab]{0,6}") {
        let (a, b) = (Glob::parse(&a).expect("valid"), Glob::parse(&b).expect("valid"));
        if a.covers(&b) && b.matches(&text) {
            prop_assert!(a.matches(&text), "{:?} covers {:?}, and does not match {:?}", a, b, text);
        }
    }
}

#[test]
fn what_a_rule_gives_by_a_pattern_is_known() {
    let mut named = rule("app@*", "token", "op://v/{instance}/token");
    named.credentials.push(Glob::parse("tls-*").expect("valid"));
    let policy = Policy::new(
        vec![secret("db", &["app@a", "web@*"]), secret("key", &["app@a", "web@*"]), secret("k", &["*/key"])],
        vec![named, rule("*", "db", "op://v/i/f"), rule("*", "k*", "op://v/i/f")],
    );
    for (unit, credential, by_pattern) in [
        ("app@a.service", "key", false),
        ("web@b.service", "key", false),
        ("app@a.service", "k2", true),
        ("app@a.service", "tls-key", true),
        ("app@a.service", "token", false),
        ("app@a.service", "db", false),
        ("web@b.service", "db", false),
        ("app@a.service", "other", false),
        ("other.service", "tls-key", false),
    ] {
        let (unit, id) =
            (UnitName::parse(unit).expect("valid"), CredentialId::parse(credential).expect("valid"));
        assert_eq!(policy.rule_by_pattern(&unit, &id).is_some(), by_pattern, "{unit} {credential}");
    }
}

#[test]
fn a_denial_names_what_has_the_id_as_its_name_before_what_is_loaded_under_it() {
    let policy = Policy::new(
        vec![secret("other", &["app/db"]), secret("db", &["app/key"]), secret("last", &["app/db-2"])],
        vec![],
    );
    for (id, name) in [("db", "db"), ("db-2", "last"), ("key", "db"), ("last", "last")] {
        match judge(&policy, "web.service", id) {
            Err(Denial::NotNamed { name: found, .. }) => assert_eq!(found.as_str(), name, "{id}"),
            other => panic!("{id}: {other:?}"),
        }
    }
    assert_eq!(policy.by_name("last").map(Deliverable::label), Some("last"));
    assert_eq!(policy.by_name("key"), None, "an ID is no name");
}

#[test]
fn a_denial_on_nixos_names_options() {
    let secrets = vec![
        secret("db", &["app/dbpass"]),
        secret("a.b", &["x"]),
        secret("one", &["y*/twice"]),
        secret("two", &["*y/twice"]),
    ];
    let mut policy = Policy::new(secrets, vec![]);
    policy.set_by_nixos(true);
    for (unit, id, cause, remedy) in [
        (
            "web@1.service",
            "key",
            "no secret, template or rule",
            "declare it in the configuration of NixOS: systemd.services.\"web@\".onecred.credentials.key = \"op://VAULT/ITEM/FIELD\"; then: nixos-rebuild switch",
        ),
        (
            "x.socket",
            "key",
            "no secret, template or rule",
            "declare it in the configuration of NixOS: services.onecred.secrets.key = { reference = \"op://VAULT/ITEM/FIELD\"; units = [ \"x.socket\" ]; }; then: nixos-rebuild switch",
        ),
        (
            "yy.service",
            "twice",
            "several (one, two)",
            "name yy.service in the units of only one of them, then: nixos-rebuild switch",
        ),
        (
            "web.service",
            "db",
            "secret db (services.onecred.secrets.db) does not name",
            "to allow it, add \"web.service\" to services.onecred.secrets.db.units, then: nixos-rebuild switch",
        ),
        (
            "web.service",
            "a.b",
            "(services.onecred.secrets.\"a.b\")",
            "to services.onecred.secrets.\"a.b\".units",
        ),
    ] {
        let denial = judge(&policy, unit, id).unwrap_err();
        let (unit, id) = (UnitName::parse(unit).unwrap(), CredentialId::parse(id).unwrap());
        let said = (denial.cause(&unit, &id), denial.remedy(&unit, &id));
        assert!(said.0.contains(cause) && said.1.contains(remedy), "{said:?}");
    }
}
