//! Benchmarks of answers from the store: how many per second for 1, 2 and 8 simultaneous askers, and how long
//! each takes.

use super::{
    Effort,
    ask::{Asker, SOCKETS},
    table::{Row, Unit, Wanted, quantile},
};
use std::{
    io, thread,
    time::{Duration, Instant},
};

/// Measures both servers in turn.
pub fn rows(effort: Effort) -> io::Result<Vec<Row>> {
    let (rounds, each) = match effort {
        Effort::Whole => (41, Duration::from_millis(200)),
        Effort::Quick => (15, Duration::from_millis(150)),
    };
    let mut rows = Vec::new();
    for threads in [1, 2, 8] {
        let mut taken: Vec<[Vec<f64>; 2]> = Vec::new();
        for round in 0..rounds {
            let mut pair = [Vec::new(), Vec::new()];
            // each server is first equally often
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                pair[side] = ask_for(each, threads, SOCKETS[side])?;
            }
            taken.push(pair);
        }
        let pairs = |of: &dyn Fn(&[f64]) -> f64| -> Vec<[f64; 2]> {
            taken.iter().map(|pair| [of(&pair[0]), of(&pair[1])]).collect()
        };
        let throughput = pairs(&|times| times.len() as f64 / each.as_secs_f64());
        let what = format!("warm answers, {threads} at once");
        rows.push(Row::neighbours(what, Unit::PerSecond, &throughput, Some(Wanted::AtLeast(0.7))));
        if threads == 1 {
            for (part, wanted) in [(0.5, Some(Wanted::AtMost(1.5))), (0.99, None)] {
                let times = pairs(&|times| quantile(times.iter().copied(), part));
                let what = format!("warm answer, p{:.0}", part * 100.0);
                rows.push(Row::neighbours(what, Unit::Microseconds, &times, wanted));
            }
        }
    }
    Ok(rows)
}

/// Requests from one server with this many threads for a while. Returns the duration of each answer in µs.
fn ask_for(duration: Duration, threads: usize, socket: &str) -> io::Result<Vec<f64>> {
    let askers = (0..threads).map(|_| Asker::of(socket)).collect::<io::Result<Vec<_>>>()?;
    let end = Instant::now() + duration;
    thread::scope(|scope| {
        let asking: Vec<_> = askers.into_iter().map(|asker| scope.spawn(move || until(end, asker))).collect();
        let mut all = Vec::new();
        for thread in asking {
            all.extend(thread.join().map_err(|_| io::Error::other("an asker panicked"))??);
        }
        Ok(all)
    })
}

fn until(end: Instant, mut asker: Asker) -> io::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(1 << 16);
    let mut before = Instant::now();
    while before < end {
        asker.ask()?;
        let now = Instant::now();
        times.push((now - before).as_secs_f64() * 1e6);
        before = now;
    }
    Ok(times)
}
