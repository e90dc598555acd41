use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::domain::reference::Reference;
use crate::ipc::{Class, Failure};
use crate::provider::store::{Kind, testing};

#[test]
fn a_change_concerns_secrets_and_templates_that_name_units() {
    let text = r#"{ "secrets": [ { "name": "a", "reference": "op://v/a/f", "units": ["x"], "restartUnits": ["x"] },
                                 { "name": "b", "reference": "op://v/b/f", "units": ["x"] },
                                 { "name": "c", "reference": "op://v/c/f", "units": ["x"], "signalUnits": { "x": "SIGHUP" } } ],
                    "templates": [ { "name": "t", "content": "{{b}} {{op://v/d/f}}", "units": ["x"], "reloadUnits": ["x"] },
                                   { "name": "u", "content": "{{a}}", "units": ["x"] } ] }"#;
    let active = ActiveConfig::new(crate::config::from_text(Path::new("s.json"), text).unwrap().settings);
    for (label, expected) in
        [("a", &["a"][..]), ("b", &["t"]), ("c", &["c"]), ("op://v/d/f", &["t"]), ("x", &[])]
    {
        assert_eq!(rotating(&active, |part| part.label == label), expected, "{label}");
    }
    assert_eq!(rotating(&active, |_| true), ["a", "c", "t"]);
}

#[test]
fn measures_in_words() {
    let signal = Measure::Signal(Signal::parse("SIGHUP").unwrap());
    assert!(signal < Measure::Reload && Measure::Reload < Measure::Restart);
    for (measure, word, past, command) in [
        (signal, "SIGHUP", "sent SIGHUP", "systemctl kill --kill-whom=main --signal=SIGHUP"),
        (Measure::Reload, "reload", "reloaded", "systemctl reload"),
        (Measure::Restart, "restart", "restarted", "systemctl restart"),
    ] {
        assert_eq!((measure.as_str(), measure.past().as_str()), (word, past));
        assert_eq!(measure.command(), command);
        let json = serde_json::to_string(&measure).unwrap();
        assert_eq!(serde_json::from_str::<Measure>(&json).unwrap(), measure);
    }
    assert!(serde_json::from_str::<Measure>(r#"{"Signal":"SIGKILL"}"#).is_err());
}

const ROTATING: &str = r#"{ "secrets": [
    { "name": "a", "reference": "op://v/i/password", "units": ["x"], "restartUnits": ["x"] },
    { "name": "b", "reference": "op://v/i/username", "units": ["x"] } ] }"#;

fn restarts() -> Restarts {
    let settings = crate::config::from_text(Path::new("s.json"), ROTATING).unwrap().settings;
    Restarts::new(CurrentConfig::new(ActiveConfig::new(settings)), &Store::none())
}

fn changed(item: &str, field: &str, first: bool) -> Result<Event, RecvError> {
    let Reference { item, field, .. } = Reference::parse(&format!("op://v/{item}/{field}")).unwrap();
    let key = ItemKey::new(&crate::domain::name::SourceName::default_source(), &item);
    Ok(Event::Changed { key, fields: [field].into(), version: 2, first })
}

fn held(name: &str) -> Result<Event, RecvError> {
    Ok(Event::Held { name: name.to_owned() })
}

#[test]
fn which_events_concern_which_secrets() {
    let failure = Failure::new(Class::Away, "cause", "remedy");
    let Ok(Event::Changed { key, .. }) = changed("i", "password", false) else { return };
    let failed = Ok(Event::Failed { key, fields: None, failure });
    for (case, event, news, noted) in [
        ("another value", changed("i", "password", false), Some(true), Some(false)),
        ("another value of a field without units", changed("i", "username", false), Some(true), None),
        ("another value in another item", changed("j", "password", false), Some(true), None),
        ("a value that no unit received before", changed("i", "password", true), Some(true), None),
        ("an override", held("a"), Some(true), Some(false)),
        ("an override of a secret without units", held("b"), Some(true), None),
        ("another configuration", Ok(Event::Configured), Some(true), None),
        ("a failure", failed, Some(false), None),
        ("lost events", Err(RecvError::Lagged(1)), Some(true), None),
        ("the end", Err(RecvError::Closed), None, None),
    ] {
        let restarts = restarts();
        assert_eq!(restarts.note(event), news, "{case}");
        let expected: BTreeMap<_, _> = noted.into_iter().map(|first| ("a".to_owned(), first)).collect();
        assert_eq!(restarts.pending().news(), expected, "{case}");
    }
}

#[test]
fn a_value_that_came_again_concerns_those_who_received_another() {
    for event in [changed("i", "password", true), Err(RecvError::Lagged(1))] {
        let restarts = restarts();
        let name = parts(&restarts.config.get(), "a")[0].identity();
        let part = Part { name, digest: Some(Digest::testing(1)), version: 1 };
        restarts.received().note("x.service", &"1".to_owned(), &[part], BootTime::default());
        assert_eq!(restarts.note(event.clone()), Some(true));
        assert_eq!(restarts.pending().news(), BTreeMap::from([("a".to_owned(), true)]), "{event:?}");
    }
}

#[test]
fn the_rotation_is_that_of_the_secret_or_template() {
    let text = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["x"], "restartUnits": ["x"] } ],
                    "templates": [ { "name": "t", "content": "{{a}}", "units": ["x"], "reloadUnits": ["x", "y"] } ] }"#;
    let active = ActiveConfig::new(crate::config::from_text(Path::new("s.json"), text).unwrap().settings);
    let units = |name| {
        rotation(&active, name).map(|rotation| (rotation.restart_units.len(), rotation.reload_units.len()))
    };
    assert_eq!((units("a"), units("t"), units("x")), (Some((1, 0)), Some((0, 2)), None));
}

#[test]
fn the_reason_is_shown_for_the_secret_whose_restart_is_withheld() {
    let restarts = restarts();
    restarts.pending().note("a".into(), false);
    let news = restarts.pending().news();
    let due = Due { unit: "x.service".into(), measure: Measure::Restart, secret: "a".into() };
    restarts.pending().listed(vec![due], &news, 100);
    assert_eq!(restarts.withheld_for("a"), [], "it is not withheld yet");
    restarts.pending().decide("x.service", Some(Problem::Refused("a".into(), "it is empty".into())));
    assert_eq!(
        restarts.withheld_for("a"),
        [("x.service".to_owned(), "credential a: it is empty".to_owned())]
    );
    assert_eq!(restarts.withheld_for("b"), []);
}

#[test]
fn the_next_provider_continues_with_the_restarts_that_are_due() {
    let folder = testing::folder();
    let store = Store::open(folder.path(), Kind::Anything, 1 << 20).unwrap();
    let settings = || crate::config::from_text(Path::new("s.json"), ROTATING).unwrap().settings;
    let next = || Restarts::new(CurrentConfig::new(ActiveConfig::new(settings())), &store);
    let first = next();
    first.keep(&store);
    assert_eq!(store.pending(), None, "nothing is due");
    first.pending().note("a".into(), false);
    first.keep(&store);
    assert_eq!(next().pending().news(), first.pending().news());
    *first.pending() = Pending::default();
    first.keep(&store);
    assert_eq!(*next().pending(), Pending::default());
    let part = Part { name: "a".into(), digest: Some(Digest::testing(1)), version: 1 };
    first.received().note("x.service", &"1".to_owned(), &[part], BootTime::default());
    first.save_received(&store);
    assert!(next().received().knows("a"));
}

#[test]
fn only_units_that_may_load_a_template_have_an_old_value_of_it() {
    let text = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["x", "y"] } ],
                    "templates": [ { "name": "t", "content": "{{a}}", "units": ["x", "z@*"] } ] }"#;
    let active = ActiveConfig::new(crate::config::from_text(Path::new("s.json"), text).unwrap().settings);
    for (name, unit, expected) in [
        ("a", "y.service", true),
        ("t", "x.service", true),
        ("t", "z@1.service", true),
        ("t", "y.service", false),
        ("t", "no unit", false),
    ] {
        assert_eq!(may_load(&active, name, unit), expected, "{name} {unit}");
    }
}
