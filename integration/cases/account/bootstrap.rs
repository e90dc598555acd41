//! Tests the bootstrap of a fleet in four steps: deploy without a token, write the token to a separate file,
//! switch, validate.
use super::{Account, configure, setup};
use onecred_integration::{
    cases,
    fake_connect::vault::fixture,
    machine::Plan,
    stage::{Stage, consumer},
    theme::Theme,
};
use serde_json::json;

pub const THEME: Theme = Theme {
    name: "account_bootstrap",
    stage: |suite| setup(suite).plan(deployed).stage(),
    shared: false,
    cases: cases![four_steps],
};

const TOKEN: &str = "/persist/root/.config/op/token";

/// The deployment: a disk that is mounted late and stores the token, and a drop-in with its path.
fn deployed(plan: Plan) -> Plan {
    let drop_in = format!("[Unit]\nRequiresMountsFor=/persist\n[Service]\nLoadCredential=token:{TOKEN}\n");
    plan.unit("persist.mount", "[Mount]\nWhat=/srv/disk\nWhere=/persist\nType=none\nOptions=bind\n")
        .unit("app.service", &consumer("", &["password"]))
        .file("/etc/systemd/system/onecred-resolver.service.d/token.conf", drop_in, 0o644)
        .prepare("mkdir -p /srv/disk /persist")
}

fn four_steps(stage: &Stage) {
    let account = Account::comes(stage, 8443, fixture());
    let secret = json!({ "name": "password", "reference": "op://My Vault/db/password", "units": ["app"] });

    // deploy: everything is active except what needs a secret, and that reports what is missing
    configure(stage, &json!({ "source": account.source(), "secrets": [secret] }));
    stage.run(&["systemctl", "start", "app.service"]);
    stage.was_refused("app.service", "password", &["no token", "onecred token set"]);
    for unit in ["onecred.service", "onecred-resolver.service", "persist.mount"] {
        assert_eq!(stage.show(unit, "ActiveState"), "active", "{unit}");
    }
    stage.sh("onecred check").ok();
    let missing = stage.sh("onecred token check").fails();
    assert!(missing.contains("no token"), "{missing}");

    // write the token
    stage.write(TOKEN, format!("{}\n", account.token()), 0o600);

    // switch: restart what was changed
    stage.sh("systemctl daemon-reload; systemctl restart onecred-resolver.service").ok();
    stage.starts("app.service", &[super::PASSWORD]);

    // validate
    let check = stage.sh("onecred token check");
    assert!(check.succeeded() && check.stdout().contains("My Vault"), "{check}");
    let check = stage.sh(&format!("chmod 640 {TOKEN}; onecred token check"));
    assert!(check.succeeded() && check.stderr().contains(&format!("the group of {TOKEN}")), "{check}");
    let open = stage.sh(&format!("chmod 644 {TOKEN}; onecred token check")).fails();
    assert!(open.contains(TOKEN) && open.contains("0644"), "{open}");

    // as at the next boot: the disk is not mounted, and is mounted before the resolver starts
    stage.sh("systemctl stop onecred.service persist.mount; rm -rf /run/onecred/store/*; ! mountpoint -q /persist").ok();
    assert_eq!(stage.show("onecred-resolver.service", "ActiveState"), "inactive", "it goes with the disk");
    stage.starts("app.service", &[super::PASSWORD]);
    stage.sh("mountpoint -q /persist").ok();
}
