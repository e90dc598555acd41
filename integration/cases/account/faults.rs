//! Tests of failures at 1Password: what the journal of a unit says, and that everything works again
//! afterwards.
use super::{Account, PASSWORD, asks, begin_anew, configure, setup};
use onecred_integration::{
    cases,
    fake_account::{Fault, Kind},
    fake_connect::vault::fixture,
    stage::Stage,
    theme::Theme,
};
use serde_json::json;

pub const THEME: Theme = Theme {
    name: "account_faults",
    stage: |suite| setup(suite).stage(),
    shared: false,
    cases: cases![
        an_account_that_hangs,
        a_limited_account,
        each_fault_has_its_word_and_ends,
        what_was_there_outlives_each_fault,
        a_token_that_was_revoked
    ],
};

/// The beginning of the paths that onecred requests after the login.
const AFTER_LOGIN: &str = "/api/v1/vault";

fn start(stage: &Stage) -> Account {
    let account = Account::comes(stage, 8443, fixture());
    // separate units for each secret, so that no secret fetches the others ahead
    let secret = |name: &str, reference: &str, age: &str, deadline: &str, unit: &str| json!({ "name": name, "reference": reference, "maxAge": age, "deadline": deadline, "units": [unit] });
    let secrets = [
        secret("warm", "op://My Vault/Case Item/password", "session", "60s", "warm"),
        secret("checked", "op://My Vault/multi/f1", "always", "60s", "checked-*"),
        // an immediate refusal may be late on a slow machine; a wait has a short deadline
        secret("password", "op://My Vault/db/password", "session", "60s", "app-*"),
        secret("brief", "op://My Vault/db/password", "session", "8s", "app-*"),
        secret("limited", "op://a.b_c-d/x/password", "session", "8s", "limited"),
        secret("patient", "op://My Vault/db/username", "session", "60s", "patient"),
    ];
    configure(stage, &json!({ "source": account.source(), "secrets": secrets }));
    stage.write("/etc/onecred/token", account.token(), 0o600);
    account
}

fn each_fault_has_its_word_and_ends(stage: &Stage) {
    let account = start(stage);
    let status = |code| Fault::status(code);
    let body = || Kind::Body { code: 200, content_type: "application/json".into(), text: "{\"x\":1}".into() };
    let rows = [
        ("unauthorised", status(401), "denied the token", "onecred token set"),
        ("internal", status(500), "is away", "500"),
        ("cut", Fault::of(Kind::Close { at: 0 }), "is away", "can reach"),
        (
            "proof",
            Fault::of(Kind::WrongSignature).on("/api/v2/auth/confirm-key"),
            "malformed",
            "changes its answers",
        ),
        ("garbage", Fault::of(body()).on("/api/v1/vaults"), "malformed", "changes its answers"),
        ("no-json", Fault::of(Kind::MalformedJson).on("/api/v1/vaults"), "malformed", "changes its answers"),
    ];
    for (name, fault, cause, remedy) in rows {
        begin_anew(stage);
        account.control().fail(&fault).expect("steered");
        let unit = format!("app-{name}.service");
        let secret = if cause == "is away" { "brief" } else { "password" };
        stage.refuses(&unit, "", secret, &["op://My Vault/db/password", cause, remedy]);
        assert!(!stage.journal(&unit).contains("hunter2"));
        account.control().clear_faults().expect("steered");
    }
    begin_anew(stage);
    stage.gets("app-again.service", "", &[PASSWORD]);
}

/// Whatever arrives instead of a confirmation, the cached value is still served.
fn what_was_there_outlives_each_fault(stage: &Stage) {
    let account = start(stage);
    assert_eq!(asks(stage, "checked-first", "checked"), (Some(0), "prodtok".into()));
    let page = || Kind::Body { code: 200, content_type: "text/html".into(), text: "<p>hello</p>".into() };
    let rows = [
        ("unauthorised", Fault::status(401), "denied"),
        ("forbidden", Fault::status(403).on("/api/v1/vaults"), "denied"),
        ("nowhere", Fault::status(404).on("/api/v1/vaults"), "malformed"),
        ("internal", Fault::status(500), "away"),
        ("closed", Fault::of(Kind::Close { at: 0 }), "away"),
        ("cut", Fault::of(Kind::Truncate { at: 30 }).on("/api/v1/vaults"), "away"),
        ("page", Fault::of(page()), "malformed"),
        ("large", Fault::of(Kind::Huge { bytes: 4 << 20, declared: true }).on("/api/v1/vaults"), "malformed"),
    ];
    for (name, fault, class) in rows {
        // the next processes do not know about the earlier failure, and have the values in the store
        stage.sh("systemctl restart onecred.service onecred-resolver.service").ok();
        // a check has less time than a login may take on a busy machine
        stage.sh("onecred refresh checked").ok();
        account.control().fail(&fault).expect("steered");
        let before = account.calls();
        let unit = format!("checked-{name}.service");
        stage.gets(&unit, "", &[("checked", b"prodtok")]);
        let line = stage.waits_for_line(&unit, "is served from the cache (op://My Vault/multi/f1)");
        assert!(line.contains(&format!("confirmed now: {class}: ")), "{name}: {line}");
        let calls = account.calls() - before;
        assert!(calls <= 12, "{name}: {calls} calls");
        account.control().clear_faults().expect("steered");
    }
}

fn a_token_that_was_revoked(stage: &Stage) {
    let account = start(stage);
    account.control().set_token("another").expect("steered");
    stage.refuses("app-revoked.service", "", "password", &["denied the token", "onecred token set"]);
}

/// Units with a cached value get it, others are refused in time, and everything works again without action.
fn an_account_that_hangs(stage: &Stage) {
    let account = start(stage);
    assert_eq!(asks(stage, "warm", "warm"), (Some(0), "casepw".into()));
    let provider = stage.show("onecred.service", "MainPID");
    account.control().fail(&Fault::of(Kind::Hang).on(AFTER_LOGIN)).expect("steered");
    stage.refuses("app-cold.service", "", "brief", &["away", "no answer"]);
    let before = account.calls();
    assert_eq!(asks(stage, "warm", "warm"), (Some(0), "casepw".into()));
    assert_eq!(account.calls(), before, "a warm value was asked for");
    account.control().clear_faults().expect("steered");
    stage.gets("patient.service", "", &[("patient", b"bob")]);
    assert_eq!(stage.show("onecred.service", "MainPID"), provider, "the provider was restarted");
}

/// Cached values are served with a log line. Other units wait, and the reason is logged.
fn a_limited_account(stage: &Stage) {
    let account = start(stage);
    assert_eq!(asks(stage, "checked-one", "checked"), (Some(0), "prodtok".into()));
    account.control().fail(&Fault::status(429)).expect("steered");
    stage.gets("checked-two.service", "", &[("checked", b"prodtok")]);
    let line = stage.waits_for_line("checked-two.service", "is served from the cache");
    assert!(line.contains("rate limited"), "{line}");
    stage.refuses("limited.service", "", "limited", &["rate limited"]);
}
