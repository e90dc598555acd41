use std::path::Path;

use super::*;

const PLAIN: &str = r#"{
  "secrets": [
    { "path": "databasePassword", "reference": "op://Homelab/Database/password", "owner": "postgres", "group": "postgres", "mode": "0600", "services": ["postgresql"] },
    { "path": "ssl/cert.pem", "reference": "op://Homelab/TLS/cert.pem", "kind": "file", "mode": "0644" },
    { "path": "/etc/ssl/private/key.pem", "reference": "op://Homelab/TLS/key", "symlinks": ["/etc/nginx/key.pem"], "mode": "0660" },
    { "path": "/var/lib/opnix/secrets/api key", "reference": "op://Homelab/API/credential" },
    { "path": "api key", "reference": "op://Homelab/API/other" },
    { "path": "/run/keys/app", "reference": "op://Homelab/App/key",
      "services": { "caddy": { "signal": "SIGHUP" }, "app": { "restart": true, "after": ["network.target"] }, "idle": { "restart": false } } }
  ]
}"#;

const TEMPLATED: &str = r#"{
  "pathTemplate": "/run/secrets/{service}/{environment}/{name}",
  "defaults": { "environment": "prod" },
  "secrets": [
    { "reference": "op://V/I/token", "variables": { "service": "web", "name": "token" } },
    { "path": "{service}/test/token", "reference": "op://V/I/token", "variables": { "service": "web" } },
    { "path": "{lost}", "reference": "op://V/I/lost" }
  ],
  "systemdIntegration": { "enable": true, "services": ["web", "worker"], "restartOnChange": true,
    "changeDetection": { "enable": true, "hashFile": "/var/lib/opnix/hashes" }, "polling": { "enable": true, "interval": "5m" },
    "errorHandling": { "rollbackOnFailure": true, "continueOnError": false, "maxRetries": 3 } }
}"#;

/// The problems of a converted configuration, which should be none.
fn check(json: &str) -> Vec<String> {
    let loaded = super::super::from_text(Path::new("secrets.json"), json);
    let loaded = loaded.unwrap_or_else(|report| panic!("{report}\n{json}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn secrets_owners_and_services_are_carried_over() {
    let Imported { json, notes } = import_opnix(PLAIN).expect("OpNix's");
    let expected = r#"{
  "secrets": [
    { "name": "databasePassword", "reference": "op://Homelab/Database/password", "target": "/run/secrets/databasePassword", "owner": "postgres", "group": "postgres", "mode": "0600", "restartUnits": ["postgresql"] },
    { "name": "ssl-cert.pem", "reference": "op://Homelab/TLS/cert.pem", "target": "/run/secrets/ssl/cert.pem", "mode": "0644" },
    { "name": "etc-ssl-private-key.pem", "reference": "op://Homelab/TLS/key", "target": "/run/secrets/etc/ssl/private/key.pem", "mode": "0640", "links": ["/etc/ssl/private/key.pem", "/etc/nginx/key.pem"] },
    { "name": "api-key", "reference": "op://Homelab/API/credential", "target": "/run/secrets/api key" },
    { "name": "api-key-2", "reference": "op://Homelab/API/other", "target": "/run/secrets/api key" },
    { "name": "run-keys-app", "reference": "op://Homelab/App/key", "target": "/run/secrets/run/keys/app", "links": ["/run/keys/app"], "restartUnits": ["app"], "reloadUnits": ["caddy"] }
  ]
}
"#;
    assert_eq!(json, expected);
    let expected = [
        "line 5: /etc/ssl/private/key.pem becomes /run/secrets/etc/ssl/private/key.pem",
        "line 5: the mode of etc-ssl-private-key.pem becomes 0640",
        "line 5: the link /etc/ssl/private/key.pem of etc-ssl-private-key.pem: grant onecred.service write access",
        "line 5: the link /etc/nginx/key.pem of etc-ssl-private-key.pem: grant onecred.service",
        "line 8: /run/keys/app becomes /run/secrets/run/keys/app",
        "line 8: the link /run/keys/app of run-keys-app: grant onecred.service",
        "line 9: the signal for caddy on a change of run-keys-app: the unit is reloaded instead",
        "line 9: the \"after\" of app: add this to the unit",
    ];
    assert_eq!(notes.len(), expected.len(), "{notes:#?}");
    for (note, start) in notes.iter().zip(expected) {
        assert!(note.starts_with(start), "{note}");
    }
    let one_each = PLAIN.replace("\"api key\"", "\"other key\"");
    let warned = check(&import_opnix(&one_each).expect("OpNix's").json);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("lets every user read the secret"), "OpNix's 0644 is told: {warned:?}");
}

#[test]
fn path_templates_are_filled_in() {
    let Imported { json, notes } = import_opnix(TEMPLATED).expect("OpNix's");
    assert_eq!(check(&json), [""; 0]);
    for target in ["/run/secrets/web/prod/token", "/run/secrets/web/test/token"] {
        assert!(
            json.contains(&format!("\"target\": \"{target}\", \"restartUnits\": [\"web\", \"worker\"]")),
            "{json}"
        );
    }
    assert!(!json.contains("lost"), "{json}");
    assert!(json.contains("\"defaults\": {\n    \"refresh\": \"300s\"\n  }"), "{json}");
    let told = notes.join("\n");
    for word in [
        "line 7: a secret is left out: the secret does not set \"lost\", which \"path\" uses",
        "\"changeDetection\"",
        "\"errorHandling\"",
    ] {
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn it_is_accepted_as_it_is() {
    let loaded = super::super::from_text(Path::new("secrets.json"), TEMPLATED).expect("fine");
    assert_eq!(loaded.settings.policy.secrets().count(), 2);
    let told: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(
        told[0].contains("secrets.json:1:1: warning: this is an OpNix file")
            && told[0].contains("onecred import opnix"),
        "{told:?}"
    );
    assert!(
        told.iter().any(|line| line.contains("secrets.json:7:5") && line.contains("left out")),
        "{told:?}"
    );
    let wrong = TEMPLATED.replace("op://V/I/lost", "op://V").replace("{lost}\"", "/run/x/lost\"");
    let report = super::super::from_text(Path::new("secrets.json"), &wrong).expect_err("a bad reference");
    assert!(report.to_string().contains("secrets.json:7:43: error:"), "{report}");
}

#[test]
fn ours_is_none_of_theirs() {
    for ours in [
        r#"{ "secrets": [] }"#,
        r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f" } ] }"#,
        "{}",
        "[]",
        r#"{ "secrets": [ { "reference": "op://v/i/f" } ] }"#,
    ] {
        assert!(convert(&json::parse(ours).expect("JSON")).is_none(), "{ours}");
        assert!(import_opnix(ours).expect_err("ours").contains("not an OpNix file"));
    }
    assert!(import_opnix("{\n\n").expect_err("cut off").contains("line 1"));
}

#[test]
fn polling_becomes_refresh() {
    let integration =
        r#""systemdIntegration": { "enable": true, "polling": { "enable": true, "interval": "5m" } }"#;
    for (changed, refresh, note) in [
        (integration.to_owned(), Some("300s"), None),
        (integration.replace(r#", "interval": "5m""#, ""), Some("21600s"), None),
        (
            integration.replace("5m", "10s"),
            Some("60s"),
            Some(r#"line 1: the interval "10s": it becomes 60s"#),
        ),
        (
            integration.replace("5m", "1y"),
            Some("2592000s"),
            Some(r#"the interval "1y": it becomes 2592000s"#),
        ),
        (
            integration.replace("5m", "soon"),
            Some("6h"),
            Some(r#"the interval "soon": it is not a time span"#),
        ),
        (integration.replace(r#"polling": { "enable": true"#, r#"polling": { "enable": false"#), None, None),
        // OpNix polls only with its integration
        (integration.replace(r#"{ "enable": true, "polling"#, r#"{ "enable": false, "polling"#), None, None),
    ] {
        let file = format!(r#"{{ {changed}, "secrets": [ {{ "path": "a", "reference": "op://V/I/f" }} ] }}"#);
        let Imported { json, notes } = import_opnix(&file).expect("OpNix's");
        let made: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(made["defaults"]["refresh"].as_str(), refresh, "{changed}");
        assert_eq!(check(&json), [""; 0]);
        assert_eq!(notes.len(), usize::from(note.is_some()), "{notes:?}");
        assert!(note.is_none_or(|note| notes[0].contains(note)), "{notes:?}");
    }
}
