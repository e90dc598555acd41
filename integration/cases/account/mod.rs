//! Cases with a service account on booted machines: common helpers, and their themes, one per file.
mod bootstrap;
mod faults;
mod greedy;
mod library;
mod sandbox;
mod sources;
mod token;
mod tpm;

use onecred_integration::{
    fake_account::{Control, FakeAccount, Options},
    installed::SOCKET,
    machine::Suite,
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use serde_json::{Value, json};
use std::{fs, net::Ipv4Addr, path::Path, process::Command, sync::OnceLock};

/// All themes.
pub const THEMES: [&Theme; 8] = [
    &token::THEME,
    &tpm::THEME,
    &faults::THEME,
    &greedy::THEME,
    &sources::THEME,
    &library::THEME,
    &sandbox::THEME,
    &bootstrap::THEME,
];

/// The path where a distribution's package installs the SDK core.
const LIBRARY: &str = "/usr/lib/onecred/libop_uniffi_core.so";
const CONFIG: &str = "/etc/onecred/secrets.json";
const PASSWORD: (&str, &[u8]) = ("password", b"hunter2");

/// 1Password's SDK core.
fn core() -> &'static [u8] {
    static CORE: OnceLock<Vec<u8>> = OnceLock::new();
    CORE.get_or_init(|| {
        let found = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/core")).output();
        let found = found.unwrap_or_else(|error| panic!("integration/core does not run: {error}"));
        assert!(found.status.success(), "no core: {}", String::from_utf8_lossy(&found.stderr));
        let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    })
}

/// A machine that has the SDK core, but neither a configuration nor a token.
fn setup(suite: Suite) -> Setup {
    prepared(Setup::vault(suite)).plan(|plan| plan.file(LIBRARY, core(), 0o644))
}

/// Adds the file that a machine needs for fakes with TLS; a bare root does not have it.
fn prepared(setup: Setup) -> Setup {
    setup.plan(|plan| plan.file("/etc/hosts", "127.0.0.1 localhost\n", 0o644))
}

/// A fake account on a port of a machine, with a directory for its certificates.
struct Account {
    fake: FakeAccount,
    port: u16,
    _tls: tempfile::TempDir,
}

impl Account {
    /// Starts a fake account. The machine can trust it through [`Account::source`].
    #[track_caller]
    fn comes(stage: &Stage, port: u16, document: Value) -> Self {
        let tls = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let options = Options {
            listen: (Ipv4Addr::LOCALHOST, port).into(),
            token: format!("account-at-{port}"),
            sign_in: Some(format!("https://localhost:{port}")),
            tls: Some(tls.path().into()),
            document,
            ..Options::default()
        };
        let started = stage.in_network(|| FakeAccount::start(options)).and_then(|started| started);
        let fake = started.unwrap_or_else(|error| panic!("no fake account: {error}"));
        let ca = fs::read(tls.path().join("ca.pem")).unwrap_or_else(|error| panic!("{error}"));
        stage.write(&format!("/etc/onecred/ca-{port}.pem"), ca, 0o644);
        Self { fake, port, _tls: tls }
    }

    /// The source for the configuration.
    fn source(&self) -> Value {
        json!({ "caFile": format!("/etc/onecred/ca-{}.pem", self.port), "allowedHosts": ["localhost"] })
    }

    fn control(&self) -> &Control {
        &self.fake.control
    }

    /// The token for clients.
    fn token(&self) -> String {
        self.control().token().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The number of requests so far.
    fn calls(&self) -> usize {
        self.control().requests().unwrap_or_else(|error| panic!("{error}")).len()
    }
}

/// Writes the configuration of a machine before its provider has read it.
fn configure(stage: &Stage, config: &Value) {
    stage.write(CONFIG, config.to_string(), 0o644);
}

/// Stops all of onecred and empties its store. It starts again at the next request.
fn begin_anew(stage: &Stage) {
    stage.sh("systemctl stop onecred.service onecred-resolver.service; rm -rf /run/onecred/store/*").ok();
}

/// The answer to a unit's request for a credential.
fn asks(stage: &Stage, unit: &str, credential: &str) -> (Option<i32>, String) {
    let ask = format!(
        "systemd-run --unit={unit} --collect --wait --pipe -q -p LoadCredential={credential}:{SOCKET} \
            sh -c 'cat \"$CREDENTIALS_DIRECTORY/{credential}\"'"
    );
    let ran = stage.sh(&ask);
    (ran.code(), ran.stdout())
}

/// Builds the fake library with these macros.
fn counterfeit(macros: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let made = folder.path().join("counterfeit.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/counterfeit-core.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-o"]).arg(&made).arg(source);
    let built = gcc.args(macros.iter().map(|name| format!("-D{name}"))).status();
    assert!(built.is_ok_and(|status| status.success()), "gcc does not build the counterfeit core");
    fs::read(made).unwrap_or_else(|error| panic!("{error}"))
}
