//! What can go wrong between this host and 1Password, and what then becomes of units: one table, which the cases play, and which
//! docs/operations.md shows.
mod table;

pub use table::ROWS;

use crate::fake_connect::{Fault, TlsFault};
use std::fmt::Write;

/// One thing that goes wrong with a Connect server.
pub struct Row {
    /// Its short name, fit for a unit's.
    pub name: &'static str,
    /// What happens, in words; empty where the documentation has it in another row.
    pub what: &'static str,
    /// How it is made to happen.
    pub how: How,
    /// What a unit gets whose secret was never fetched since the boot.
    pub cold: Cold,
    /// What a unit gets whose secret was there, and is older than its `maxAge`. A younger one is served without a question, always.
    pub warm: Warm,
    /// What the journal says of it: part of the line, after the reference.
    pub line: &'static str,
    /// What the line says is to be done.
    pub remedy: &'static str,
    /// What is to be done, in words.
    pub todo: &'static str,
    /// The most calls that it may cost: a unit that asks for the first time, and one whose secret was there.
    pub calls: (usize, usize),
    /// Whether a unit that asks when it is over, and waits its minute, has its secret.
    pub ends: bool,
}

/// How a thing is made to go wrong.
pub enum How {
    /// Nobody listens any more.
    Gone,
    /// The host's name is known no more.
    Unknown,
    /// The server comes back with such a certificate.
    Tls(TlsFault),
    /// Replies are spoiled.
    Faults(fn() -> Vec<Fault>),
    /// The items change, and then replies are spoiled.
    Changed(fn() -> Vec<Fault>),
    /// The server has the data of an earlier day.
    Earlier,
    /// The items are deleted.
    Deleted,
    /// The vault is taken from the token.
    Denied,
}

/// What a unit gets that asks for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cold {
    /// It does not start; by this class, at once or, where it passes, at its deadline.
    Refused(&'static str),
    /// The right value.
    Gets,
}

/// What a unit gets whose secret was there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Warm {
    /// What was there, with a word about it, which begins with this class.
    Stale(&'static str),
    /// The right value, without a word.
    Gets,
    /// It does not start, by this class: what was there is known to be right no more.
    Refused(&'static str),
}

impl Row {
    /// Whether it is waited out until the deadline.
    pub fn passes(&self) -> bool {
        matches!(self.cold, Cold::Refused("away" | "rate limited"))
    }
}

/// What becomes of units, in words, and the rows of which it is true.
type Group = (&'static str, fn(&Row) -> bool);

const GROUPS: [Group; 4] = [
    (
        "What passes, or is mended elsewhere. A unit whose secret was never fetched waits, and is refused at its deadline. One whose secret is there, and \
         older than its `maxAge`, gets it as it is after 7 seconds at most, or at its deadline if that is earlier, and its journal says so:",
        |row| row.passes() && matches!(row.warm, Warm::Stale(_)),
    ),
    (
        "What is no answer, and will be none in a moment. A unit whose secret was never fetched is refused at once. One whose secret is there gets it as \
         it is, and its journal says so:",
        |row| !row.passes() && row.cold != Cold::Gets && !matches!(row.warm, Warm::Refused(_)),
    ),
    ("What tells that the secret which is there is right no more, so that no unit gets it:", |row| {
        matches!(row.warm, Warm::Refused(_))
    }),
    (
        "What can only be seen where something newer was there before. A unit whose secret is there gets that, and its journal says so:",
        |row| row.cold == Cold::Gets && matches!(row.warm, Warm::Stale(_)),
    ),
];

/// The table as documentation has it: what shares a line and a remedy is one row of it.
pub fn documented() -> String {
    let mut text = String::new();
    for (words, is_of) in GROUPS {
        let mut rows: Vec<([String; 2], Vec<&str>)> = Vec::new();
        for row in ROWS.iter().filter(|row| is_of(row) && !row.what.is_empty()) {
            let class = match (row.cold, row.warm) {
                (_, Warm::Stale(class) | Warm::Refused(class)) | (Cold::Refused(class), _) => class,
                _ => continue,
            };
            let key = [format!("`{class}: … {}`", row.line), row.todo.to_owned()];
            match rows.iter_mut().find(|(known, _)| *known == key) {
                Some((_, whats)) => whats.push(row.what),
                None => rows.push((key, vec![row.what])),
            }
        }
        let _ = writeln!(text, "{words}\n\n| in `journalctl -u app` | what happens | do |\n|---|---|---|");
        for ([line, todo], whats) in rows {
            let _ = writeln!(text, "| {line} | {} | {todo} |", whats.join("; "));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ROWS, documented};

    const DOCS: &str = include_str!("../../../docs/operations.md");

    #[test]
    fn the_documentation_shows_the_table_that_the_cases_play() {
        let table = documented();
        assert!(DOCS.contains(&table), "docs/operations.md has another table than this:\n{table}");
    }

    #[test]
    fn names_are_of_one_row_each() {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0] != two[1]), "{names:?}");
    }
}
