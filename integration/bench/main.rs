//! Measures onecred on a booted systemd, compared with a minimal C program in the same sandbox, and prints a
//! table. Run by `integration/bench/run`.
//!
//! Durations vary between machines and over time. Therefore only ratios of figures that were measured in turn
//! are judged.

mod account;
mod ask;
mod bus;
mod calls;
mod large;
mod load;
mod machines;
mod publish;
mod size;
mod starts;

use onecred_integration::{
    machine::{Suite, clear_on_signals},
    setup::{forget_installations, probe_is_at},
    table,
};
use std::{env, error::Error, path::PathBuf, process::ExitCode};
use table::Row;

/// The number of repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// All of them, for reliable figures.
    Whole,
    /// Fewer, for a first impression.
    Quick,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let effort = if words.iter().any(|word| word == "--quick") { Effort::Quick } else { Effort::Whole };
    let result = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["inside", "one", side, n] => size::one(side, n).map(|()| true).map_err(Into::into),
        ["inside", phase, ..] => inside(phase, effort).map(|()| true),
        _ => outside(&words, effort),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("it can't be measured: {error}");
            ExitCode::from(2)
        }
    }
}

/// Inside a unit of the machine: measures, and prints the rows for the process outside.
fn inside(phase: &str, effort: Effort) -> Result<(), Box<dyn Error>> {
    if phase == "bus" {
        println!("{}", serde_json::to_string(&bus::beside_a_client(effort)?)?);
        return Ok(());
    }
    for socket in ask::SOCKETS {
        let mut asker = ask::Asker::of(socket)?;
        (0..ask::SECRETS).try_for_each(|_| asker.ask()).map_err(|error| format!("{socket}: {error}"))?;
    }
    let rows = match phase {
        "memory" => size::after_requests()?,
        "load" => load::rows(effort)?,
        "starts" => starts::rows()?,
        "many" => size::after_processes(effort)?,
        _ => return Err(format!("there is no phase {phase}").into()),
    };
    println!("{}", serde_json::to_string(&rows)?);
    Ok(())
}

/// Measures in all suites. Returns whether all limits hold.
fn outside(words: &[String], effort: Effort) -> Result<bool, Box<dyn Error>> {
    clear_on_signals()?;
    probe_is_at(env!("CARGO_BIN_EXE_probe"));
    let floor = env::var_os("ONECRED_FLOOR").map(PathBuf::from);
    let floor = floor.ok_or("ONECRED_FLOOR does not say where the floor is; use integration/bench/run")?;
    let only = words.iter().position(|word| word == "--only").and_then(|at| words.get(at + 1));
    let chosen = |phase: &str| only.is_none_or(|only| only == phase);
    let phases: Vec<&str> = machines::PHASES.into_iter().filter(|phase| chosen(phase)).collect();
    if phases.is_empty() && !["calls", "bus", "publish", "account", "large"].into_iter().any(chosen) {
        return Err(format!(
            "there is no such phase; there are {}, calls, bus, publish, account and large",
            machines::PHASES.join(", ")
        )
        .into());
    }
    let mut all: Vec<Row> = Vec::new();
    for suite in Suite::chosen()? {
        let mut rows = Vec::new();
        if !phases.is_empty() {
            rows.extend(machines::measure(suite, &floor, &phases, effort)?);
        }
        if chosen("calls") {
            rows.extend(calls::rows(suite)?);
        }
        if chosen("bus") {
            rows.extend(bus::rows(suite, effort)?);
        }
        if chosen("publish") {
            rows.extend(publish::rows(suite, effort)?);
        }
        if chosen("large") {
            rows.extend(large::rows(suite)?);
        }
        if chosen("account") {
            rows.extend(account::rows(suite, effort)?);
        }
        println!("\n{}", table::table(&rows));
        println!(
            "onecred and floor: medians; the ratio of warm answers: the median of the ratios of rounds side by side"
        );
        all.extend(rows);
    }
    forget_installations();
    let strict = words.iter().any(|word| word == "--strict");
    Ok(!strict || all.iter().all(|row| row.holds() != Some(false)))
}
