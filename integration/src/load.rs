//! Limits how many machines run at once to what the processors can serve.
//!
//! On overloaded processors, cases miss deadlines and do not end sooner. The kernel's pressure stall
//! information shows for how much of the time processes have waited for a processor.
use std::{
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The number of machines per processor that run whatever the load is, because most cases wait most of the
/// time.
const ALWAYS: usize = 2;
/// The pressure above which no other machine is booted.
const BUSY: f64 = 0.75;
/// How long the pressure is measured.
const SAMPLE: Duration = Duration::from_millis(200);

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts a machine as running until it is dropped.
pub(crate) struct Room(());

impl Drop for Room {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until the processors can serve another machine.
pub(crate) fn wait_for_room() -> Room {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    while !has_room(RUNNING.load(Ordering::SeqCst), processors, pressure) {}
    RUNNING.fetch_add(1, Ordering::SeqCst);
    Room(())
}

fn has_room(running: usize, processors: usize, pressure: impl FnOnce() -> Option<f64>) -> bool {
    running < ALWAYS * processors || pressure().is_none_or(|pressure| pressure < BUSY)
}

/// The current fraction of time in which some process waited for a processor. `None` if the kernel does not
/// report it.
fn pressure() -> Option<f64> {
    let (start, before) = (Instant::now(), waited()?);
    thread::sleep(SAMPLE);
    let waited = waited()?.saturating_sub(before);
    Some(waited.as_secs_f64() / start.elapsed().as_secs_f64())
}

fn waited() -> Option<Duration> {
    total(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

fn total(text: &str) -> Option<Duration> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    let total = some.split(' ').find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_processors_get_no_more_machines_than_always_run() {
        for (running, pressure, room) in [
            (0, Some(1.0), true),
            (3, Some(1.0), true),
            (4, Some(1.0), false),
            (4, Some(0.75), false),
            (4, Some(0.5), true),
            (40, Some(0.0), true),
            (40, None, true),
        ] {
            assert_eq!(has_room(running, 2, || pressure), room, "{running} at {pressure:?}");
        }
    }

    #[test]
    fn the_kernels_text_is_understood() {
        let text = "some avg10=97.36 avg60=97.69 avg300=80.52 total=9392145653\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(total(text), Some(Duration::from_micros(9_392_145_653)));
        for text in ["", "some avg10=1\n", "full total=1\n", "some total=x\n"] {
            assert_eq!(total(text), None, "{text}");
        }
    }
}
