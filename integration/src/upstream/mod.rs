//! Failures between this host and 1Password, and their effect on units: a table that the cases play and docs/operations.md shows.
mod table;

pub use table::ROWS;

use crate::fake_connect::{Fault, TlsFault};
use std::fmt::Write;

/// A failure of a Connect server.
pub struct Row {
    /// A short name, valid in a unit's name.
    pub name: &'static str,
    /// What happens; empty if another row of the documentation describes it.
    pub what: &'static str,
    /// How the test causes it.
    pub how: How,
    /// The result for a unit whose secret was not fetched since boot.
    pub cold: Cold,
    /// The result for a unit whose secret was fetched and is older than its `maxAge`. Newer values are always served without a check.
    pub warm: Warm,
    /// The cause in the journal line, after the reference.
    pub line: &'static str,
    /// The remedy in the journal line.
    pub remedy: &'static str,
    /// What to do, for the documentation.
    pub todo: &'static str,
    /// The maximum number of calls for a unit whose secret was not fetched before, and for one whose secret was.
    pub calls: (usize, usize),
    /// Whether a unit that requests the secret after the failure gets it within a minute.
    pub ends: bool,
}

/// How the test causes a failure.
pub enum How {
    /// The server stops listening.
    Gone,
    /// The host name cannot be resolved.
    Unknown,
    /// The server restarts with such a certificate.
    Tls(TlsFault),
    /// Responses are modified.
    Faults(fn() -> Vec<Fault>),
    /// The items change, then responses are modified.
    Changed(fn() -> Vec<Fault>),
    /// The server returns older data.
    Earlier,
    /// The items are deleted.
    Deleted,
    /// The token loses access to the vault.
    Denied,
}

/// The result for a unit whose secret was not fetched before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cold {
    /// It does not start, with this class: at once, or at its deadline if the failure is temporary.
    Refused(&'static str),
    /// The right value.
    Gets,
}

/// The result for a unit whose secret was fetched before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Warm {
    /// The old value, and a journal line that begins with this class.
    Stale(&'static str),
    /// The right value, without a journal line.
    Gets,
    /// It does not start, with this class, because the old value is known to be outdated.
    Refused(&'static str),
}

impl Row {
    /// Whether units wait for its end until their deadline.
    pub fn passes(&self) -> bool {
        matches!(self.cold, Cold::Refused("away" | "rate limited"))
    }
}

/// The effect on units, and the rows that have it.
type Group = (&'static str, fn(&Row) -> bool);

const GROUPS: [Group; 4] = [
    (
        "Temporary failures. If the secret was not fetched since boot, the unit waits, and is refused at its deadline. If a fetched value is older than its `maxAge`, the unit gets this value after at most 7 seconds, and its journal says so. If the deadline is earlier, the unit gets it at the deadline:",
        |row| row.passes() && matches!(row.warm, Warm::Stale(_)),
    ),
    (
        "Permanent failures. If the secret was not fetched since boot, the unit is refused at once. If it was fetched, the unit gets the old value, and its journal says so:",
        |row| !row.passes() && row.cold != Cold::Gets && !matches!(row.warm, Warm::Refused(_)),
    ),
    ("Failures after which the old value is known to be outdated. Units are refused:", |row| {
        matches!(row.warm, Warm::Refused(_))
    }),
    (
        "A failure that shows only if a newer value was fetched before. The unit gets that value, and its journal says so:",
        |row| row.cold == Cold::Gets && matches!(row.warm, Warm::Stale(_)),
    ),
];

/// The tables of the documentation. Failures with the same journal line and remedy share a row.
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
        let _ =
            writeln!(text, "{words}\n\n| in `journalctl -u app` | what happens | action |\n|---|---|---|");
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
