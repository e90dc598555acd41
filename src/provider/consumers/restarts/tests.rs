use std::path::Path;

use super::*;

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
