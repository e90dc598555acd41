//! Benchmarks of a service account. How many requests a boot, a later start and a check cost. How long the
//! first value takes, compared with the official Python SDK with the same core and the same fake service. How
//! much memory the resolver and its worker use.

use super::{
    Effort,
    size::{memory, pids_of, resident},
    table::{Row, Unit, Wanted},
};
use onecred::{
    config::{self, Paths},
    domain::name::SourceName,
    domain::reference::Reference,
    ipc::{Fetch, Resolve as _, client::SocketResolver},
};
use onecred_integration::{
    fake_account::{FakeAccount, Options},
    installed::repository,
    machine::Suite,
    setup::{Setup, field},
    stage::Stage,
};
use serde_json::{Value, json};
use std::{
    error::Error,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

const ITEMS: usize = 120;
const CONFIG: &str = "/etc/onecred/secrets.json";
/// Logs in and resolves one reference, and prints the time for that, without the start of the interpreter and
/// the imports.
const SDK: &str = "
import asyncio, sys, time
from onepassword import Client
async def main(token, reference):
    begun = time.perf_counter()
    client = await Client.authenticate(auth=token, integration_name='bench', integration_version='1')
    value = await client.secrets.resolve(reference)
    print(time.perf_counter() - begun, value)
asyncio.run(main(open(sys.argv[1]).read().strip(), sys.argv[2]))
";

/// Measures on a separate machine, with the fake service in its network.
pub fn rows(suite: Suite, effort: Effort) -> Result<Vec<Row>, Box<dyn Error>> {
    eprintln!("measuring: account");
    let folder = tempfile::tempdir()?;
    let (stage, fake) = boot(suite, folder.path())?;
    let mut rows = requests(&stage, &fake)?;
    rows.extend(first_value(&stage, &fake, folder.path(), effort)?);
    let pids =
        pids_of(&stage.sh("cat /sys/fs/cgroup/system.slice/onecred-resolver.service/cgroup.procs").ok())?;
    let inside =
        |pid: u32| -> std::io::Result<f64> { resident(&stage.sh(&format!("cat /proc/{pid}/status")).ok()) };
    let most = |most: f64| Some(Wanted::AtMost(most));
    rows.push(memory("resolver and worker with the core, VmRSS", &pids, inside, most(64.0))?);
    rows.push(without_core(suite)?);
    Ok(rows)
}

fn boot(suite: Suite, folder: &Path) -> Result<(Stage, FakeAccount), Box<dyn Error>> {
    let secrets: Vec<Value> =
        (0..ITEMS).map(|n| json!({ "name": id(n), "reference": reference(n), "units": ["app"] })).collect();
    let config = json!({
        "source": { "caFile": "/etc/onecred/ca.pem", "allowedHosts": ["localhost"] },
        "defaults": { "maxAge": "1h" }, "secrets": secrets,
    });
    let core = fs::read(run(&mut Command::new(repository().join("integration/core")))?)?;
    let stage = Setup::vault(suite)
        .plan(|plan| plan.file("/usr/lib/onecred/libop_uniffi_core.so", core, 0o755))
        .stage();
    let options = Options {
        listen: ([127, 0, 0, 1], 8443).into(),
        document: vaults(),
        tls: Some(folder.into()),
        names: vec!["localhost".into()],
        sign_in: Some("https://localhost:8443".into()),
        ..Options::default()
    };
    let fake = stage.in_network(|| FakeAccount::start(options))??;
    let token = stage.in_network(|| fake.control.token())??;
    fs::write(folder.join("token"), &token)?;
    stage.write("/etc/onecred/token", token, 0o600);
    stage.write("/etc/onecred/ca.pem", fs::read(folder.join("ca.pem"))?, 0o644);
    stage.write("/etc/hosts", "127.0.0.1 localhost\n", 0o644);
    stage.write(CONFIG, config.to_string(), 0o644);
    stage.sh("systemctl stop onecred.service onecred-resolver.service").ok();
    Ok((stage, fake))
}

/// One unit with all credentials: at boot, again, and after their maximum age.
fn requests(stage: &Stage, fake: &FakeAccount) -> Result<Vec<Row>, Box<dyn Error>> {
    let values: Vec<(String, String)> = (0..ITEMS).map(|n| (id(n), value(n))).collect();
    let expected: Vec<(&str, &[u8])> =
        values.iter().map(|(id, value)| (id.as_str(), value.as_bytes())).collect();
    let mut rows = Vec::new();
    let mut count = |what: &str, most: f64| -> Result<f64, Box<dyn Error>> {
        stage.gets("app.service", "", &expected);
        thread::sleep(Duration::from_millis(500)); // what is fetched ahead counts too
        let seen = stage.in_network(|| fake.control.take_requests())??;
        let login = |path: &str| path.contains("/auth") || path.ends_with("/keysets");
        let logins = seen.iter().filter(|request| login(&request.path)).count();
        rows.push(Row::alone(what, Unit::Calls, (seen.len() - logins) as f64, Some(Wanted::AtMost(most))));
        Ok(logins as f64)
    };
    let login = count(&format!("{ITEMS} items by name at boot, beside the login"), 8.0)?;
    count("a second start", 0.0)?;
    let config = String::from_utf8(stage.read(CONFIG))?.replace("\"1h\"", "\"2s\"");
    stage.write(CONFIG, config, 0o644);
    stage.run(&["systemctl", "reload", "onecred.service"]).ok();
    thread::sleep(Duration::from_secs(3));
    count("a check of all of them", 1.0)?;
    rows.push(Row::alone("a login", Unit::Calls, login, None));
    Ok(rows)
}

/// The time from a question to a resolver that has not logged in until the value: start of the worker, checks
/// of the library, login and look-up. The SDK's time (in the column of the floor) is from the call to log in
/// until the value, with the core already loaded.
fn first_value(
    stage: &Stage,
    fake: &FakeAccount,
    folder: &Path,
    effort: Effort,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let python = run(Command::new(repository().join("integration/judges/run")).arg("--sdk"))?;
    let script = folder.join("sdk.py");
    fs::write(&script, SDK)?;
    fs::write(folder.join("secrets.json"), stage.read(CONFIG))?;
    let loaded =
        config::load(&Paths { dir: folder.into() }).map_err(|_| "the configuration can't be read")?;
    let source = SourceName::default_source();
    let print = loaded.settings.sources[&source].print();
    let resolver = SocketResolver::new(stage.root().join("run/onecred/resolver.sock"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ours = || -> Result<f64, Box<dyn Error>> {
        stage.sh("systemctl restart onecred-resolver.service").ok();
        let Reference { item, field } = Reference::parse(&reference(7))?;
        let (source, print, patience) = (source.clone(), print.clone(), Duration::from_secs(20));
        let fetch = Fetch {
            source,
            print,
            definition: None,
            item,
            known: None,
            version: None,
            fields: vec![field],
            look_again: None,
            asker: Default::default(),
            patience,
        };
        let begun = Instant::now();
        let fetched = runtime.block_on(resolver.fetch(fetch))?;
        let took = begun.elapsed();
        let got = fetched.fields.into_iter().next().ok_or("no field")??;
        assert_eq!(got.value.expose(), value(7).as_bytes());
        Ok(took.as_secs_f64() * 1e3)
    };
    let sdk = || -> Result<f64, Box<dyn Error>> {
        let mut command = Command::new(&python);
        command.arg(&script).arg(folder.join("token")).arg(reference(7));
        command.env("SSL_CERT_FILE", folder.join("ca.pem")).env("NO_PROXY", "localhost");
        let said = stage.in_network(|| run(&mut command).map_err(|error| error.to_string()))??;
        let (seconds, got) = said.split_once(' ').ok_or("the SDK said nothing")?;
        assert_eq!(got, value(7));
        Ok(seconds.parse::<f64>()? * 1e3)
    };
    let mut pairs = Vec::new();
    let mut costs = [0, 0];
    for round in 0..if effort == Effort::Whole { 21 } else { 5 } {
        let mut pair = [0.0; 2];
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            stage.in_network(|| fake.control.take_requests())??;
            pair[side] = if side == 0 { ours()? } else { sdk()? };
            costs[side] = stage.in_network(|| fake.control.take_requests())??.len();
        }
        pairs.push(pair);
    }
    let what =
        format!("login to first value, beside the Python SDK ({} and {} requests)", costs[0], costs[1]);
    Ok(vec![Row::events(what, Unit::Milliseconds, &pairs, Some(Wanted::AtMost(1.3)))])
}

/// The resolver of a Connect server after one question.
fn without_core(suite: Suite) -> Result<Row, Box<dyn Error>> {
    let stage = Setup::connect(suite).secret("password", "op://My Vault/db/password", &["app"]).stage();
    stage.gets("app.service", "", &[("password", b"hunter2")]);
    let pid = stage.show("onecred-resolver.service", "MainPID").parse()?;
    let inside = |pid: u32| resident(&stage.sh(&format!("cat /proc/{pid}/status")).ok());
    Ok(memory("resolver without the core (Connect), VmRSS", &[pid], inside, Some(Wanted::AtMost(20.0)))?)
}

/// The output of a program, which must succeed.
fn run(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let ran = command.output()?;
    if !ran.status.success() {
        return Err(format!("{command:?}: {}{}", ran.status, String::from_utf8_lossy(&ran.stderr)).into());
    }
    Ok(String::from_utf8(ran.stdout)?.trim().to_owned())
}

fn id(n: usize) -> String {
    format!("s{n}")
}

fn reference(n: usize) -> String {
    format!("op://Many/item {n}/password")
}

fn value(n: usize) -> String {
    format!("value {n}")
}

fn vaults() -> Value {
    let item = |n: usize| {
        let digits: String = format!("{n:03}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        json!({ "id": format!("{:a<26}", format!("item{digits}z")), "title": format!("item {n}"), "category": "LOGIN",
            "version": 1, "fields": [field("password", &value(n))] })
    };
    let items: Vec<Value> = (0..ITEMS).map(item).collect();
    json!({ "vaults": [{ "id": format!("{:a<26}", "vaultmany"), "name": "Many", "items": items }] })
}
