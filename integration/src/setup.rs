//! Sets onecred up on a machine as its README describes, with a vault file or the fake Connect server.
use crate::{
    fake_connect::{self, vault},
    installed::Installed,
    machine::{Plan, Suite},
    stage::{CONNECT, Stage},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// The result of `make install`, once per suite.
static INSTALLED: Mutex<BTreeMap<Suite, Arc<Installed>>> = Mutex::new(BTreeMap::new());
static PROBE: OnceLock<&'static Path> = OnceLock::new();

/// Sets the path of the probe. Call it before any stage is set up.
pub fn probe_is_at(path: &'static (impl AsRef<Path> + ?Sized)) {
    let _ = PROBE.set(path.as_ref());
}

/// Removes the installations. Call it when all stages are gone.
pub fn forget_installations() {
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn installed(suite: Suite) -> Arc<Installed> {
    let mut all = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let made = all.entry(suite).or_insert_with(|| {
        let probe = PROBE.get().unwrap_or_else(|| panic!("nobody said where the probe is"));
        Arc::new(Installed::new(suite, probe).unwrap_or_else(|error| panic!("{error}")))
    });
    Arc::clone(made)
}

/// A machine with onecred before it boots.
pub struct Setup {
    plan: Plan,
    config: Value,
    vault: Value,
    connect: bool,
}

impl Setup {
    /// With a vault file, which contains the fixture by default.
    pub fn vault(suite: Suite) -> Self {
        Self::new(suite, json!({ "kind": "file", "path": "/etc/onecred/vault.json" }), false)
    }

    /// With the fake Connect server and the fixture.
    pub fn connect(suite: Suite) -> Self {
        Self::new(suite, json!({ "kind": "connect", "url": format!("http://{CONNECT}") }), true)
    }

    fn new(suite: Suite, source: Value, connect: bool) -> Self {
        let config = json!({ "source": source, "defaults": {}, "secrets": [], "templates": [], "rules": [] });
        let plan = Plan::new(suite).layer(installed(suite).path());
        Self { plan, config, vault: vault::fixture(), connect }
    }

    /// Changes the content of the vault.
    #[must_use]
    pub fn holding(mut self, document: Value) -> Self {
        self.vault = document;
        self
    }

    /// Adds the items `big` and `huge`.
    #[must_use]
    pub fn long_values(mut self) -> Self {
        self.vault = vault::with_long_values(self.vault);
        self
    }

    /// Sets a default: `maxAge` or `deadline`.
    #[must_use]
    pub fn default(mut self, key: &str, value: &str) -> Self {
        self.config["defaults"][key] = json!(value);
        self
    }

    /// Sets a configuration key.
    #[must_use]
    pub fn setting(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Adds a secret for units.
    #[must_use]
    pub fn secret(self, name: &str, reference: &str, units: &[&str]) -> Self {
        self.entry(json!({ "name": name, "reference": reference, "units": units }))
    }

    /// Adds a secret as JSON.
    #[must_use]
    pub fn entry(mut self, secret: Value) -> Self {
        self.config["secrets"].as_array_mut().into_iter().for_each(|all| all.push(secret.clone()));
        self
    }

    /// Adds a template as JSON.
    #[must_use]
    pub fn template(mut self, template: &Value) -> Self {
        self.config["templates"].as_array_mut().into_iter().for_each(|all| all.push(template.clone()));
        self
    }

    /// Adds a rule for units.
    #[must_use]
    pub fn rule(mut self, units: &[&str], credentials: &[&str], reference: &str) -> Self {
        let rule = json!({ "units": units, "credentials": credentials, "reference": reference });
        self.config["rules"].as_array_mut().into_iter().for_each(|all| all.push(rule.clone()));
        self
    }

    /// Changes the machine's root further.
    #[must_use]
    pub fn plan(mut self, more: impl FnOnce(Plan) -> Plan) -> Self {
        self.plan = more(self.plan);
        self
    }

    /// Boots it, and starts the fake if it uses one.
    pub fn stage(self) -> Stage {
        let document = self.connect.then(|| self.vault.clone());
        let stage = self.stage_without_connect();
        if let Some(document) = document {
            stage.connect_comes(&document);
        }
        stage
    }

    /// Boots it into an outage: no Connect server answers.
    pub fn stage_without_connect(self) -> Stage {
        let config = serde_json::to_vec_pretty(&self.config).unwrap_or_default();
        let mut plan = self
            .plan
            .file("/etc/onecred/secrets.json", config, 0o644)
            .prepare("systemd-sysusers")
            .prepare("systemctl enable -q onecred.socket onecred-resolver.socket")
            .prepare("install -d -m 1777 /srv/out");
        plan = if self.connect {
            plan.file("/etc/onecred/token", format!("{}\n", fake_connect::DEFAULT_TOKEN), 0o600)
        } else {
            plan.file("/etc/onecred/vault.json", self.vault.to_string(), 0o640)
                .prepare("chgrp onecred /etc/onecred/vault.json")
        };
        Stage::of(&plan)
    }
}

/// A field of an item in the data model of Connect.
pub fn field(label: &str, value: &str) -> Value {
    json!({ "id": label, "type": "CONCEALED", "label": label, "value": value })
}

/// The fixture with more items in "My Vault".
pub fn fixture_with(items: impl IntoIterator<Item = (&'static str, Vec<Value>)>) -> Value {
    let mut document = vault::fixture();
    let all = document["vaults"][0]["items"].as_array_mut();
    let all = all.unwrap_or_else(|| panic!("the fixture's first vault has items"));
    for (n, (title, fields)) in items.into_iter().enumerate() {
        let id = format!("{:a<26}", format!("case{n}b"));
        all.push(json!({ "id": id, "title": title, "category": "LOGIN", "version": 1, "fields": fields }));
    }
    document
}
