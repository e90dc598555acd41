//! What can go wrong between this host and 1Password, and what then happens to units: one table, which the
//! cases play and docs/operations.md shows.
mod table;

pub use table::ROWS;

use crate::fake_connect::{Fault, TlsFault};
use std::fmt::Write;

/// One fault of a Connect server.
pub struct Row {
    /// Its short name, which is also valid in the name of a unit.
    pub name: &'static str,
    /// The description; empty if another row of the documentation covers it.
    pub what: &'static str,
    /// How to cause it.
    pub how: How,
    /// What a unit gets whose secret was not fetched since boot.
    pub cold: Cold,
    /// What a unit gets whose secret is cached and older than its `maxAge`. A younger one is always served
    /// without a check.
    pub warm: Warm,
    /// What the journal says: the part of the line after the reference.
    pub line: &'static str,
    /// The remedy in the line.
    pub remedy: &'static str,
    /// The description of the remedy.
    pub todo: &'static str,
    /// The most calls that it may cost: for a unit that asks for the first time, and for one whose secret is
    /// cached.
    pub calls: (usize, usize),
    /// Whether a unit that asks after the end of the fault gets its secret within a minute.
    pub ends: bool,
}

/// How to cause a fault.
pub enum How {
    /// The server does not listen.
    Gone,
    /// The name of the host cannot be resolved.
    Unknown,
    /// The server starts again with such a certificate.
    Tls(TlsFault),
    /// Replies are changed.
    Faults(fn() -> Vec<Fault>),
    /// The items change, and then replies are changed.
    Changed(fn() -> Vec<Fault>),
    /// The server has the data of an earlier day.
    Earlier,
    /// The items are deleted.
    Deleted,
    /// The token loses access to the vault.
    Denied,
}

/// What a unit gets that asks for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cold {
    /// It does not start, with this class: at once, or at its deadline if the fault is temporary.
    Refused(&'static str),
    /// The right value.
    Gets,
}

/// What a unit gets whose secret is cached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Warm {
    /// The cached value, and a log line that begins with this class.
    Stale(&'static str),
    /// The right value, without a log line.
    Gets,
    /// It does not start, with this class: the cached value is known to be invalid.
    Refused(&'static str),
}

impl Row {
    /// Whether units wait for its end until their deadline.
    pub fn passes(&self) -> bool {
        matches!(self.cold, Cold::Refused("away" | "rate limited"))
    }
}

/// What happens to units, as text, and the rows that it applies to.
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

/// The table for the documentation: rows with the same line and remedy are merged.
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
