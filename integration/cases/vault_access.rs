//! Tests that `onecred check` reports about a vault file what the resolver, which runs as a separate user,
//! finds.
use onecred_integration::{
    cases,
    machine::{Suite, wait_until},
    setup::Setup,
    stage::Stage,
    theme::Theme,
};
use serde_json::json;

pub const THEME: Theme = Theme {
    name: "vault_access",
    stage,
    shared: false,
    cases: cases![a_vault_that_the_resolver_cannot_read_is_an_error, a_reload_does_not_depend_on_the_vault,],
};

/// The location of the vault in each row.
const FOLDER: &str = "/var/lib/vaults";

fn stage(suite: Suite) -> Stage {
    let secret = json!({ "name": "db", "reference": "op://My Vault/db/password", "units": ["app"] });
    let stage = Setup::vault(suite).default("deadline", "2s").entry(secret).stage();
    stage.sh("systemctl start dbus.socket").ok();
    stage
}

fn a_vault_that_the_resolver_cannot_read_is_an_error(stage: &Stage) {
    let acl = |entry: &str| format!("chmod 600 vault.json; setfacl -m {entry} vault.json");
    let rows = [
        ("chmod 644 vault.json", true, ""),
        ("chmod 600 vault.json", false, "chown root:onecred /var/lib/vaults/vault.json; chmod 0640"),
        ("chown onecred vault.json; chmod 400 vault.json", true, ""),
        ("chown onecred vault.json; chmod 044 vault.json", false, "mode 0044"),
        ("chgrp onecred vault.json; chmod 640 vault.json", true, ""),
        ("chgrp onecred vault.json; chmod 604 vault.json", false, "mode 0604"),
        ("chmod 711 .", true, ""),
        ("chmod 700 .", false, "chmod o+x /var/lib/vaults"),
        (
            "mkdir deep; mv vault.json deep; chmod 700 deep; ln -s deep/vault.json vault.json",
            false,
            "chmod o+x /var/lib/vaults/deep",
        ),
        ("mv vault.json /root; ln -s /root/vault.json vault.json", false, "hides it by ProtectHome=yes"),
        ("mv vault.json /srv; ln -s /srv/vault.json vault.json", false, "hides it by InaccessiblePaths=/srv"),
        (&acl("u:onecred:r"), true, ""),
        (&acl("g:onecred:r"), true, ""),
        ("chmod 644 vault.json; setfacl -m u:onecred:- vault.json", false, "see: getfacl"),
    ];
    let has_acl = stage.sh("command -v setfacl").succeeded();
    let config = json!({ "source": { "kind": "file", "path": format!("{FOLDER}/vault.json") },
        "defaults": { "deadline": "2s" },
        "secrets": [{ "name": "db", "reference": "op://My Vault/db/password", "units": ["app"] }] });
    stage.write("/etc/onecred/secrets.json", config.to_string(), 0o644);
    stage.sh("onecred reload").ok();
    let mut wrong = Vec::new();
    for (change, reads, words) in
        rows.into_iter().filter(|(change, ..)| has_acl || !change.contains("setfacl"))
    {
        stage
            .sh(&format!(
                "rm -rf {FOLDER} /root/vault.json /srv/vault.json; install -d -m 755 {FOLDER}; cd {FOLDER} && \
                 install -m 644 /etc/onecred/vault.json vault.json && {{ {change}; }}"
            ))
            .ok();
        let checked = stage.sh("onecred check");
        let found = stage.sh("onecred refresh --force db").succeeded();
        if (checked.succeeded(), found) != (reads, reads) {
            wrong.push(format!("{change}: the resolver reads it: {found}, {checked}"));
        }
        if !reads && !checked.stderr().contains(words) {
            wrong.push(format!("{change}: {words:?} is not in {checked}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // a drop-in may give it access to more
    stage.sh(&format!("rm -rf {FOLDER}; mkdir {FOLDER}; install -m 644 /etc/onecred/vault.json /srv/vault.json; ln -s /srv/vault.json {FOLDER}/")).ok();
    stage.sh("mkdir -p /etc/systemd/system/onecred-resolver.service.d").ok();
    let drop_in = "[Service]\nInaccessiblePaths=\n";
    stage.write("/etc/systemd/system/onecred-resolver.service.d/srv.conf", drop_in, 0o644);
    stage.sh("systemctl daemon-reload; systemctl restart onecred-resolver.service").ok();
    stage.sh("onecred check").ok();
    wait_until("it is read", || stage.sh("onecred refresh --force db").succeeded());
}

/// A reload only checks the configuration. The vault file is like a server that can be unreachable: check and
/// status report it, and units get what is in memory.
fn a_reload_does_not_depend_on_the_vault(stage: &Stage) {
    let config = |path: &str| {
        json!({ "source": { "kind": "file", "path": path }, "defaults": { "deadline": "2s" },
            "secrets": [{ "name": "db", "reference": "op://My Vault/db/password", "units": ["app"] }] })
    };
    stage.sh("echo '{' >/etc/onecred/broken.json").ok();
    for (path, words) in [
        ("/etc/onecred/gone.json", "/etc/onecred/gone.json does not exist"),
        ("/etc/onecred/broken.json", "/etc/onecred/broken.json can't be read"),
        ("/etc/onecred/vault.json", ""),
    ] {
        stage.write("/etc/onecred/secrets.json", config(path).to_string(), 0o644);
        stage.sh("onecred reload").ok();
        let (check, status) = (stage.sh("onecred check"), stage.sh("COLUMNS=400 onecred status"));
        assert_eq!(
            (check.succeeded(), status.succeeded()),
            (words.is_empty(), words.is_empty()),
            "{check} {status}"
        );
        assert!(check.stderr().contains(words) && status.stdout().contains(words), "{check} {status}");
    }
}
