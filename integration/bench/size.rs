//! Measures the memory of the provider, its keeper and the resolver after many requests for many secrets.

use super::{
    Effort,
    ask::{Asker, SECRETS, SOCKETS},
    table::{Row, Unit, Wanted},
};
use std::{env, fs, io, process::Command, time::Instant};

const MOST: Option<Wanted> = Some(Wanted::AtMost(12.0));

/// Measures onecred after one process has made 10,000 requests.
pub fn after_requests() -> io::Result<Vec<Row>> {
    let mut asker = Asker::of(SOCKETS[0])?;
    (0..10_000).try_for_each(|_| asker.ask())?;
    let provider = pids("onecred.service")?;
    let resolver = pids("onecred-resolver.service")?;
    let binary = fs::metadata("/usr/bin/onecred")?.len() as f64 / f64::from(1 << 20);
    let what = format!("provider after 10,000 requests for {SECRETS} secrets");
    Ok(vec![
        Row::alone("release binary", Unit::Mebibytes, binary, Some(Wanted::AtMost(14.0))),
        memory(format!("{what}, VmRSS"), &provider[..1], resident_here, MOST)?,
        memory("the same with its keeper, Pss", &provider, proportional, MOST)?,
        memory("resolver, VmRSS", &resolver, resident_here, Some(Wanted::AtMost(20.0)))?,
    ])
}

/// Measures onecred after many processes have made one request each, as starting units do, and then the
/// duration of another answer.
pub fn after_processes(effort: Effort) -> io::Result<Vec<Row>> {
    let (processes, pairs) = if effort == Effort::Whole { (10_000, 300) } else { (1_000, 50) };
    for n in 0..processes {
        ask_as_a_process(0, n)?;
    }
    let pairs = (0..pairs).map(|n| Ok([ask_as_a_process(0, n)?, ask_as_a_process(1, n)?]));
    let pairs = pairs.collect::<io::Result<Vec<_>>>()?;
    let what = format!("provider after {processes} processes have asked once, VmRSS");
    Ok(vec![
        memory(what, &pids("onecred.service")?[..1], resident_here, MOST)?,
        // not judged: it shows whether the earlier processes slow onecred down
        Row::events("answer to yet another process, p50", Unit::Microseconds, &pairs, None),
    ])
}

/// Requests from one of the servers in a new process. Returns the duration in µs.
fn ask_as_a_process(side: usize, n: usize) -> io::Result<f64> {
    let words = ["inside", "one", &side.to_string(), &(n % SECRETS).to_string()];
    let asked = Command::new(env::current_exe()?).args(words).output()?;
    let said = String::from_utf8_lossy(&asked.stdout);
    said.trim().parse().map_err(|_| io::Error::other(format!("one who asks: {}, {said:?}", asked.status)))
}

/// Requests the nth secret from one of the servers, and prints the duration in µs.
pub fn one(side: &str, n: &str) -> io::Result<()> {
    let [side, n] = [side, n].map(|word| word.parse::<usize>().unwrap_or(0));
    let mut asker = Asker::of(SOCKETS[side])?;
    asker.skip_to(n);
    let before = Instant::now();
    asker.ask()?;
    println!("{}", before.elapsed().as_secs_f64() * 1e6);
    Ok(())
}

/// The processes of a service, the main process first. The provider's keeper is one of them.
fn pids(unit: &str) -> io::Result<Vec<u32>> {
    let main = Command::new("systemctl").args(["show", "--value", "-p", "MainPID", unit]).output()?.stdout;
    let number = |text: &str| text.trim().parse().map_err(io::Error::other);
    let main: u32 = number(&String::from_utf8_lossy(&main))?;
    let slice = "/sys/fs/cgroup/system.slice";
    let mut listed = fs::read_to_string(format!("{slice}/{unit}/cgroup.procs"))?;
    for entry in fs::read_dir(slice)?.flatten().filter(|_| unit == "onecred.service") {
        if entry.file_name().to_string_lossy().starts_with("onecred-keeper-") {
            listed += &fs::read_to_string(entry.path().join("cgroup.procs"))?;
        }
    }
    let mut all = pids_of(&listed)?;
    all.sort_by_key(|&pid| (pid != main, pid));
    Ok(all)
}

/// The processes in the list of a control group.
pub fn pids_of(listed: &str) -> io::Result<Vec<u32>> {
    listed.lines().map(|line| line.trim().parse().map_err(io::Error::other)).collect()
}

/// The total memory of some processes.
pub fn memory(
    what: impl Into<String>,
    pids: &[u32],
    of: impl Fn(u32) -> io::Result<f64>,
    most: Option<Wanted>,
) -> io::Result<Row> {
    let sum = pids.iter().map(|&pid| of(pid)).sum::<io::Result<f64>>()?;
    Ok(Row::alone(what, Unit::Mebibytes, sum, most))
}

fn resident_here(pid: u32) -> io::Result<f64> {
    resident(&fs::read_to_string(format!("/proc/{pid}/status"))?)
}

/// The resident memory of a process, from its status file.
pub fn resident(status: &str) -> io::Result<f64> {
    mebibytes(status, "VmRSS:")
}

fn proportional(pid: u32) -> io::Result<f64> {
    mebibytes(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss:")
}

fn mebibytes(text: &str, key: &str) -> io::Result<f64> {
    let kibibytes =
        text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other(format!("the kernel says no {key}")))
}
