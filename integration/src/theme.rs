//! Themes: groups of cases. Each case is a separate trial in every suite. A failure shows the journal of its
//! machine.
use crate::{
    load,
    machine::Suite,
    record::{self, Outcome, Record},
    stage::Stage,
};
use libtest_mimic::{Failed, Trial};
use std::{
    any::Any,
    cell::RefCell,
    cmp::Reverse,
    env,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Cases about one subject, on one kind of stage.
pub struct Theme {
    /// The subject.
    pub name: &'static str,
    /// Boots the stage.
    pub stage: fn(Suite) -> Stage,
    /// Whether all cases share one stage and run at the same time, or each has its own.
    ///
    /// A case that fails while others run is played again alone, and that result counts. The summary of a run
    /// names it as disturbed.
    pub shared: bool,
    /// The cases by name.
    pub cases: &'static [(&'static str, Case)],
}

/// The function of a case; it fails by a panic.
pub type Case = fn(&Stage);

type Lazy = Arc<OnceLock<Result<Stage, String>>>;

/// Names a theme's cases after their functions.
#[macro_export]
macro_rules! cases {
    ($($case:ident),+ $(,)?) => { &[$((stringify!($case), $case as $crate::theme::Case)),+] };
}

/// Creates trials of all cases of all themes in all suites. A shared stage ends with the last trial that uses
/// it.
///
/// Themes that took longest in an earlier run come first, so that no long one remains at the end. The cases
/// of a theme stay together, because they share a machine.
pub fn trials(themes: &[&'static Theme], suites: &[Suite]) -> Vec<Trial> {
    let earlier = record::earlier();
    let mut blocks: Vec<(Suite, &Theme)> =
        suites.iter().flat_map(|&suite| themes.iter().map(move |&theme| (suite, theme))).collect();
    blocks.sort_by_key(|(suite, theme)| {
        // without a record, a theme with one machine per case is assumed to be long
        let took = earlier.get(&format!("{suite}::{}", theme.name)).copied();
        Reverse(took.unwrap_or(if theme.shared { 0 } else { theme.cases.len() as u64 }))
    });
    blocks.into_iter().flat_map(|(suite, theme)| trials_of(theme, suite)).collect()
}

fn trials_of(theme: &'static Theme, suite: Suite) -> Vec<Trial> {
    let shared = Lazy::default();
    let trial = |&(case, play): &(&str, Case)| {
        let stage = if theme.shared { Arc::clone(&shared) } else { Lazy::default() };
        let name = format!("{suite}::{}::{case}", theme.name);
        let play = Play { name: name.clone(), case: play, boot: theme.stage, suite, stage };
        Trial::test(name, move || play.decided())
    };
    theme.cases.iter().map(trial).collect()
}

/// How long the boot of a machine with its environment may take before it counts as hung.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// How long a case may take on a booted machine before it counts as hung: `ONECRED_CASE_LIMIT` in seconds, or
/// ten minutes.
fn limit() -> Duration {
    let seconds = env::var("ONECRED_CASE_LIMIT").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(600))
}

/// How many failed cases are played again in one run. More failures than these have another cause than the load.
const SECOND_CHANCES: usize = 8;

/// Whether another failed case may be played again.
fn may_play_again() -> bool {
    static USED: AtomicUsize = AtomicUsize::new(0);
    USED.fetch_add(1, Ordering::Relaxed) < SECOND_CHANCES
}

/// Held shared by each case that runs, and exclusively by one that is played again.
static ALONE: RwLock<()> = RwLock::new(());

fn beside_others<T>(work: impl FnOnce() -> T) -> T {
    let _others = ALONE.read().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Waits until the cases that run have ended. Others start afterwards.
fn without_others<T>(work: impl FnOnce() -> T) -> T {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// A case to run.
struct Play {
    name: String,
    case: Case,
    boot: fn(Suite) -> Stage,
    suite: Suite,
    stage: Lazy,
}

/// How a case ran.
struct Run {
    result: Result<(), String>,
    hung: bool,
    wall: Duration,
    processor: Option<Duration>,
}

/// What the thread of a case reports.
enum Report {
    Booted,
    Ended(Result<(), String>),
}

/// The result of a case; `None` if it hangs.
fn outcome(reports: &mpsc::Receiver<Report>, limit: Duration) -> Option<Result<(), String>> {
    let mut report = reports.recv_timeout(BOOT_LIMIT).ok()?;
    if matches!(report, Report::Booted) {
        report = reports.recv_timeout(limit).ok()?;
    }
    match report {
        Report::Ended(result) => Some(result),
        Report::Booted => None,
    }
}

impl Play {
    /// Runs it. If it fails while others run, runs it again alone, on a new stage.
    fn decided(self) -> Result<(), Failed> {
        let alone = Play { stage: Lazy::default(), name: self.name.clone(), ..self };
        let (name, mut run) = (self.name.clone(), beside_others(|| self.within(limit())));
        let mut outcome = Outcome::of(&run.result);
        if let Err(beside) = &run.result
            && !run.hung
            && may_play_again()
        {
            let first = format!("---- {name} failed while other cases ran:\n{beside}");
            run = without_others(|| alone.within(limit()));
            outcome = if run.result.is_ok() { Outcome::Disturbed } else { Outcome::Failed };
            eprintln!("{first}\n---- alone: {}", outcome.word());
        }
        Record { name: &name, outcome, wall: run.wall, processor: run.processor }.write();
        run.result.map_err(Failed::from)
    }

    /// Runs it in a separate thread. If it exceeds the limit, it fails with its machine's journal, and the
    /// machine is switched off.
    fn within(self, limit: Duration) -> Run {
        let _room = self.stage.get().is_none().then(load::wait_for_room);
        let (stage, start) = (Arc::clone(&self.stage), Instant::now());
        let (sender, reports) = mpsc::channel();
        let before = processor_time(&stage);
        // not scoped: a thread that hangs is abandoned
        thread::spawn(move || {
            let result = self.play(|| drop(sender.send(Report::Booted)));
            // the last trial with the stage drops it, which clears the machine before the program ends
            drop(self.stage);
            let _ = sender.send(Report::Ended(result));
        });
        let ended = outcome(&reports, limit);
        let hung = ended.is_none();
        let result = ended.unwrap_or_else(|| Err(end_hung(&stage, limit)));
        let processor = processor_time(&stage).map(|after| after.saturating_sub(before.unwrap_or_default()));
        Run { result, hung, wall: start.elapsed(), processor }
    }

    fn play(&self, booted: impl FnOnce()) -> Result<(), String> {
        let stage = self
            .stage
            .get_or_init(|| caught(|| (self.boot)(self.suite))) // no case owns the consumers of the set-up
            .as_ref()
            .map_err(|reason| format!("the stage could not be set: {reason}"))?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        record::set_case(NEXT.fetch_add(1, Ordering::Relaxed));
        let from = SystemTime::now();
        booted();
        caught(|| (self.case)(stage)).map_err(|reason| {
            let journal = stage.machine.journal_from(from);
            format!("{reason}\n---- the machine's journal since the case began\n{journal}")
        })
    }
}

/// The processor time of a case's machine so far, if it has booted.
fn processor_time(stage: &Lazy) -> Option<Duration> {
    stage.get()?.as_ref().ok()?.machine.processor_time()
}

/// Reports that a case hangs, with its machine's journal. Switches the machine off, which ends what the case
/// is waiting for.
fn end_hung(stage: &Lazy, limit: Duration) -> String {
    let Some(Ok(stage)) = stage.get() else {
        return format!("its machine has not booted after {} s", BOOT_LIMIT.as_secs());
    };
    let why = format!("it has not ended after {} s", limit.as_secs());
    let journal = stage.machine.journal_since("");
    stage.machine.switch_off();
    format!("{why}\n---- the machine's whole journal\n{journal}")
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the message and location of a panic for the report of its case, instead of printing them in the
/// middle of another's output.
pub fn keep_panics_for_reports() {
    panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .map_err(|payload| PANIC.take().unwrap_or_else(|| text(&*payload)))
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text =
        payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").into()
}
