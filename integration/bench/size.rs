//! Memory after many requests for many secrets: the provider's, its keeper's, the resolver's.

use super::{
    Effort,
    ask::{Asker, SECRETS, SOCKETS},
    table::{Row, Unit, Wanted},
};
use std::{env, fs, io, process::Command};

const MOST: Option<Wanted> = Some(Wanted::AtMost(12.0));

/// Measures onecred after one process has asked it 10,000 times.
pub fn after_requests() -> io::Result<Vec<Row>> {
    let mut asker = Asker::of(SOCKETS[0])?;
    (0..10_000).try_for_each(|_| asker.ask())?;
    let provider = pids("onecred.service")?;
    let resolver = pids("onecred-resolver.service")?;
    let binary = fs::metadata("/usr/bin/onecred")?.len() as f64 / f64::from(1 << 20);
    let what = format!("provider after 10,000 requests for {SECRETS} secrets");
    Ok(vec![
        Row::alone("release binary", Unit::Mebibytes, binary, Some(Wanted::AtMost(10.0))),
        memory(format!("{what}, VmRSS"), &provider[..1], resident, MOST)?,
        memory("the same with its keeper, Pss", &provider, proportional, MOST)?,
        memory("resolver, VmRSS", &resolver, resident, Some(Wanted::AtMost(20.0)))?,
    ])
}

/// Measures onecred after many processes have asked it once, as units do that start.
pub fn after_processes(effort: Effort) -> io::Result<Vec<Row>> {
    let processes = if effort == Effort::Whole { 10_000 } else { 1_000 };
    let program = env::current_exe()?;
    for n in 0..processes {
        let asked = Command::new(&program).args(["inside", "one", &(n % SECRETS).to_string()]).status()?;
        if !asked.success() {
            return Err(io::Error::other(format!("one who asks: {asked}")));
        }
    }
    let what = format!("provider after {processes} processes have asked once, VmRSS");
    Ok(vec![memory(what, &pids("onecred.service")?[..1], resident, MOST)?])
}

/// Asks once, for the nth secret.
pub fn one(n: usize) -> io::Result<()> {
    let mut asker = Asker::of(SOCKETS[0])?;
    asker.skip_to(n);
    asker.ask()
}

/// The processes of a service, the main one first.
fn pids(unit: &str) -> io::Result<Vec<u32>> {
    let main = Command::new("systemctl").args(["show", "--value", "-p", "MainPID", unit]).output()?.stdout;
    let number = |text: &str| text.trim().parse().map_err(io::Error::other);
    let main: u32 = number(&String::from_utf8_lossy(&main))?;
    let listed = fs::read_to_string(format!("/sys/fs/cgroup/system.slice/{unit}/cgroup.procs"))?;
    let mut all = listed.lines().map(number).collect::<io::Result<Vec<u32>>>()?;
    all.sort_by_key(|&pid| (pid != main, pid));
    Ok(all)
}

fn memory(
    what: impl Into<String>,
    pids: &[u32],
    of: fn(u32) -> io::Result<f64>,
    most: Option<Wanted>,
) -> io::Result<Row> {
    let sum = pids.iter().map(|&pid| of(pid)).sum::<io::Result<f64>>()?;
    Ok(Row::alone(what, Unit::Mebibytes, sum, most))
}

fn resident(pid: u32) -> io::Result<f64> {
    mebibytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

fn proportional(pid: u32) -> io::Result<f64> {
    mebibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn mebibytes(file: &str, key: &str) -> io::Result<f64> {
    let text = fs::read_to_string(file)?;
    let kibibytes =
        text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other(format!("{file} says no {key}")))
}
