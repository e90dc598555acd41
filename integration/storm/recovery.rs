//! The end of an outage: refused units run again, half of them `Type=simple`. Each has one credential from
//! one of 60 items.

use super::{Size, machines::setup, units};
use onecred_integration::{
    installed::SOCKET,
    machine::{Suite, wait_until},
    stage::Stage,
    table::{Row, Unit, Wanted},
};
use std::{
    collections::BTreeMap,
    error::Error,
    time::{Duration, Instant},
};

/// The time within which all units must run again, on two cores.
const WITHIN: Duration = Duration::from_secs(30);

/// Refuses the units, ends the outage, and counts those that run.
pub fn rows(suite: Suite, size: &Size) -> Result<Vec<Row>, Box<dyn Error>> {
    let count = size.recovering;
    eprintln!("{suite}: {count} units after an outage");
    let document = units::document();
    let (setup, _layer) = setup(suite, document.clone())?;
    let setup = setup.setting("recover", true.into()).default("deadline", "1s").default("maxAge", "1h");
    let setup = (0..units::ITEMS).fold(setup, |setup, n| {
        setup.secret(&format!("s{n}"), &format!("op://Items/{}/password", units::item(n)), &["again-*"])
    });
    let stage = setup
        .plan(|plan| (0..count).fold(plan, |plan, n| plan.unit(&name(n), &text(n))))
        .stage_without_connect();
    let names: Vec<String> = (0..count).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.run(&[&["systemctl", "start", "--no-block"][..], &names].concat()).ok();
    wait_until("all were refused", || in_state(&stage, "failed") == count);
    stage.connect_comes(&document);
    let begun = Instant::now();
    wait_until("all run again", || in_state(&stage, "active") == count || begun.elapsed() > size.patience);
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for call in stage.connect().requests()? {
        *times.entry(call.path).or_default() += 1;
    }
    times.retain(|path, _| path.contains("/items/"));
    let most = times.values().max().copied().unwrap_or_default() as f64;
    let what = format!("{count} units refused in an outage");
    Ok(vec![
        Row::alone(
            format!("{what}: run again"),
            Unit::Times,
            in_state(&stage, "active") as f64,
            Some(Wanted::AtLeast(count as f64)),
        ),
        Row::alone(
            format!("{what}: the most that one item was asked for"),
            Unit::Calls,
            most,
            Some(Wanted::AtMost(1.0)),
        ),
        Row::alone(
            format!("{what}: from the source's return until all run"),
            Unit::Milliseconds,
            took,
            Some(Wanted::AtMost(WITHIN.as_secs_f64() * 1e3)),
        ),
    ])
}

fn name(n: usize) -> String {
    format!("again-{n}.service")
}

fn text(n: usize) -> String {
    let start = ["simple", "exec"][n % 2];
    format!(
        "[Service]\nType={start}\nRemainAfterExit=yes\nLoadCredential=s{}:{SOCKET}\nExecStart=/bin/true\n",
        n % units::ITEMS
    )
}

fn in_state(stage: &Stage, state: &str) -> usize {
    let list = format!("systemctl list-units --all --no-legend --plain --state={state} 'again-*' | wc -l");
    stage.sh(&list).stdout().trim().parse().unwrap_or_default()
}
