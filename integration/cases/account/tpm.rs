//! Tests a token that only the TPM can decrypt. These machines do not have one: systemd finds a software TPM
//! over TCP.
use super::{Account, asks, begin_anew, configure, setup};
use onecred_integration::{
    cases,
    fake_connect::vault::fixture,
    machine::{Suite, wait_until},
    stage::Stage,
    theme::Theme,
};
use serde_json::json;
use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
};

pub const THEME: Theme =
    Theme { name: "account_tpm", stage, shared: false, cases: cases![a_token_is_kept_by_the_tpm] };

const DEVICE: &str = "swtpm:host=127.0.0.1,port=2321";

/// Up to systemd 257, a child of PID 1 decrypts the credentials of a unit and has PID 1's environment. Later
/// versions ask a separate service for units with PrivateDevices=, such as the resolver.
fn stage(suite: Suite) -> Stage {
    let decrypts = format!("[Service]\nEnvironment=SYSTEMD_TPM2_DEVICE={DEVICE}\n");
    setup(suite)
        .plan(|plan| {
            plan.environment("SYSTEMD_TPM2_DEVICE", DEVICE)
                .unit("systemd-creds@.service.d/tpm.conf", &decrypts)
        })
        .stage()
}

/// A software TPM in a machine's network.
struct Tpm {
    swtpm: Child,
    _state: tempfile::TempDir,
}

impl Tpm {
    fn comes(stage: &Stage) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
        command.args(["--server", "type=tcp,port=2321,bindaddr=127.0.0.1"]);
        command.args(["--ctrl", "type=tcp,port=2322,bindaddr=127.0.0.1"]);
        command.arg("--tpmstate").arg(format!("dir={}", state.path().display())).stdin(Stdio::null());
        let swtpm = stage.in_network(move || command.spawn()).and_then(|spawned| spawned).expect("swtpm");
        let tpm = Self { swtpm, _state: state };
        wait_until("the TPM listens", || {
            stage.in_network(|| TcpStream::connect("127.0.0.1:2322").is_ok()).is_ok_and(|is| is)
        });
        tpm
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.swtpm.kill();
        let _ = self.swtpm.wait();
    }
}

fn a_token_is_kept_by_the_tpm(stage: &Stage) {
    let account = Account::comes(stage, 8443, fixture());
    let token = account.token();
    let secret = json!({ "name": "password", "reference": "op://My Vault/db/password", "units": ["app"], "deadline": "10s" });
    configure(stage, &json!({ "source": account.source(), "secrets": [secret] }));
    let set = |key: &str| {
        let device = format!("SYSTEMD_TPM2_DEVICE={DEVICE}");
        let command = ["env", &device, "onecred", "token", "set", "--with-key", key];
        stage.run_with_input(&command, token.as_bytes())
    };

    // without a TPM nothing is written, and the reason is reported
    let failed = set("tpm2").fails();
    assert!(failed.contains("systemd-creds can't encrypt it"), "{failed}");
    stage
        .sh("! test -e /etc/onecred/token.cred && ! test -e /etc/systemd/system/onecred-resolver.service.d")
        .ok();

    let tpm = Tpm::comes(stage);
    let said = set("tpm2").ok();
    assert!(said.contains("written: /etc/onecred/token.cred"), "{said}");
    begin_anew(stage);
    assert_eq!(asks(stage, "app", "password"), (Some(0), "hunter2".into()));
    drop(tpm);
    // it was encrypted with the TPM: another TPM cannot decrypt it
    begin_anew(stage);
    let _other = Tpm::comes(stage);
    assert_eq!(asks(stage, "app", "password"), (Some(243), String::new()));
}
