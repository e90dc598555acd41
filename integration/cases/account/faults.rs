//! What goes wrong at 1Password, as a unit's journal tells it; and that it is over when it is over.
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

/// Begins what onecred asks for after the login.
const AFTER_LOGIN: &str = "/api/v1/vault";

fn start(stage: &Stage) -> Account {
    let account = Account::comes(stage, 8443, fixture());
    // each has units of its own, so that one brings none of the others along
    let secret = |name: &str, reference: &str, age: &str, deadline: &str, unit: &str| json!({ "name": name, "reference": reference, "maxAge": age, "deadline": deadline, "units": [unit] });
    let secrets = [
        secret("warm", "op://My Vault/Case Item/password", "session", "60s", "warm"),
        secret("checked", "op://My Vault/multi/f1", "always", "60s", "checked-*"),
        // what is refused at once may be late on a slow machine, and what is waited for ends within a short while
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
        ("cut", Fault::of(Kind::Close { at: 0 }), "is away", "reaches"),
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

/// Whatever comes instead of a confirmation, it says nothing against the value that is there.
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
        (
            "large",
            Fault::of(Kind::Huge { bytes: 100 << 20, declared: true }).on("/api/v1/vaults"),
            "malformed",
        ),
    ];
    for (name, fault, class) in rows {
        // the next ones know nothing of the trouble before, and have what is in the store
        stage.sh("systemctl restart onecred.service onecred-resolver.service").ok();
        // a check has less time than a login can take on a busy machine
        stage.sh("onecred refresh checked").ok();
        account.control().fail(&fault).expect("steered");
        let before = account.calls();
        let unit = format!("checked-{name}.service");
        stage.gets(&unit, "", &[("checked", b"prodtok")]);
        let line = stage.waits_for_line(&unit, "is served as it was fetched before (op://My Vault/multi/f1)");
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

/// Who has been served stays so, who has not is refused in time, and the end of it needs no hand.
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

/// What there is, is served with a word about it; what there is not waits, and is told why.
fn a_limited_account(stage: &Stage) {
    let account = start(stage);
    assert_eq!(asks(stage, "checked-one", "checked"), (Some(0), "prodtok".into()));
    account.control().fail(&Fault::status(429)).expect("steered");
    stage.gets("checked-two.service", "", &[("checked", b"prodtok")]);
    let line = stage.waits_for_line("checked-two.service", "is served as it was fetched before");
    assert!(line.contains("rate limited"), "{line}");
    stage.refuses("limited.service", "", "limited", &["rate limited"]);
}
