//! Benchmarks of the D-Bus interface: how long it takes to list a thousand secrets, and how much a busy
//! client slows down an answer from the store.

use super::{
    Effort,
    ask::{Asker, SOCKETS},
    machines::{PROGRAM, inside, setup},
    table::{Row, Unit, Wanted, quantile},
};
use onecred_integration::{
    machine::{Layer, Suite},
    stage::Stage,
};
use std::{
    env,
    error::Error,
    fs, io,
    process::Command,
    time::{Duration, Instant},
};

const CLIENT: &str = "/usr/bin/bus-client";
const MANY: usize = 1000;

/// Measures on a separate machine.
pub fn rows(suite: Suite, effort: Effort) -> Result<Vec<Row>, Box<dyn Error>> {
    let layer = Layer::create("bench-bus")?;
    fs::create_dir_all(layer.path().join("usr/bin"))?;
    fs::copy(env!("CARGO_BIN_EXE_bus-client"), layer.path().join(CLIENT.trim_start_matches('/')))?;
    fs::copy(env::current_exe()?, layer.path().join(PROGRAM.trim_start_matches('/')))?;
    let stage = setup(suite, MANY).plan(|plan| plan.layer(layer.path())).stage();
    stage.sh("systemctl start dbus.socket onecred.service").ok();
    stage.sh("until busctl --no-pager status org.onecred.Credentials1 >/dev/null 2>&1; do :; done").ok();
    stage.sh("busctl call org.onecred.Credentials1 /org/onecred/Credentials1 org.onecred.Credentials1.Manager RefreshAll t 0 >/dev/null").ok();
    let mut rows = vec![
        time(&stage, "list", "list of 1,000 secrets over D-Bus")?,
        time(&stage, "explain", "Explain among 1,000 secrets")?,
    ];
    rows.extend(inside(&stage, "bus", effort)?);
    Ok(rows)
}

fn time(stage: &Stage, what: &str, name: &str) -> Result<Row, Box<dyn Error>> {
    let microseconds: f64 = stage.sh(&format!("{CLIENT} time 101 {what}")).ok().trim().parse()?;
    Ok(Row::alone(name, Unit::Milliseconds, microseconds / 1000.0, Some(Wanted::AtMost(20.0))))
}

/// Inside the machine: answers from the store while a client makes a hundred D-Bus calls per second (in the
/// column of onecred), and without such a client (in the column of the floor).
pub fn beside_a_client(effort: Effort) -> io::Result<Vec<Row>> {
    let (rounds, each) = match effort {
        Effort::Whole => (41, Duration::from_millis(200)),
        Effort::Quick => (15, Duration::from_millis(150)),
    };
    let mut asker = Asker::of(SOCKETS[0])?;
    let mut pairs = Vec::new();
    for round in 0..rounds {
        let mut pair = [0.0; 2];
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let client = (side == 0).then(|| Command::new(CLIENT).arg("poll").spawn()).transpose()?;
            pair[side] = median_of(&mut asker, each)?;
            if let Some(mut client) = client {
                client.kill()?;
                client.wait()?;
            }
        }
        pairs.push(pair);
    }
    let what = "warm answer, median, beside a D-Bus client that asks 100 times a second";
    Ok(vec![Row::neighbours(what, Unit::Microseconds, &pairs, Some(Wanted::AtMost(1.1)))])
}

fn median_of(asker: &mut Asker, duration: Duration) -> io::Result<f64> {
    let end = Instant::now() + duration;
    let mut times = Vec::with_capacity(1 << 14);
    let mut before = Instant::now();
    while before < end {
        asker.ask()?;
        let now = Instant::now();
        times.push((now - before).as_secs_f64() * 1e6);
        before = now;
    }
    Ok(quantile(times, 0.5))
}
