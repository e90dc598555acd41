//! Mixed load for an hour: raw requests, starts of units, refusals, D-Bus calls, and values that change all
//! the time. Nothing may be missed, and neither memory nor descriptors may grow.

use super::{
    Size,
    asker::Form,
    inside::Asked,
    machines::{consumer, left, main_of, ran_well, runner, setup, size_of},
    out::OUT,
    outcome::{Counts, Outcome},
    values::{VAULT, all_ids, lot, next, value, vault},
};
use onecred_integration::{
    machine::Suite,
    stage::Stage,
    table::{Row, Unit, Wanted},
};
use std::{
    collections::BTreeMap,
    error::Error,
    io, thread,
    time::{Duration, Instant},
};

const ASKING: [(&str, Form); 2] = [("storm-0", Form::Plain), ("storm-1", Form::Sealed)];
const STARTED: usize = 8;
const IDS: [&str; 4] = ["one", "few", "line", "page"];
const HALVES: [&str; 2] = ["onecred.service", "onecred-resolver.service"];
/// In less time than this, the memory of a start hides any growth.
const TELLING: Duration = Duration::from_secs(600);

/// Connections to the resolver and to D-Bus that may be open or not.
const FEW: usize = 16;
/// After this time no asking process is remembered.
const FORGOTTEN: Duration = Duration::from_secs(400);

/// The resources of a process at some time: memory in MiB, and descriptors.
type Sample = [(f64, usize); 2];

/// Runs the load.
pub fn rows(suite: Suite, size: &Size) -> Result<Vec<Row>, Box<dyn Error>> {
    eprintln!("{suite}: mixed load for {} s", size.soak.as_secs());
    let app = |n: usize| format!("app-{n}");
    let asking = ASKING.iter().map(|(unit, _)| ((*unit).to_owned(), all_ids()));
    let (setup, _layer) = setup(suite, vault(asking.chain((0..STARTED).map(|n| (app(n), IDS.to_vec())))))?;
    let form = |n: usize| [Form::Plain, Form::Sealed][n % 2];
    let stage = setup
        .default("maxAge", "2s")
        .plan(|plan| {
            let plan = plan.prepare("systemd-creds setup");
            (0..STARTED).fold(plan, |plan, n| {
                plan.unit(&format!("{}.service", app(n)), &consumer(&app(n), form(n), &IDS))
            })
        })
        .stage();
    stage.sh("systemctl start dbus.socket").ok();
    // each field has been requested once: from now on, items are fetched completely
    let mut starts = Counts::default();
    start(&stage, 0..STARTED, &mut starts)?;
    for total in [1, u64::MAX] {
        for (unit, form) in ASKING {
            let text =
                runner(&format!("askers {unit} {} 2 {total} {}", form.name(), 2 * size.pause.as_millis()));
            stage.write(&format!("/run/systemd/system/{unit}.service"), text, 0o644);
        }
        stage.run(&["systemctl", "daemon-reload"]).ok();
        ASKING.iter().for_each(|(unit, _)| drop(stage.run(&["systemctl", "start", unit]).ok()));
        if total == 1 {
            ASKING.iter().try_for_each(|(unit, _)| ran_well(&stage, &format!("{unit}.service")))?;
        }
    }
    let before = sizes(&stage)?;
    let samples = load(&stage, size, &mut starts)?;
    stage.write(&format!("{OUT}/enough"), "", 0o644);
    let (mut asked, mut denied) = (Counts::default(), Counts::default());
    for (unit, _) in ASKING {
        ran_well(&stage, &format!("{unit}.service"))?;
        let one: Asked = left(&stage, unit).ok_or("one who asked has left no word")?;
        asked.add(&one.allowed);
        denied.add(&one.denied);
    }
    eprintln!("  starts:   {starts}\n  requests: {asked}\n  not allowed: {denied}");
    if asked.of(Outcome::Right) < asked.all() || starts.of(Outcome::Right) < starts.all() {
        eprintln!(
            "{}",
            stage
                .sh("journalctl -q -o cat -t onecred -g 'refused: ' | grep -v 'not allowed' | tail -n 5")
                .stdout()
        );
    }
    let what = format!("{} minutes of mixed load", size.soak.as_secs() / 60);
    let row = |name: &str, times: u64, wanted| {
        Row::alone(format!("{what}: {name}"), Unit::Times, times as f64, wanted)
    };
    let none = Some(Wanted::AtMost(0.0));
    let restarts = HALVES.iter().filter_map(|unit| stage.show(unit, "NRestarts").parse::<u64>().ok()).sum();
    let mut rows = vec![
        row("raw requests", asked.all(), Some(Wanted::AtLeast(1.0))),
        row("raw requests without the right value", asked.all() - asked.of(Outcome::Right), none),
        row("starts of units", starts.all(), Some(Wanted::AtLeast(1.0))),
        row("starts without the right values", starts.all() - starts.of(Outcome::Right), none),
        row(
            "what is not allowed and not refused",
            denied.all() - denied.of(Outcome::Refused) - denied.of(Outcome::Unopened),
            none,
        ),
        row("restarts of a half", restarts, none),
    ];
    rows.extend(growth(&samples, size.soak, &what));
    rows.extend(left_open(&stage, before, size.soak, &what)?);
    Ok(rows)
}

/// Applies all load from outside until the time is over.
fn load(stage: &Stage, size: &Size, starts: &mut Counts) -> Result<Vec<Sample>, Box<dyn Error>> {
    let (begun, mut lot, mut samples) = (Instant::now(), lot(), Vec::new());
    let mut versions: BTreeMap<(String, &str), u64> = BTreeMap::new();
    let mut round = 0;
    while begun.elapsed() < size.soak || round < 4 {
        // long values are requested rarely, because the fake is not a fast server
        let unit = if round % 8 == 0 {
            ASKING[round / 8 % 2].0.to_owned()
        } else {
            format!("app-{}", next(&mut lot) as usize % STARTED)
        };
        let id = IDS[1 + next(&mut lot) as usize % 3];
        let version = versions.entry((unit.clone(), id)).or_insert(1);
        *version += 1;
        stage.connect().set(VAULT, &unit, id, &String::from_utf8_lossy(&value(&unit, id, *version)))?;
        let from = 4 * (round % 2);
        start(stage, from..from + 4, starts)?;
        if round % 20 == 0 {
            stage.run(&["onecred", "status"]);
            stage.run(&["systemctl", "reload", "onecred.service"]).ok();
            stage.connect().take_requests()?;
        }
        samples.push(sizes(stage)?);
        round += 1;
        thread::sleep(size.pause);
    }
    Ok(samples)
}

fn start(stage: &Stage, which: std::ops::Range<usize>, starts: &mut Counts) -> Result<(), Box<dyn Error>> {
    super::crashes::start_some(stage, which, starts)
}

/// The maximum of the last quarter compared with the maximum of the half before. By then, memory that the
/// allocator only keeps has been counted.
fn growth(samples: &[Sample], time: Duration, what: &str) -> Vec<Row> {
    let late = samples.len() - samples.len() / 4;
    let mut rows = Vec::new();
    for (half, name) in ["provider", "resolver"].into_iter().enumerate() {
        let most = |part: &[Sample]| part.iter().map(|sample| sample[half].0).fold(0.0, f64::max);
        let [before, after] = [most(&samples[..late]), most(&samples[late..])];
        eprintln!("  {name}: at most {before:.1} MiB, then {after:.1}");
        let wanted = (time >= TELLING).then_some(Wanted::AtMost(1.0));
        let what = format!("{what}: growth of the {name}'s memory");
        rows.push(Row::alone(what, Unit::Mebibytes, after - before, wanted));
    }
    rows
}

/// Descriptors of each process that are open at the end and were not before. After a request, the provider
/// holds the version of a value open for five minutes, because the process may ask for more of it. So this
/// waits for that time.
fn left_open(stage: &Stage, before: Sample, time: Duration, what: &str) -> Result<Vec<Row>, Box<dyn Error>> {
    let begun = Instant::now();
    let more = || -> io::Result<[usize; 2]> {
        let now = sizes(stage)?;
        Ok([0, 1].map(|half| now[half].1.saturating_sub(before[half].1)))
    };
    while time >= TELLING && more()?.iter().any(|more| *more > FEW) && begun.elapsed() < FORGOTTEN {
        thread::sleep(Duration::from_secs(1));
    }
    let more = more()?;
    let wanted = (time >= TELLING).then_some(Wanted::AtMost(FEW as f64));
    let row = |half: usize, name: &str| {
        Row::alone(
            format!("{what}: descriptors of the {name} left open"),
            Unit::Times,
            more[half] as f64,
            wanted,
        )
    };
    Ok(vec![row(0, "provider"), row(1, "resolver")])
}

/// The current resources of both processes.
fn sizes(stage: &Stage) -> io::Result<Sample> {
    let [provider, resolver] = HALVES.map(|unit| main_of(stage, unit).map_or(Ok((0.0, 0)), size_of));
    Ok([provider?, resolver?])
}
