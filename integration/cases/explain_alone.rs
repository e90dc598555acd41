//! Tests of `onecred explain` that need 1Password to be unreachable, an override, or a changed unit.
use crate::explain::{becomes, explained, stage, unit};
use onecred_integration::{cases, installed::SOCKET, machine::wait_until, stage::Stage, theme::Theme};
use serde_json::Value;

/// Cases that need 1Password to be unreachable, or an override.
pub const THEME: Theme = Theme {
    name: "explain_alone",
    stage,
    shared: false,
    cases: cases![
        // looking up another secret fetches ahead what units on this machine may have
        a_unit_before_the_network_is_not_looked_up_for,
        what_a_user_cannot_examine_is_unknown,
        overrides_and_outages,
        a_socket_that_was_stopped,
        what_is_loaded_counts_until_a_reload
    ],
};

fn what_is_loaded_counts_until_a_reload(stage: &Stage) {
    let text = |lines: &str| unit(&format!("RemainAfterExit=yes\n{lines}"));
    let name = "row-outdated.service";
    stage.units([(name, text(&format!("LoadCredential=db:{SOCKET}")).as_str())]);
    stage.run(&["systemctl", "start", name]).ok();
    assert!(stage.taken(name, "db").is_some());
    // the unit stays loaded while it is active
    stage.write(&format!("/run/systemd/system/{name}"), text("").as_bytes(), 0o644);
    let said = explained(stage, name, "db");
    assert!(said["notes"].to_string().contains("have changed since systemd loaded them"), "{said}");
    let restarted = |outcome: &str| {
        assert_eq!(explained(stage, name, "db")["outcome"], outcome);
        stage.forget(name);
        stage.run(&["systemctl", "restart", name]).ok();
        assert_eq!(stage.taken(name, "db").is_some(), outcome == "gets");
    };
    restarted("gets");
    stage.run(&["systemctl", "daemon-reload"]).ok();
    restarted("without");
}

fn a_unit_before_the_network_is_not_looked_up_for(stage: &Stage) {
    let text =
        format!("[Unit]\nBefore=network-pre.target\n{}", unit(&format!("LoadCredential=never:{SOCKET}")));
    stage.units([("early.service", text.as_str())]);
    let never = || stage.sh("onecred list --json").ok();
    let state = || {
        let all: Vec<Value> = serde_json::from_str(&never()).expect("a list");
        all.into_iter().find(|one| one["name"] == "never").expect("the secret")["state"].clone()
    };
    let said = explained(stage, "early", "never");
    assert_eq!((&said["outcome"], state()), (&"fails".into(), "never-fetched".into()), "{said}");
    assert!(
        said["problem"].as_str().is_some_and(|it| it.contains("ordered before network-pre.target")),
        "{said}"
    );
    stage.sh("onecred get never").ok();
    let said = explained(stage, "early", "never");
    assert_eq!(said["outcome"], "gets", "{said}");
    assert!(
        said["notes"].to_string().contains(
            "at the next boot early.service and the network, which 1Password needs, wait for each other"
        ),
        "{said}"
    );
}

fn what_a_user_cannot_examine_is_unknown(stage: &Stage) {
    let ours = format!("LoadCredential=db:{SOCKET}");
    stage.sh("mkdir -pm 700 /etc/hidden && head -c 1048576 /dev/zero >/etc/hidden/large && echo no >/etc/no.cred").ok();
    let rule = "polkit.addRule(function(action, subject) { if (action.id == \"org.onecred.credentials1.inspect\" && subject.user == \"news\") return polkit.Result.YES; });";
    stage.write("/srv/news.rules", rule.as_bytes(), 0o644);
    stage.sh("mkdir -p /etc/polkit-1/rules.d && mv /srv/news.rules /etc/polkit-1/rules.d/10-news.rules").ok();
    let of_user = |unit: &str| {
        stage
            .sh(&format!("setpriv --reuid=news --regid=news --clear-groups onecred explain {unit} db --json"))
    };
    stage.units([("row-open.service", unit(&ours).as_str())]);
    explained(stage, "row-open.service", "db");
    wait_until("polkit has the rule", || of_user("row-open").stdout().contains("outcome"));
    let outcome = |unit: &str| {
        let ran = of_user(unit);
        let said: Value =
            serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran}"));
        assert_eq!(ran.code(), Some(if said["gets"] == true { 0 } else { 1 }), "{ran}");
        said["outcome"].as_str().map(str::to_owned)
    };
    assert_eq!(outcome("row-open").as_deref(), Some("gets"));
    for (name, line) in [
        ("file", "LoadCredential=x:/etc/hidden/large"),
        ("directory", "LoadCredential=x:/etc/hidden"),
        ("encrypted", "LoadCredentialEncrypted=x:/etc/no.cred"),
        ("set", "SetCredentialEncrypted=x:bm8gY3JlZGVudGlhbA=="),
        ("environment", "EnvironmentFile=/etc/hidden/*.env"),
    ] {
        let name = format!("row-hides-{name}.service");
        stage.units([(name.as_str(), unit(&format!("{ours}\n{line}")).as_str())]);
        assert_eq!(outcome(&name).as_deref(), Some("unknown"), "{name}");
        assert_eq!(explained(stage, &name, "db")["outcome"], "fails", "{name}");
        assert_eq!(becomes(stage, &name, "db"), "fails", "{name}");
    }
}

fn overrides_and_outages(stage: &Stage) {
    let line = |id: &str| unit(&format!("LoadCredential={id}:{SOCKET}"));
    stage.units([("row-held.service", line("db").as_str()), ("row-away.service", line("nothing").as_str())]);
    stage.connect_goes();
    let said = explained(stage, "row-held", "db");
    assert_eq!(
        (&said["outcome"], &said["error"]["name"]),
        (&"fails".into(), &"org.onecred.Error.Unavailable".into())
    );
    stage.sh("printf %s hunter2 | onecred put db").ok();
    let said = explained(stage, "row-held", "db");
    assert_eq!(
        (&said["outcome"], &said["overrides"]),
        (&"gets".into(), &serde_json::json!(["db (put)"])),
        "{said}"
    );
    assert!(stage.sh("onecred explain row-held db").ok().contains("remove it: onecred release db"));
    assert_eq!(becomes(stage, "row-held.service", "db"), "gets");
    stage.sh("onecred release db; rm /etc/onecred/token; systemctl restart onecred-resolver").ok();
    let said = explained(stage, "row-held", "db");
    assert_eq!(
        (&said["outcome"], &said["error"]["name"]),
        (&"fails".into(), &"org.onecred.Error.NoToken".into())
    );
    assert_eq!(becomes(stage, "row-held.service", "db"), "fails");
}

fn a_socket_that_was_stopped(stage: &Stage) {
    stage.units([("row-stopped.service", unit(&format!("LoadCredential=db:{SOCKET}")).as_str())]);
    assert_eq!(explained(stage, "row-stopped", "db")["outcome"], "gets");
    let stop = "systemctl stop onecred.socket onecred-sealed.socket onecred.service";
    stage.sh(stop).ok();
    assert_eq!(becomes(stage, "row-stopped.service", "db"), "fails");
}
