//! Many units at once: 300 with 5 credentials each, from 60 items. Once with an empty store and a slow
//! Connect; then from the store, in turn with the floor.

use super::{
    Size,
    machines::setup,
    outcome::Outcome,
    values::{id, letters, value},
};
use onecred_integration::{
    fake_connect::Fault,
    floor::floor_units,
    installed::SOCKET,
    machine::{Layer, Suite},
    setup::field,
    stage::Stage,
    table::{Row, Unit, Wanted, median},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

pub const ITEMS: usize = 60;
const EACH: usize = 5;
/// How long a call to Connect takes.
const LATENCY: Duration = Duration::from_millis(100);
/// The longest necessary chain of calls: the list of vaults, the list of items, and all items, 8 at once as
/// to any Connect server.
const CHAIN: usize = 2 + ITEMS.div_ceil(8);
/// The floor's socket.
const FLOOR: &str = "/run/floor/credential.sock";

/// Measures both.
pub fn rows(suite: Suite, size: &Size, floor: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    eprintln!("{suite}: {} units at once", size.units);
    let stage = boot(suite, size.units, floor)?;
    let mut rows = cold(&stage, size.units)?;
    rows.push(warm(&stage, size)?);
    Ok(rows)
}

/// A vault with all items.
pub fn document() -> Value {
    let items: Vec<Value> = (0..ITEMS)
        .map(|n| {
            let text = String::from_utf8_lossy(&of_item(n)).into_owned();
            json!({ "id": id(&letters(n)), "title": item(n), "category": "LOGIN", "version": 1, "fields": [field("password", &text)] })
        })
        .collect();
    json!({ "vaults": [{ "id": id("storm"), "name": "Items", "items": items }] })
}

fn boot(suite: Suite, units: usize, floor: &Path) -> Result<Stage, Box<dyn Error>> {
    let (setup, _layer) = setup(suite, document())?;
    let with_floor = Layer::create("storm-floor")?;
    fs::create_dir_all(with_floor.path().join("usr/bin"))?;
    fs::copy(floor, with_floor.path().join("usr/bin/floor"))?;
    let setup = (0..ITEMS).fold(setup.default("maxAge", "1h"), |setup, n| {
        setup.secret(&format!("s{n}"), &format!("op://Items/{}/password", item(n)), &["cold-*", "warm-*"])
    });
    let mut texts = floor_units()?;
    for n in 0..units {
        let ids: Vec<String> = (0..EACH).map(|k| format!("s{}", (n * EACH + k) % ITEMS)).collect();
        let look = format!("{} inside check-items {}", super::out::PROGRAM, ids.join(" "));
        for (kind, socket, run) in
            [("cold", SOCKET, look.as_str()), ("warm", SOCKET, "/bin/true"), ("floor", FLOOR, "/bin/true")]
        {
            let asks: String = ids.iter().map(|id| format!("LoadCredential={id}:{socket}\n")).collect();
            texts.push((
                unit(kind, n),
                format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\n{asks}ExecStart={run}\n"),
            ));
        }
    }
    let stage = setup
        .plan(|plan| {
            let plan = plan.layer(with_floor.path()).prepare("systemctl enable -q floor.socket");
            texts.iter().fold(plan, |plan, (name, text)| plan.unit(name, text))
        })
        .stage();
    stage.run(&["systemctl", "start", "run-floor-store.mount"]).ok();
    for n in 0..ITEMS {
        stage.write(&format!("/run/floor/store/s{n}"), of_item(n), 0o600);
    }
    Ok(stage)
}

fn unit(kind: &str, n: usize) -> String {
    format!("{kind}-{n}.service")
}

pub fn item(n: usize) -> String {
    format!("app-{n}")
}

fn of_item(n: usize) -> Vec<u8> {
    value(&item(n), "line", 1)
}

/// Whether a unit has received its values, by names such as `s7`.
pub fn judge(id: &str, got: &[u8]) -> Outcome {
    Outcome::of(got, &id.replace('s', "app-"), "line", 0)
}

/// Starts all units of a kind at once, checks that each has started, and returns the duration in ms.
fn start(stage: &Stage, kind: &str, units: usize) -> Result<f64, Box<dyn Error>> {
    let names: Vec<String> = (0..units).map(|n| unit(kind, n)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let ran = stage.run(&[&["systemctl", "start"][..], &names].concat());
    let took = begun.elapsed().as_secs_f64() * 1e3;
    if ran.succeeded() {
        Ok(took)
    } else {
        Err(format!("{ran}\n{}", stage.journal("onecred.service")).into())
    }
}

fn cold(stage: &Stage, units: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    stage.connect().fail(&Fault::delay(LATENCY))?;
    start(stage, "cold", units)?; // systemd has loaded the units from now on
    let warm = start(stage, "cold", units)?;
    let both = ["onecred.service", "onecred-resolver.service"];
    stage.run(&[&["systemctl", "stop"][..], &both].concat()).ok();
    stage.sh("find /run/onecred/store -type f -delete").ok();
    stage.run(&[&["systemctl", "start"][..], &both].concat()).ok();
    stage.connect().take_requests()?;
    let cold = start(stage, "cold", units)?;
    let calls = stage.connect().requests()?;
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *times.entry(call.path.as_str()).or_default() += 1;
    }
    // lists are read again when they are too old
    times.retain(|path, _| path.contains("/items/"));
    let (items, most) = (times.len(), times.values().max().copied().unwrap_or_default());
    let chain = CHAIN as f64 * LATENCY.as_secs_f64() * 1e3;
    let at = |pick: fn(u64, u64) -> u64| calls.iter().map(|call| call.at).reduce(pick).unwrap_or_default();
    let span = (at(u64::max) - at(u64::min)) as f64 + LATENCY.as_secs_f64() * 1e3;
    let what = format!("{units} units, {EACH} credentials each, of {ITEMS} items");
    let row = |name: &str, times: usize, wanted| {
        Row::alone(format!("{what}, cold: {name}"), Unit::Calls, times as f64, Some(wanted))
    };
    Ok(vec![
        row("items fetched", items, Wanted::AtLeast(ITEMS as f64)),
        row("the most that one of them was asked for", most, Wanted::AtMost(1.0)),
        Row::events(
            format!("{what}, cold: all calls; against the {CHAIN} calls that have to wait for each other"),
            Unit::Milliseconds,
            &[[span, chain]],
            Some(Wanted::AtMost(1.5)),
        ),
        Row::events(
            format!(
                "{what}, cold: all started; against those calls, or the same warm where that takes longer"
            ),
            Unit::Milliseconds,
            &[[cold, chain.max(warm)]],
            Some(Wanted::AtMost(1.5)),
        ),
    ])
}

fn warm(stage: &Stage, size: &Size) -> Result<Row, Box<dyn Error>> {
    let mut pairs = Vec::new();
    for round in 0..=size.rounds {
        let mut pair = [0.0; 2];
        // each is first equally often; the first time of each does not count
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            pair[side] = start(stage, ["warm", "floor"][side], size.units)?;
        }
        pairs.push(pair);
    }
    let pairs = pairs.split_off(1);
    eprintln!("  median of the ratios: {:.2}", median(pairs.iter().map(|[onecred, floor]| onecred / floor)));
    let what = format!("{} units, {EACH} credentials each, warm: all started", size.units);
    Ok(Row::events(what, Unit::Milliseconds, &pairs, Some(Wanted::AtMost(1.15))))
}
