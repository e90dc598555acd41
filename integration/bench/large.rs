//! Measures a host with 3,000 secrets in 20 vaults of a Connect server, all of them published.

use super::table::{Row, Unit, Wanted};
use futures_util::{StreamExt, TryStreamExt, stream};
use onecred_integration::{
    fake::{Fault, Kind},
    fake_connect::DEFAULT_TOKEN,
    machine::{Suite, wait_until},
    setup::{Setup, field},
    stage::{CONNECT, Stage},
};
use reqwest::Client;
use serde_json::{Value, json};
use std::{error::Error, time::Instant};
use tokio::runtime;

const VAULTS: usize = 20;
const ITEMS: usize = 150; // per vault, each with one secret
const SECRETS: usize = VAULTS * ITEMS;
const CONFIG: &str = "/etc/onecred/secrets.json";
const MANAGER: &str = "org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager";
/// After how many milliseconds the server answers a call.
const LATENCY: u64 = 10;
/// How many calls the resolver makes to a Connect server at once.
const AT_ONCE: usize = 8;

/// Grows the configuration of a running provider from one secret to all, publishes them, and looks at what that takes.
pub fn rows(suite: Suite) -> Result<Vec<Row>, Box<dyn Error>> {
    let stage = Setup::connect(suite)
        .holding(vaults())
        .default("maxAge", "session")
        .secret("first", "op://Vault 0/item 0/password", &["app"])
        .stage();
    stage.gets("app.service", "", &[("first", b"value 0 0")]);
    stage.sh("systemctl start dbus.socket").ok();
    let provider = stage.show("onecred.service", "MainPID");
    let (memory, descriptors) = (resident(&stage, &provider)?, open_files(&stage, &provider)?);
    let mut config: Value = serde_json::from_slice(&stage.read(CONFIG))?;
    config["secrets"] = (0..SECRETS).map(secret).collect();
    stage.write(CONFIG, config.to_string(), 0o644);

    let mut rows = Vec::new();
    let mut row = |what: &str, unit, figure, most| {
        rows.push(Row::alone(format!("{SECRETS} secrets: {what}"), unit, figure, Some(Wanted::AtMost(most))));
    };
    row("onecred check", Unit::Milliseconds, milliseconds(&stage, "onecred check --quiet")?, 200.0);
    let delay = Fault::of(Kind::Delay { ms: LATENCY });
    stage.connect().fail(&delay)?;
    let (before, start) = (stage.calls().len(), Instant::now());
    row(
        "reload, with its check",
        Unit::Milliseconds,
        milliseconds(&stage, "systemctl reload onecred.service")?,
        700.0,
    );
    row("first list after the reload", Unit::Milliseconds, milliseconds(&stage, &list())?, 300.0);
    stage.sh("systemctl restart onecred-publish.service").ok();
    // the files are published from the reload on
    let publish = start.elapsed().as_secs_f64() * 1e3;
    let published = stage.sh("find /run/secrets -type f | wc -l").ok();
    if published.trim() != SECRETS.to_string() {
        return Err(format!("{published} files are published").into());
    }
    let calls = paths(&stage, before);
    let own = replayed(&stage, &calls)?;
    stage.connect().clear_faults()?;
    row(
        "calls for the first publication of all",
        Unit::Calls,
        calls.len() as f64,
        (1 + VAULTS + SECRETS) as f64,
    );
    rows.push(Row::events(
        format!("{SECRETS} secrets: first publication of all, and the same calls without onecred"),
        Unit::Milliseconds,
        &[[publish, own]],
        Some(Wanted::AtMost(1.5)),
    ));
    let mut row = |what: &str, unit, figure, most| {
        rows.push(Row::alone(format!("{SECRETS} secrets: {what}"), unit, figure, Some(Wanted::AtMost(most))));
    };
    let before = stage.calls().len();
    let names: String = (0..SECRETS).map(|n| format!(" {}", name(n))).collect();
    let refresh = milliseconds(
        &stage,
        &format!("busctl call --timeout=600 {MANAGER} Refresh ast {SECRETS}{names} 0 >/dev/null"),
    )?;
    row("refresh of all", Unit::Milliseconds, refresh, 2000.0);
    row(
        "calls for a refresh of all",
        Unit::Calls,
        (stage.calls().len() - before) as f64,
        (1 + VAULTS) as f64,
    );
    row("list", Unit::Milliseconds, milliseconds(&stage, &list())?, 300.0);
    let peak = resident(&stage, &provider)?;
    // every 20 s, the provider returns free memory to the kernel
    wait_until("free memory is returned", || resident(&stage, &provider).is_ok_and(|now| now < peak));
    let grown = resident(&stage, &provider)? - memory;
    row("growth of the provider's VmRSS", Unit::Mebibytes, grown, SECRETS as f64 * 4.0 / 1024.0);
    let more = open_files(&stage, &provider)? - descriptors;
    row("more descriptors in the provider", Unit::Times, more, SECRETS as f64 + 64.0);
    if stage.show("onecred.service", "MainPID") != provider {
        return Err("the provider was started anew".into());
    }
    Ok(rows)
}

fn list() -> String {
    format!("busctl call --timeout=600 {MANAGER} ListSecrets >/dev/null")
}

/// The duration of a command in the machine.
fn milliseconds(stage: &Stage, command: &str) -> Result<f64, Box<dyn Error>> {
    stage.write("/srv/command", format!("set -e\ndate +%s%N\n{command}\ndate +%s%N\n"), 0o644);
    let said = stage.sh("sh /srv/command").ok();
    let times = said.lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    match times[..] {
        [began, ended] => Ok((ended - began) / 1e6),
        _ => Err(format!("{command} says {said}").into()),
    }
}

fn paths(stage: &Stage, from: usize) -> Vec<String> {
    stage.calls()[from..].iter().map(|call| call.path.clone()).collect()
}

/// How many milliseconds the same calls take without onecred, as many at once as by the resolver.
fn replayed(stage: &Stage, calls: &[String]) -> Result<f64, Box<dyn Error>> {
    let work = || -> Result<f64, String> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let client = client().map_err(|error| error.to_string())?;
        let start = Instant::now();
        let calls = stream::iter(calls).map(Ok::<_, reqwest::Error>);
        let get = |path: &String| {
            let request = client.get(format!("http://{CONNECT}{path}")).bearer_auth(DEFAULT_TOKEN);
            async { request.send().await?.error_for_status()?.bytes().await.map(drop) }
        };
        runtime.block_on(calls.try_for_each_concurrent(AT_ONCE, get)).map_err(|error| error.to_string())?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    Ok(stage.machine.in_network(work)??)
}

fn client() -> reqwest::Result<Client> {
    // fails if another part has installed the same provider
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().tls_certs_only([]).build()
}

fn resident(stage: &Stage, pid: &str) -> Result<f64, Box<dyn Error>> {
    Ok(super::size::resident(&stage.sh(&format!("cat /proc/{pid}/status")).ok())?)
}

fn open_files(stage: &Stage, pid: &str) -> Result<f64, Box<dyn Error>> {
    Ok(stage.sh(&format!("ls /proc/{pid}/fd | wc -l")).ok().trim().parse()?)
}

fn name(n: usize) -> String {
    format!("secret-{n}")
}

fn secret(n: usize) -> Value {
    let reference = format!("op://Vault {}/item {}/password", n / ITEMS, n % ITEMS);
    json!({ "name": name(n), "reference": reference, "units": ["app"], "target": format!("/run/secrets/{}", name(n)) })
}

fn vaults() -> Value {
    let letters =
        |n: usize| format!("{n:04}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect::<String>();
    let id = |kind: &str, n: usize| format!("{:a<26}", format!("{kind}{}z", letters(n)));
    let item = |vault: usize, n: usize| {
        let fields = [field("password", &format!("value {vault} {n}"))];
        json!({ "id": id("item", vault * ITEMS + n), "title": format!("item {n}"), "category": "LOGIN", "version": 1, "fields": fields })
    };
    let vault = |vault: usize| {
        let items: Vec<Value> = (0..ITEMS).map(|n| item(vault, n)).collect();
        json!({ "id": id("vault", vault), "name": format!("Vault {vault}"), "items": items })
    };
    json!({ "vaults": (0..VAULTS).map(vault).collect::<Vec<_>>() })
}
