//! Kills the provider repeatedly while connections are in the middle of a 900 KiB value or of a refusal.

use super::{
    asker::{Asker, Form},
    out::{OUT, keep},
    outcome::Counts,
    values::{NOBODYS, lot, next},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{fs, fs::File, io, io::Read, thread, time::Duration};

const GROUP: &str = "/sys/fs/cgroup/system.slice/onecred.service/cgroup.procs";
/// Connections in each round, half of them refused.
const AT_ONCE: usize = 16;

/// The results.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Halves {
    /// Kills in the middle.
    pub kills: u64,
    /// Of connections that had received a part of their value.
    pub values: Counts,
    /// Of connections that had received a part of their refusal.
    pub refusals: Counts,
}

/// Runs the rounds, and writes the sums to a file.
pub fn inside(unit: &str, rounds: u64) -> io::Result<()> {
    let (mut asker, mut lot, mut all) = (Asker::of(unit, Form::Plain)?, lot(), Halves::default());
    for _ in 0..rounds {
        let mut open = Vec::new();
        for n in 0..AT_ONCE {
            let id = if n % 2 == 0 { "long" } else { NOBODYS };
            let (mut socket, mut got) = (File::from(asker.connected(id)?), Vec::new());
            // when this returns, the first byte has arrived: the provider is in the middle of the answer
            let part = 1 + next(&mut lot) as usize % 600_000;
            asker.read(&mut socket, &mut got, part)?;
            open.push((id, socket, got));
        }
        kill_the_provider()?;
        all.kills += 1;
        for (id, mut socket, mut got) in open {
            asker.read(&mut socket, &mut got, usize::MAX)?;
            let (outcome, _) = asker.judge(&got, id, 0);
            if id == NOBODYS { all.refusals.note(outcome) } else { all.values.note(outcome) }
        }
    }
    fs::create_dir_all(OUT)?;
    keep(unit, &serde_json::to_vec(&all)?)
}

fn kill_the_provider() -> io::Result<()> {
    loop {
        for pid in fs::read_to_string(GROUP)?.lines().filter_map(|line| line.parse().ok()) {
            if is_provider(pid) {
                return Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process is the provider; its keeper has another name.
pub fn is_provider(pid: i32) -> bool {
    let mut name = String::new();
    let read = File::open(format!("/proc/{pid}/comm")).and_then(|mut file| file.read_to_string(&mut name));
    read.is_ok() && name == "onecred\n"
}
