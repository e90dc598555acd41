//! Themes of cases, each case a trial of its own in every suite; what fails shows its machine's journal.
use crate::{machine::Suite, stage::Stage};
use libtest_mimic::{Failed, Trial};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Cases about one thing, on one kind of stage.
pub struct Theme {
    /// What they are about.
    pub name: &'static str,
    /// Boots what they play on.
    pub stage: fn(Suite) -> Stage,
    /// One stage for all of them, at the same time; or one for each.
    pub shared: bool,
    /// The cases, by name.
    pub cases: &'static [(&'static str, Case)],
}

/// What one case does; it ends badly by panicking.
pub type Case = fn(&Stage);

type Lazy = Arc<OnceLock<Result<Stage, String>>>;

/// Names a theme's cases after their functions.
#[macro_export]
macro_rules! cases {
    ($($case:ident),+ $(,)?) => { &[$((stringify!($case), $case as $crate::theme::Case)),+] };
}

/// Makes trials of all cases of all themes in all suites. A shared stage ends with the last trial that holds it.
pub fn trials(themes: &[&'static Theme], suites: &[Suite]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for &suite in suites {
        for &theme in themes {
            let shared = Lazy::default();
            for &(name, case) in theme.cases {
                let stage = if theme.shared { Arc::clone(&shared) } else { Lazy::default() };
                let boot = theme.stage;
                let name = format!("{suite}::{}::{name}", theme.name);
                trials.push(Trial::test(name, move || play(case, &stage, boot, suite)));
            }
        }
    }
    trials
}

fn play(case: Case, stage: &Lazy, boot: fn(Suite) -> Stage, suite: Suite) -> Result<(), Failed> {
    CASE.set(None); // what a stage is set with is for all cases on it
    let stage = stage
        .get_or_init(|| caught(|| boot(suite)))
        .as_ref()
        .map_err(|reason| Failed::from(format!("the stage could not be set: {reason}")))?;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    CASE.set(Some(NEXT.fetch_add(1, Ordering::Relaxed)));
    let from = stage.machine.journal_cursor();
    caught(|| case(stage)).map_err(|reason| {
        let journal = stage.machine.journal_since(&from);
        Failed::from(format!("{reason}\n---- the machine's journal since the case began\n{journal}"))
    })
}

thread_local! {
    static CASE: Cell<Option<u64>> = const { Cell::new(None) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What tells the case that this thread plays from others, if it plays one.
pub(crate) fn this_case() -> Option<u64> {
    CASE.get()
}

/// Keeps what a panic says, and where, for the report of the case instead of the middle of another's.
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
