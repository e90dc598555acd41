//! Records the duration of each case: one line per case in the file `ONECRED_TIMES`, which `integration/run`
//! reads for its summary.
//!
//! A line has four fields separated by tabs: name, `ok`, `failed` or `disturbed`, wall time in milliseconds,
//! and the processor time in milliseconds that the case's machine used in that time. On a shared machine, this
//! includes the cases that ran at the same time.
use std::{
    cell::Cell,
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Write,
    time::Duration,
};

thread_local! {
    static CASE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Sets the case that this thread runs.
pub(crate) fn set_case(number: u64) {
    CASE.set(Some(number));
}

/// The number of the case that this thread runs, if any.
pub(crate) fn this_case() -> Option<u64> {
    CASE.get()
}

/// How a case ended.
#[derive(Clone, Copy)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It failed while other cases ran, and passed alone.
    Disturbed,
}

impl Outcome {
    /// The outcome of a case that ran once.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Passed } else { Self::Failed }
    }

    /// Its name in a record.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "failed",
            Self::Disturbed => "disturbed",
        }
    }
}

/// The outcome and duration of one case.
pub struct Record<'a> {
    /// `SUITE::theme::case`.
    pub name: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// From its start to its end.
    pub wall: Duration,
    /// The processor time of its machine; `None` if that did not boot.
    pub processor: Option<Duration>,
}

impl Record<'_> {
    fn line(&self) -> String {
        let Self { name, outcome, wall, processor } = self;
        format!(
            "{name}\t{}\t{}\t{}\n",
            outcome.word(),
            wall.as_millis(),
            processor.unwrap_or_default().as_millis()
        )
    }

    /// Appends the record to the file, if one is set. Uses a single write, so that lines of several threads
    /// and processes stay intact.
    pub fn write(&self) {
        let Some(path) = env::var_os("ONECRED_TIMES") else { return };
        let file = File::options().create(true).append(true).open(&path);
        if let Err(error) = file.and_then(|mut file| file.write_all(self.line().as_bytes())) {
            eprintln!("{}: {error}", path.to_string_lossy());
        }
    }
}

/// The total duration of each theme, from the records of an earlier run in the file `ONECRED_EARLIER_TIMES`.
/// Empty without that file.
pub fn earlier() -> BTreeMap<String, u64> {
    let path = env::var_os("ONECRED_EARLIER_TIMES");
    themes(&path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default())
}

/// Milliseconds by `SUITE::theme`.
fn themes(records: &str) -> BTreeMap<String, u64> {
    let mut themes = BTreeMap::new();
    for line in records.lines() {
        let mut fields = line.split('\t');
        let theme = fields.next().and_then(|name| name.rsplit_once("::"));
        let wall = fields.nth(1).and_then(|wall| wall.parse::<u64>().ok());
        if let (Some((theme, _)), Some(wall)) = (theme, wall) {
            *themes.entry(theme.to_owned()).or_default() += wall;
        }
    }
    themes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let record = |name, wall| {
            let (wall, processor) = (Duration::from_millis(wall), Some(Duration::from_millis(7)));
            Record { name, outcome: Outcome::Passed, wall, processor }.line()
        };
        assert_eq!(record("host::a::x", 10), "host::a::x\tok\t10\t7\n");
        let text = [record("host::a::x", 10), record("host::a::y", 5), record("sid::b::x", 1)].concat();
        let expected = BTreeMap::from([("host::a".to_owned(), 15), ("sid::b".to_owned(), 1)]);
        assert_eq!(themes(&(text + "cut off\nx\tok\n")), expected);
    }
}
