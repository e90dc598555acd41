//! Kills the processes at random times while units start and raw requests arrive, with values in the store
//! and with an empty store.

use super::{
    Size,
    asker::Form,
    halves::Halves,
    inside::Asked,
    machines::{back_at_once, consumer, group, left, main_of, ran_well, runner, setup},
    out::OUT,
    outcome::{Counts, Outcome},
    values::{CREDENTIALS, VAULT, all_ids, lot, next, value, vault},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use onecred_integration::{
    fake_connect::Fault,
    machine::{Suite, wait_until},
    stage::Stage,
    table::{Row, Unit, Wanted},
};
use std::{
    error::Error,
    fs, io,
    ops::Range,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Units that make raw requests without being restarted.
const ASKING: usize = 4;
/// Units that are started.
const STARTED: usize = 40;
/// How many of them start at once: those that wait when the provider dies are refused.
const AT_ONCE: usize = 8;
/// How long a call to Connect takes.
const LATENCY: Duration = Duration::from_millis(20);
/// The maximum processor time in µs that a process uses before it is killed, except as in [`LONGER`]. So it
/// runs for as long on a busy machine. A start uses a quarter of it.
const USED: u64 = 120_000;
/// One run in three is up to twice as long, and one up to four times. In short runs only, no unit would ever
/// get all its credentials.
const LONGER: u64 = 3;
/// The resolver reads items of 2 MiB in this time.
const USED_BY_RESOLVER: u64 = 100_000;
/// An idle process is killed after this time at the latest.
const PEACE: Duration = Duration::from_millis(1500);
/// The store is emptied each time after this many kills.
const EMPTIED: u64 = 50;

const PROVIDER: &str = "onecred.service";
const RESOLVER: &str = "onecred-resolver.service";

/// The process to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Provider,
    Resolver,
    Group,
}

/// All rows.
pub fn rows(suite: Suite, size: &Size) -> Result<Vec<Row>, Box<dyn Error>> {
    // one after another: otherwise starts take so long that few succeed
    let mut rows = Vec::new();
    for (victim, form, what, promised) in [
        (Victim::Provider, Form::Plain, "the provider is killed", true),
        (Victim::Resolver, Form::Plain, "the resolver is killed", true),
        (Victim::Group, Form::Sealed, "provider and keeper in one stroke, sealed", true),
        (Victim::Group, Form::Plain, "provider and keeper in one stroke, plain", false),
    ] {
        let storm = storm(suite, size, victim, form, what, promised);
        rows.extend(storm.map_err(|error| format!("{suite}: {what}: {error}"))?);
    }
    rows.extend(halves(suite, size)?);
    Ok(rows)
}

fn stage(suite: Suite, victim: Victim, form: Form) -> io::Result<Stage> {
    let asking = (0..ASKING).map(|n| (format!("storm-{n}"), all_ids()));
    let units = asking.chain((0..STARTED).map(|n| (app(n), of_app(n, form).to_vec())));
    let (setup, _layer) = setup(suite, vault(units))?;
    // the resolver is asked about cached values each time
    let setup = setup
        .default("maxAge", if victim == Victim::Resolver { "1s" } else { "1h" })
        .default("deadline", "120s");
    let stage = setup
        .plan(|plan| {
            let plan = [PROVIDER, RESOLVER]
                .iter()
                .map(|unit| back_at_once(unit))
                .fold(plan, |plan, (path, text)| plan.file(&path, text, 0o644));
            let plan = (0..STARTED).fold(plan, |plan, n| {
                plan.unit(&format!("{}.service", app(n)), &consumer(&app(n), form, of_app(n, form)))
            });
            plan.prepare("systemd-creds setup")
        })
        .stage();
    stage.connect().fail(&Fault::delay(LATENCY))?;
    Ok(stage)
}

fn app(n: usize) -> String {
    format!("app-{n}")
}

/// Every other unit has a long value, each with short ones.
fn of_app(n: usize, form: Form) -> &'static [&'static str] {
    match (n % 4, form) {
        (0, Form::Plain) => &["one", "line", "long"],
        (0, Form::Sealed) => &["one", "line", "sealed"],
        (2, _) => &["few", "page", "more"],
        _ => &["one", "few", "page"],
    }
}

fn storm(
    suite: Suite,
    size: &Size,
    victim: Victim,
    form: Form,
    what: &str,
    promised: bool,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let stage = stage(suite, victim, form)?;
    let mut before = Counts::default();
    start_some(&stage, 0..STARTED, &mut before)?;
    if before.of(Outcome::Right) < STARTED as u64 {
        return Err(format!("before any kill: {before}\n{}", stage.journal_since("")).into());
    }
    let begun = Instant::now();
    let each = size.requests / ASKING as u64;
    for n in 0..ASKING {
        let text = runner(&format!("askers storm-{n} {} {} {each} 0", form.name(), size.threads));
        stage.units([(format!("storm-{n}.service").as_str(), text.as_str())]);
        stage.run(&["systemctl", "start", &format!("storm-{n}")]).ok();
    }
    let (enough, kills, mut starts) = (AtomicBool::new(false), AtomicU64::new(0), Counts::default());
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let killing = scope.spawn(|| kill_until(&enough, &stage, victim, &kills));
        let changing = (victim == Victim::Resolver).then(|| scope.spawn(|| change_until(&enough, &stage)));
        let done = (|| -> Result<(), Box<dyn Error>> {
            let mut asking: Vec<String> = (0..ASKING).map(|n| format!("storm-{n}.service")).collect();
            // on a machine of any speed, some answers must be right in the end
            let enough =
                |starts: &Counts| starts.all() >= size.starts && (!promised || starts.of(Outcome::Right) > 0);
            while !asking.is_empty() || !enough(&starts) || kills.load(Ordering::Relaxed) < size.kills {
                for from in (0..STARTED).step_by(AT_ONCE) {
                    start_some(&stage, from..from + AT_ONCE, &mut starts)?;
                }
                asking.retain(|unit| stage.show(unit, "ActiveState") == "active");
                if begun.elapsed() > size.patience {
                    return Err(format!("{} are not done", asking.join(", ")).into());
                }
            }
            Ok(())
        })();
        enough.store(true, Ordering::Relaxed);
        killing.join().map_err(|_| "the killer panicked")?;
        if let Some(changing) = changing {
            changing.join().map_err(|_| "who changes values panicked")??;
        }
        done
    })?;
    let (mut asked, mut denied) = (Counts::default(), Counts::default());
    for n in 0..ASKING {
        let one: Asked = left(&stage, &format!("storm-{n}")).ok_or("one who asked has left no word")?;
        asked.add(&one.allowed);
        denied.add(&one.denied);
    }
    let (kills, took) = (kills.into_inner(), begun.elapsed());
    let (took, rate) = (took.as_secs_f64(), kills as f64 / took.as_secs_f64());
    let reasons = if victim == Victim::Resolver { refusals(&stage) } else { String::new() };
    eprintln!(
        "{suite}: {what}\n  {kills} kills in {took:.0} s, {rate:.1} a second\n  starts:   {starts}\n  requests: {asked}\n  not allowed: {denied}\n{}",
        reasons.trim_end()
    );
    all_is_well(&stage)?;
    let none = promised.then_some(Wanted::AtMost(0.0));
    let not_refused = (denied.all() - denied.of(Outcome::Refused) - denied.of(Outcome::Unopened)) as f64;
    let some = promised.then_some(Wanted::AtLeast(1.0));
    let row = |name: &str, times: u64, wanted| {
        Row::alone(format!("{what}: {name}"), Unit::Times, times as f64, wanted)
    };
    let mut rows = vec![
        row("kills", kills, Some(Wanted::AtLeast(size.kills as f64))),
        row("starts of units, right", starts.of(Outcome::Right), some),
        row("starts, refused", starts.of(Outcome::Refused), None),
        row("starts with something wrong", starts.wrong(), none),
        row("raw requests, right", asked.of(Outcome::Right), None),
        row("raw requests, refused", asked.of(Outcome::Refused) + asked.of(Outcome::Unopened), None),
    ];
    for (name, outcome) in [
        ("empty", Outcome::Empty),
        ("cut", Outcome::Cut),
        ("doubled", Outcome::Doubled),
        ("foreign", Outcome::Foreign),
    ] {
        rows.push(row(&format!("raw requests, {name}"), asked.of(outcome), none));
    }
    if victim != Victim::Group || form == Form::Sealed {
        rows.push(Row::alone(
            format!("{what}: what is not allowed and not refused"),
            Unit::Times,
            not_refused,
            Some(Wanted::AtMost(0.0)),
        ));
    }
    Ok(rows)
}

/// Waits until an asking unit has ended, as long as it makes progress.
fn wait_long(size: &Size, stage: &Stage, unit: &str) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    while stage.show(unit, "ActiveState") == "active" {
        if begun.elapsed() > size.patience {
            return Err(format!("{unit} is not done").into());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(ran_well(stage, unit)?)
}

/// Starts units at once, waits for them, and adds the results.
pub fn start_some(stage: &Stage, which: Range<usize>, starts: &mut Counts) -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = which.map(|n| format!("{}.service", app(n))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.run(&[&["systemctl", "start"][..], &names].concat()); // some are refused
    let shown = stage.run(&[&["systemctl", "show", "-p", "Result,ExecMainStatus"][..], &names].concat()).ok();
    for unit in shown.split("\n\n") {
        let property = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name));
        let code = property("ExecMainStatus=").and_then(|code| code.parse().ok());
        let outcome = match property("Result=") {
            Some("success") => Some(Outcome::Right),
            Some("exit-code") => code.and_then(Outcome::of_code),
            _ => None,
        };
        starts.note(outcome.ok_or_else(|| format!("a start that is neither right nor refused:\n{unit}"))?);
    }
    Ok(())
}

fn kill_until(enough: &AtomicBool, stage: &Stage, victim: Victim, kills: &AtomicU64) {
    let (unit, most) =
        if victim == Victim::Resolver { (RESOLVER, USED_BY_RESOLVER) } else { (PROVIDER, USED) };
    let (mut lot, mut last) = (lot(), 0);
    while !enough.load(Ordering::Relaxed) {
        let Some(main) = main_of(stage, unit).filter(|&main| main != last) else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let used = (next(&mut lot) % most) << (next(&mut lot) % LONGER);
        let (seen, used) = (Instant::now(), Duration::from_micros(used));
        while processor_time_of(main).is_some_and(|time| time < used) && seen.elapsed() < PEACE {
            thread::sleep(Duration::from_millis(1));
        }
        let killed = match victim {
            Victim::Group => kill_groups(stage, unit),
            Victim::Provider | Victim::Resolver => kill(Pid::from_raw(main), Signal::SIGKILL).is_ok(),
        };
        last = main;
        if killed
            && kills.fetch_add(1, Ordering::Relaxed).is_multiple_of(EMPTIED)
            && victim != Victim::Resolver
        {
            empty_the_store(stage);
        }
    }
}

/// Kills all processes of a unit, and the keepers in their scopes.
fn kill_groups(stage: &Stage, unit: &str) -> bool {
    let kill_all = |group: PathBuf| fs::write(group.join("cgroup.kill"), "1").is_ok();
    let own = group(stage, unit);
    let beside = own.parent().and_then(|slice| fs::read_dir(slice).ok()).into_iter().flatten().flatten();
    let keepers = beside.filter(|entry| entry.file_name().to_string_lossy().starts_with("onecred-keeper-"));
    for entry in keepers {
        kill_all(entry.path());
    }
    kill_all(own)
}

/// How much processor time a process has used.
fn processor_time_of(pid: i32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Empties the store, so that the next provider finds nothing, unless it has read it already.
fn empty_the_store(stage: &Stage) {
    for entry in fs::read_dir(stage.root().join("run/onecred/store")).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

/// Gives items new versions with the same values, so that the provider must fetch them.
fn change_until(enough: &AtomicBool, stage: &Stage) -> io::Result<()> {
    let mut lot = lot();
    while !enough.load(Ordering::Relaxed) {
        let n = next(&mut lot) as usize % (ASKING + STARTED);
        let unit = if n < ASKING { format!("storm-{n}") } else { app(n - ASKING) };
        let id = if n < ASKING { "few" } else { of_app(n - ASKING, Form::Plain)[0] };
        let text = String::from_utf8_lossy(&value(&unit, id, 1)).into_owned();
        stage.connect().set(VAULT, &unit, id, &text)?;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// While the provider runs, a refusal has a reason: lists each once, with its count.
fn refusals(stage: &Stage) -> String {
    let reasons = "journalctl -q -o cat -t onecred -g 'refused: ' | grep -v 'not allowed' | sed 's/.* refused: //' | sort | uniq -c | sort -rn | head -n 5";
    stage.sh(reasons).stdout()
}

/// At the end, the next unit gets its secrets, and the sockets have been active throughout.
fn all_is_well(stage: &Stage) -> Result<(), Box<dyn Error>> {
    wait_until("a unit starts again", || stage.run(&["systemctl", "start", "app-1.service"]).succeeded());
    for socket in ["onecred.socket", "onecred-sealed.socket"] {
        let (state, result) = (stage.show(socket, "ActiveState"), stage.show(socket, "Result"));
        if (state.as_str(), result.as_str()) != ("active", "success") {
            return Err(format!("{socket} is {state}: {result}").into());
        }
    }
    Ok(())
}

/// Kills in the middle of a refusal and of a long value.
fn halves(suite: Suite, size: &Size) -> Result<Vec<Row>, Box<dyn Error>> {
    eprintln!("{suite}: killed in the middle of a value and of a refusal");
    let stage = stage(suite, Victim::Provider, Form::Plain)?;
    let text = runner(&format!("halves storm-0 {}", size.halves));
    stage.units([("storm-0.service", text.as_str())]);
    stage.run(&["systemctl", "start", "storm-0"]).ok();
    wait_long(size, &stage, "storm-0.service")?;
    let Halves { kills, values, refusals } =
        left(&stage, "storm-0").ok_or(format!("nothing was left in {OUT}"))?;
    eprintln!("  {kills} kills\n  values:   {values}\n  refusals: {refusals}");
    let row = |name: &str, times: u64, wanted| {
        Row::alone(format!("killed in the middle: {name}"), Unit::Times, times as f64, Some(wanted))
    };
    Ok(vec![
        row("kills", kills, Wanted::AtLeast(size.halves as f64)),
        row(
            "900 KiB values, each whole or refused",
            values.of(Outcome::Right) + values.of(Outcome::Refused),
            Wanted::AtLeast(values.all() as f64),
        ),
        row(
            "refusals, each still refused",
            refusals.of(Outcome::Refused),
            Wanted::AtLeast(refusals.all() as f64),
        ),
        row("something wrong", values.wrong() + refusals.wrong(), Wanted::AtMost(0.0)),
    ])
}

/// All credentials of a unit together have a valid size.
const _: () = assert!(CREDENTIALS[6].1 + CREDENTIALS[2].1 + 1 < 1 << 20);
