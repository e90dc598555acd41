//! Holds connections without reading, and makes many requests at once. systemd and the provider must stay
//! responsive, the provider's resources must be limited, and everything must work after they are gone.

use super::{
    Size,
    asker::Form,
    holder::Holding,
    machines::{consumer, left, main_of, ran_well, runner, setup, size_of},
    out::OUT,
    outcome::{Counts, Outcome},
    values::{NOBODYS, all_ids, vault},
};
use onecred_integration::{
    machine::{Suite, wait_until},
    stage::Stage,
    table::{Row, Unit, Wanted},
};
use std::{
    error::Error,
    time::{Duration, Instant},
};

const PROVIDER: &str = "onecred.service";
const HOLDER: &str = "storm-0";
const BEYOND: &str = "app-0.service";
/// The connections that the provider accepts, and its other descriptors.
const DESCRIPTORS: f64 = 512.0 + 64.0;
/// The limit of the memory for long values that are not read.
const MEMORY: f64 = 160.0;

/// Holds connections of each kind.
pub fn rows(suite: Suite, size: &Size) -> Result<Vec<Row>, Box<dyn Error>> {
    let units = [(HOLDER.to_owned(), all_ids()), ("app-0".to_owned(), all_ids())];
    let (setup, _layer) = setup(suite, vault(units))?;
    let text = consumer("app-0", Form::Plain, &["one", "page"]);
    let stage = setup.default("maxAge", "1h").plan(|plan| plan.unit(BEYOND, &text)).stage();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    stage.run(&["systemctl", "start", BEYOND]).ok();
    let mut rows = Vec::new();
    for (id, count, what, waits) in [
        ("few", size.many, "that have their answer", false),
        ("long", size.held, "in a long value", true),
        (NOBODYS, size.many, "in a refusal", true),
    ] {
        let what = format!("{count} connections that never read, {what}");
        eprintln!("{suite}: {what}");
        rows.extend(held(&stage, id, count, &what, waits)?);
    }
    rows.extend(at_once(&stage, size.many)?);
    Ok(rows)
}

fn held(stage: &Stage, id: &str, count: usize, what: &str, waits: bool) -> Result<Vec<Row>, Box<dyn Error>> {
    let before = takes(stage)?;
    let text = runner(&format!("hold {HOLDER} {id} {count}"));
    stage.write("/run/systemd/system/storm-0.service", text, 0o644);
    stage
        .sh(&format!("rm -f {OUT}/enough {OUT}/{HOLDER}; systemctl daemon-reload; systemctl start {HOLDER}"))
        .ok();
    let mut holding = Holding::default();
    // as many as the provider and the listen queue accept; the others wait for a place in the queue
    wait_until("no more connections are taken", || {
        let now = left::<Holding>(stage, HOLDER).unwrap_or_default();
        let settled = now == holding && now.connected > 0 && (now.waiting == 0 || now.connected > 4096);
        holding = now;
        std::thread::sleep(Duration::from_millis(200));
        settled
    });
    let begun = Instant::now();
    stage.run(&["systemctl", "list-units"]).ok();
    let manager = begun.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    let said = stage.run(&["onecred", "status"]).stdout();
    let provider = begun.elapsed().as_secs_f64() * 1e3;
    if said.is_empty() {
        return Err("the provider does not answer on the bus".into());
    }
    stage.run(&["systemctl", "start", "--no-block", BEYOND]).ok();
    if !waits {
        wait_until("a unit beyond has started", || stage.show(BEYOND, "ActiveState") == "inactive");
    }
    let state = stage.show(BEYOND, "ActiveState");
    let (memory, descriptors) = takes(stage)?;
    stage.sh(&format!("touch {OUT}/enough")).ok();
    ran_well(stage, &format!("{HOLDER}.service"))?;
    wait_until("the unit beyond has started", || stage.show(BEYOND, "ActiveState") != "activating");
    let started = u64::from(stage.show(BEYOND, "Result") == "success");
    wait_until("the connections are gone", || takes(stage).is_ok_and(|(_, now)| now <= before.1 + 8));
    eprintln!(
        "  {holding:?}; a unit beyond was {state}; {memory:.1} MiB after {:.1}, {descriptors} descriptors",
        before.0
    );
    let row = |name: &str, unit, figure, wanted| Row::alone(format!("{what}: {name}"), unit, figure, wanted);
    Ok(vec![
        row(
            "taken by the kernel",
            Unit::Times,
            holding.connected as f64,
            Some(Wanted::AtLeast(count.min(4096) as f64)),
        ),
        row(
            "descriptors of the provider",
            Unit::Times,
            descriptors as f64,
            Some(Wanted::AtMost(DESCRIPTORS)),
        ),
        row("memory of the provider", Unit::Mebibytes, memory, Some(Wanted::AtMost(MEMORY))),
        row("systemctl list-units", Unit::Milliseconds, manager, None),
        row("onecred status", Unit::Milliseconds, provider, None),
        row(
            "a unit beyond starts, at the latest when they are gone",
            Unit::Times,
            started as f64,
            Some(Wanted::AtLeast(1.0)),
        ),
    ])
}

/// Memory and descriptors of the provider.
fn takes(stage: &Stage) -> Result<(f64, usize), Box<dyn Error>> {
    Ok(size_of(main_of(stage, PROVIDER).ok_or("the provider is not there")?)?)
}

fn at_once(stage: &Stage, count: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let text = runner(&format!("at-once {HOLDER} page {count}"));
    stage.write("/run/systemd/system/storm-0.service", text, 0o644);
    stage.sh(&format!("rm -f {OUT}/{HOLDER}; systemctl daemon-reload; systemctl start {HOLDER}")).ok();
    ran_well(stage, &format!("{HOLDER}.service"))?;
    let counts: Counts = left(stage, HOLDER).ok_or("those who asked have left no word")?;
    eprintln!("  {count} requests at once: {counts}");
    let right = counts.of(Outcome::Right) as f64;
    Ok(vec![Row::alone(
        format!("{count} requests at once: right"),
        Unit::Times,
        right,
        Some(Wanted::AtLeast(count as f64)),
    )])
}
