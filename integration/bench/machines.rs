//! The machines for measurements: onecred as `make install` installs it, and the floor in units that differ
//! only in their names.

use super::{
    Effort,
    ask::{SECRETS, SOCKETS, UNIT, name, value},
    starts::{CONSUMERS, HARDENED, SEALED_CONSUMER},
    table::Row,
};
use onecred_integration::{
    floor::floor_units,
    installed::SEALED,
    machine::{Layer, Suite},
    setup::{Setup, field},
    stage::Stage,
};
use serde_json::{Value, json};
use std::{env, error::Error, fs, path::Path, process::Stdio};

pub const PROGRAM: &str = "/usr/bin/onecred-bench";
/// The phases inside the machine, in this order. `many` is last because it leaves many processes behind.
pub const PHASES: [&str; 4] = ["memory", "load", "starts", "many"];

/// Boots a machine with both servers and measures inside it in a unit, so that attestation succeeds.
pub fn measure(
    suite: Suite,
    floor: &Path,
    phases: &[&str],
    effort: Effort,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let layer = Layer::create("bench")?;
    let bin = layer.path().join("usr/bin");
    fs::create_dir_all(&bin)?;
    fs::copy(floor, bin.join("floor"))?;
    fs::copy(env::current_exe()?, layer.path().join(PROGRAM.trim_start_matches('/')))?;
    let stage = boot(suite, &layer)?;
    println!("\n{suite}: {}", describe(&stage));
    let mut rows = Vec::new();
    for phase in phases {
        rows.extend(inside(&stage, phase, effort)?);
    }
    Ok(rows)
}

/// A machine with this many secrets in a vault file, for the asking unit and the units that are started.
pub fn setup(suite: Suite, count: usize) -> Setup {
    let items: Vec<Value> = (0..count)
        .map(|n| {
            let digits: String = format!("{n:04}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            let (id, title) = (format!("{:a<26}", format!("item{digits}z")), format!("item {n}"));
            json!({ "id": id, "title": title, "category": "LOGIN", "version": 1, "fields": [field("password", &value(n))] })
        })
        .collect();
    let vault = json!({ "vaults": [{ "id": format!("{:a<26}", "bench"), "name": "Bench", "items": items }] });
    (0..count).fold(Setup::vault(suite).holding(vault).default("maxAge", "1h"), |setup, n| {
        setup.secret(&name(n), &format!("op://Bench/item {n}/password"), &[UNIT, "start-*"])
    })
}

fn boot(suite: Suite, layer: &Layer) -> Result<Stage, Box<dyn Error>> {
    let mut units = floor_units()?;
    let [sealed, plain] = ["LoadCredentialEncrypted", "LoadCredential"];
    let [by_server, hardened] =
        [CONSUMERS.into_iter().zip(SOCKETS), HARDENED.into_iter().zip([SEALED, SOCKETS[0]])];
    let consumers = by_server.map(|(unit, socket)| (unit, plain, socket, ""));
    let consumers = consumers.chain([(SEALED_CONSUMER, sealed, SEALED, "")]);
    let hardened = hardened.zip([sealed, plain]);
    let hardened = hardened.map(|((unit, socket), asks)| (unit, asks, socket, "PrivateDevices=yes\n"));
    for (consumer, asks, socket, line) in consumers.chain(hardened) {
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\n{line}{asks}={}:{socket}\nExecStart=/bin/true\n",
            name(0)
        );
        units.push((consumer.to_owned(), text));
    }
    let stage = setup(suite, SECRETS)
        .plan(|plan| {
            let plan = plan.layer(layer.path()).prepare("systemctl enable -q floor.socket");
            units.iter().fold(plan, |plan, (name, text)| plan.unit(name, text))
        })
        .stage();
    stage.run(&["systemctl", "start", "run-floor-store.mount"]).ok();
    stage.run(&["systemd-creds", "setup"]).ok();
    for n in 0..SECRETS {
        stage.write(&format!("/run/floor/store/{}", name(n)), value(n), 0o600);
    }
    Ok(stage)
}

pub fn inside(stage: &Stage, phase: &str, effort: Effort) -> Result<Vec<Row>, Box<dyn Error>> {
    eprintln!("measuring: {phase}");
    let from = stage.journal_cursor();
    let mut command = stage.inside();
    command.args([
        "systemd-run",
        "--quiet",
        "--collect",
        "--wait",
        "--pipe",
        &format!("--unit={UNIT}"),
        PROGRAM,
    ]);
    command.args(["inside", phase]).args((effort == Effort::Quick).then_some("--quick"));
    let ran = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !ran.status.success() {
        return Err(format!("{phase}: {}\n{}", ran.status, stage.journal_since(&from)).into());
    }
    Ok(serde_json::from_slice(&ran.stdout)?)
}

fn describe(stage: &Stage) -> String {
    stage.sh("systemctl --version | head -n1; echo Linux $(uname -r), $(nproc) CPUs; sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo").ok().trim().replace('\n', "; ")
}
