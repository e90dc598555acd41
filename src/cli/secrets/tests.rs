//! Tests of listing secrets.

use zbus::Variant;

use super::*;

/// One secret in each state.
pub(in crate::cli) fn sample() -> Vec<Listed> {
    let secret = |name: &str, state: &str, units: &[&str]| Listed {
        name: name.into(),
        reference: format!("op://Servers/{name}/password"),
        source: "default".into(),
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        state: state.into(),
        declared_at: "/etc/onecred/secrets.json:3".into(),
        path: format!("/org/onecred/Credentials1/secret/{name}"),
        ..Listed::default()
    };
    let message = "not found: no item \"openai\"; make it".to_owned();
    let error = Some(Fault { name: "org.onecred.Error.NotFound".into(), message });
    vec![
        Listed { error, ..secret("api-key", "failing", &["web.service"]) },
        Listed {
            held: Some("put".into()),
            version: Some("7".into()),
            age: Some(3_600),
            size: Some(7),
            answers: 4,
            ..secret("db-password", "held", &["app.service/password", "app@*.service"])
        },
        secret("never", "never-fetched", &[]),
        Listed { version: Some("12".into()), age: Some(5), ..secret("token", "fresh", &["app.service"]) },
    ]
}

#[test]
fn columns_for_people() {
    let expected = "\
NAME         STATE          VERSION  AGE     SOURCE   UNITS
api-key      failing        -        -       default  web.service
db-password  held (put)     7        60 min  default  app.service/password,
                                                      app@*.service
never        never-fetched  -        -       default
token        fresh          12       5 s     default  app.service

api-key: not found: no item \"openai\"; make it
";
    assert_eq!(screen(&sample(), &[], &[], Paint::NONE), expected);
    assert!(expected.lines().all(|line| line.len() <= 80));
    assert_eq!(screen(&[], &[], &[], Paint::NONE), "no secrets are declared\n");
}

#[test]
fn what_is_withheld_is_listed() {
    let reason = "app.service: credential db: the field is empty".to_owned();
    let secret =
        Listed { name: "db".into(), state: "fresh".into(), withheld: vec![reason], ..Listed::default() };
    let shown = screen(&[secret], &[], &[], Paint::NONE);
    assert!(
        shown.ends_with("\n\nrestart or reload withheld:\napp.service: credential db: the field is empty\n"),
        "{shown}"
    );
}

#[test]
fn units_with_an_old_value_are_listed() {
    let secret = |name: &str, units: &[&str]| Listed {
        name: name.into(),
        outdated: units.iter().map(|unit| (*unit).to_owned()).collect(),
        ..Listed::default()
    };
    let secrets = [secret("db", &["app.service: version 2", "web.service: version 1"]), secret("other", &[])];
    let template = TemplateStatus {
        name: "conf".into(),
        outdated: vec!["app.service: version 4".into()],
        ..TemplateStatus::default()
    };
    let shown = screen(&secrets, &[template], &[], Paint::NONE);
    let expected = "\n\nrunning with an old value:\ndb    app.service: version 2\ndb    web.service: version 1\nconf  app.service: version 4\n";
    assert!(shown.ends_with(&expected[1..]), "{shown}");
}

#[test]
fn json_for_programs() {
    let json = serde_json::to_value(sample()).unwrap();
    let expected = serde_json::json!({
        "name": "db-password", "reference": "op://Servers/db-password/password", "source": "default",
        "units": ["app.service/password", "app@*.service"], "state": "held", "version": "7", "age": 3600, "held": "put",
        "error": null, "sealedError": null, "size": 7, "answers": 4, "refusals": 0, "withheld": [], "outdated": [], "declaredAt": "/etc/onecred/secrets.json:3", "path": "/org/onecred/Credentials1/secret/db-password",
    });
    assert_eq!(json[1], expected);
    assert_eq!(json[0]["error"]["name"], "org.onecred.Error.NotFound");
    assert_eq!((&json[2]["version"], &json[2]["age"]), (&serde_json::Value::Null, &serde_json::Value::Null));
}

#[test]
fn what_the_bus_tells_is_taken_as_it_is_and_what_it_does_not_is_left_out() {
    let mut dict = HashMap::new();
    let mut put = |key: &str, value: Variant<'_>| {
        dict.insert(key.to_owned(), value.try_to_owned().unwrap());
    };
    put("Name", "a".into());
    put("Units", Variant::from(vec!["a.service".to_owned()]));
    put("Version", 0_u64.into());
    put("Age", (-1_i64).into());
    put("LastError", "".into());
    put("Something", "new".into());
    let listed = Listed::of(dict);
    assert_eq!((listed.name.as_str(), listed.units.len()), ("a", 1));
    assert_eq!((listed.version, listed.age, listed.error), (None, None, None));
    let mut dict = HashMap::new();
    dict.insert("Version".to_owned(), Variant::from(3_u64).try_to_owned().unwrap());
    dict.insert("Age".to_owned(), Variant::from(0_i64).try_to_owned().unwrap());
    let listed = Listed::of(dict);
    assert_eq!((listed.version.as_deref(), listed.age), (Some("3"), Some(0)));
    assert_eq!((listed.size, listed.sealed_error), (None, None));
    let size = |size: i64| {
        Listed::of([("Size".to_owned(), Variant::from(size).try_to_owned().unwrap())].into()).size
    };
    assert_eq!((size(-1), size(0), size(9)), (None, Some(0), Some(9)));
}

#[test]
fn a_value_that_some_units_are_refused_is_reported() {
    let sealed_error = Some("too large for the sealed socket: x".into());
    let secret = Listed { name: "cert".into(), state: "fresh".into(), sealed_error, ..Listed::default() };
    assert!(!secret.is_unusable());
    let text = screen(&[secret], &[], &[], Paint::NONE);
    assert!(text.ends_with("\n\ncert: too large for the sealed socket: x\n"), "{text}");
}

#[test]
fn what_is_wrong_with_a_template_is_shown_unless_its_secret_shows_it() {
    let fault =
        |message: &str| Some(Fault { name: "org.onecred.Error.NotFound".into(), message: message.into() });
    let template = |name: &str, error| TemplateStatus {
        name: name.into(),
        state: "failing".into(),
        error,
        ..TemplateStatus::default()
    };
    let same = fault("template same: op://Servers/api-key/password: not found: no item \"openai\"; make it");
    let own = fault("template own: the whole: too large: x");
    let text = screen(&sample(), &[template("same", same), template("own", own)], &[], Paint::NONE);
    let expected = "
TEMPLATE  STATE    UNITS
same      failing
own       failing

api-key: not found: no item \"openai\"; make it
own: the whole: too large: x
";
    assert!(text.ends_with(expected), "{text}");
}
