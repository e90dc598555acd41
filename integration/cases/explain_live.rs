//! Tests of `onecred explain` and `check --live` with separate configurations.
use crate::explain::explained;
use onecred_integration::{
    cases, installed::SOCKET, machine::Suite, setup::Setup, stage::Stage, theme::Theme,
};
use serde_json::json;

/// Cases with a separate configuration.
pub const THEME: Theme = Theme {
    name: "explain_live",
    stage: live_stage,
    shared: false,
    cases: cases![check_live_looks_at_what_globs_name, onecreds_own_units_are_explained],
};

/// A published secret, a secret for a glob, and a rule whose reference contains the instance.
fn live_stage(suite: Suite) -> Stage {
    let reference = "op://My Vault/db/password";
    Setup::connect(suite)
        .entry(json!({ "name": "db", "reference": reference, "units": ["app", "g-*"], "target": "/run/secrets/db" }))
        .rule(&["w@*"], &["password"], "op://My Vault/{instance}/password")
        .stage()
}

fn check_live_looks_at_what_globs_name(stage: &Stage) {
    let line = |line: &str| format!("[Service]\nType=oneshot\n{line}\nExecStart=/bin/true\n");
    let plain = |id: &str| line(&format!("LoadCredential={id}:{SOCKET}"));
    stage.units([
        ("app.service", line("LoadCredential=db:/run/secrets/db").as_str()),
        ("g-1.service", plain("db").as_str()),
        ("w@.service", plain("password").as_str()),
    ]);
    // onecred's own handle asks differently, and no instance of the rule has to exist
    stage
        .sh("systemctl start onecred-file@db.service; systemctl start app.service g-1.service w@db.service")
        .ok();
    let live = stage.sh("onecred check --live");
    assert_eq!(live.code(), Some(0), "{live}");
    stage.units([
        ("app.service", line("LoadCredentialEncrypted=db:/run/secrets/db").as_str()),
        ("g-2.service", line("LoadCredential=db").as_str()),
    ]);
    stage.run(&["systemctl", "daemon-reload"]).ok();
    stage.sh("systemctl start app.service").fails();
    let live = stage.sh("onecred check --live");
    assert_eq!(live.code(), Some(1), "{live}");
    for unit in ["app.service: ", "g-2.service: "] {
        assert!(live.stdout().contains(unit), "{live}");
    }
    assert_eq!(explained(stage, "app", "db")["outcome"], "fails");
    // no advice on granting a credential to a unit that cannot ask
    let target = stage.sh("onecred explain basic.target db").stdout();
    assert!(target.contains("problem") && !target.contains("because"), "{target}");
}

fn onecreds_own_units_are_explained(stage: &Stage) {
    let publish = "onecred-publish.service";
    for (unit, outcome, words) in [
        ("onecred-file@db.service", "gets", "it starts once /run/secrets/db is published"),
        ("onecred-file@none.service", "fails", "no secret or template \\\"none\\\" with a"),
        (publish, "gets", "it starts once all files are published"),
    ] {
        let said = explained(stage, unit, "file");
        assert_eq!(said["outcome"], outcome, "{said}");
        assert!(said.to_string().contains(words), "{said}");
        assert_eq!(stage.run(&["systemctl", "start", unit]).succeeded(), outcome == "gets", "{unit}");
    }
    let explain = "busctl call org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager Explain ss";
    let said = stage.sh(&format!("{explain} onecred-file@db.service file")).ok();
    assert!(said.starts_with("bsss true \"db\" \"op://My Vault/db/password\""), "{said}");
    // a file that cannot be written
    let config = stage.read("/etc/onecred/secrets.json");
    let config =
        String::from_utf8_lossy(&config).replace("\"target\":", "\"owner\": \"nobody-knows\", \"target\":");
    stage.write("/etc/onecred/secrets.json", config.as_bytes(), 0o644);
    stage.sh("onecred reload").ok();
    for unit in ["onecred-file@db.service", publish] {
        let said = explained(stage, unit, "file");
        assert_eq!(said["outcome"], "fails", "{said}");
        assert!(said["problem"].as_str().is_some_and(|it| it.contains("nobody-knows")), "{said}");
        stage.run(&["systemctl", "restart", unit]).fails();
    }
    let live = stage.sh("onecred check --live");
    assert!(live.code() == Some(1) && live.stdout().contains("nobody-knows"), "{live}");
}
