//! Storms on a booted systemd, each judged by what units would start with: crashes, held connections, many
//! units at once, the end of an outage, many sealed units, an hour of load. Run by `integration/storm/run`.
//!
//! Counts are the same on every machine, and always judged. Durations are ratios of figures measured in turn,
//! which are judged with `--strict`.

mod asker;
mod crashes;
mod halves;
mod held;
mod holder;
mod inside;
mod machines;
mod out;
mod outcome;
mod recovery;
mod sealed;
mod soak;
mod units;
mod values;

use onecred_integration::{
    machine::{Suite, clear_on_signals},
    setup::{forget_installations, probe_is_at},
    table::{Row, table},
};
use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

/// The amounts of everything.
#[derive(Debug, Clone)]
pub struct Size {
    /// Kills of a process.
    pub kills: u64,
    /// Starts of units in that time.
    pub starts: u64,
    /// Raw requests in that time.
    pub requests: u64,
    /// Threads per asking process.
    pub threads: u64,
    /// Kills in the middle of an answer.
    pub halves: u64,
    /// Connections that are held.
    pub held: usize,
    /// Connections that never read, and requests at once.
    pub many: usize,
    /// Units at once.
    pub units: usize,
    /// Units that were refused in an outage.
    pub recovering: usize,
    /// How often starts from the store are measured, in turn with the floor.
    pub rounds: usize,
    /// Groups of hardened units.
    pub crowds: &'static [Crowd],
    /// The duration of the mixed load.
    pub soak: Duration,
    /// The pause between two rounds of the mixed load.
    pub pause: Duration,
    /// How long anything may take before it counts as hung.
    pub patience: Duration,
}

/// Hardened units that start at once.
#[derive(Debug)]
pub struct Crowd {
    units: usize,
    /// How often.
    rounds: usize,
    /// Whether they also start at the plain socket, for the ratio. With 200 units or more, this takes
    /// minutes.
    plain: bool,
}

const WHOLE: Size = Size {
    kills: 2400,
    starts: 5000,
    requests: 200_000,
    threads: 8,
    halves: 200,
    held: 6000,
    many: 10_000,
    units: 300,
    recovering: 500,
    rounds: 10,
    crowds: &[
        Crowd { units: 96, rounds: 3, plain: true },
        Crowd { units: 200, rounds: 1, plain: true },
        Crowd { units: 500, rounds: 1, plain: false },
    ],
    soak: Duration::from_secs(3600),
    pause: Duration::from_millis(500),
    patience: Duration::from_secs(7200),
};
const QUICK: Size = Size {
    kills: 10,
    starts: 40,
    requests: 400,
    threads: 2,
    halves: 4,
    held: 700,
    many: 1500,
    units: 60,
    recovering: 60,
    rounds: 2,
    crowds: &[Crowd { units: 40, rounds: 1, plain: true }],
    soak: Duration::from_secs(3),
    pause: Duration::from_millis(50),
    patience: Duration::from_secs(300),
};

const PHASES: [&str; 6] = ["crashes", "held", "units", "recovery", "sealed", "soak"];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["inside", ref what @ ..] => inside::run(what).map_err(Into::into),
        _ => outside(&words),
    };
    result.unwrap_or_else(|error| {
        eprintln!("the storm can't be told: {error}");
        ExitCode::from(2)
    })
}

fn outside(words: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    clear_on_signals()?;
    probe_is_at(env!("CARGO_BIN_EXE_probe"));
    let has = |word: &str| words.contains(&word);
    let after = |word: &str| words.iter().position(|it| *it == word).and_then(|at| words.get(at + 1));
    let mut size = if has("--quick") { QUICK } else { WHOLE };
    if let Some(percent) = after("--percent").map(|percent| percent.parse::<u64>()).transpose()? {
        for count in [&mut size.kills, &mut size.starts, &mut size.requests, &mut size.halves] {
            *count = *count * percent / 100;
        }
    }
    if let Some(minutes) = after("--minutes") {
        size.soak = Duration::from_secs(60 * minutes.parse::<u64>()?);
    }
    let floor = env::var_os("ONECRED_FLOOR").map(PathBuf::from);
    let floor = floor.ok_or("ONECRED_FLOOR does not say where the floor is; use integration/storm/run")?;
    let only = after("--only");
    let phases: Vec<&str> =
        PHASES.into_iter().filter(|phase| only.is_none_or(|only| only == phase)).collect();
    if phases.is_empty() {
        return Err(format!("there is no such phase; there are {}", PHASES.join(", ")).into());
    }
    let mut all: Vec<Row> = Vec::new();
    for suite in Suite::chosen()? {
        let mut rows = Vec::new();
        for phase in &phases {
            rows.extend(match *phase {
                "crashes" => crashes::rows(suite, &size)?,
                "held" => held::rows(suite, &size)?,
                "units" => units::rows(suite, &size, &floor)?,
                "recovery" => recovery::rows(suite, &size)?,
                "sealed" => sealed::rows(suite, &size)?,
                _ => soak::rows(suite, &size)?,
            });
        }
        println!("\n{suite}\n{}", table(&rows));
        all.extend(rows);
    }
    forget_installations();
    let fails = |row: &Row| row.holds() == Some(false) && (row.is_a_count() || has("--strict"));
    Ok(if all.iter().any(fails) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
