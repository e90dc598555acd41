//! How the verbs show things: columns for people, JSON for programs, colours on terminals alone.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Whether, and how, what is shown is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(bool);

impl Paint {
    #[cfg(test)]
    pub(super) const NONE: Self = Self(false);

    /// Colours, where standard output is a terminal that knows them and nobody has turned them off (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self(io::stdout().is_terminal() && !set("NO_COLOR") && !dumb)
    }

    /// Something to look at.
    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Something that is wrong.
    pub(super) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Something that is as it should be.
    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One cell of a table.
pub(super) struct Cell {
    text: String,
    shown: Option<String>,
}

impl Cell {
    /// The same with a colour.
    pub(super) fn painted(text: &str, paint: impl FnOnce(&str) -> String) -> Self {
        let text = clean(text);
        Self { shown: Some(paint(&text)), text }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: clean(text.as_ref()), shown: None }
    }
}

/// A line of a table, and lines that stand below it.
pub(super) struct Row {
    /// The cells.
    pub(super) cells: Vec<Cell>,
    /// What stands below, indented.
    pub(super) below: Vec<String>,
}

impl Row {
    /// A line with nothing below it.
    pub(super) fn new(cells: Vec<Cell>) -> Self {
        Self { cells, below: Vec::new() }
    }
}

/// Columns as wide as what stands in them; the last one ends where it ends.
pub(super) fn table(rows: &[Row]) -> String {
    let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or_default();
    let width = |cell: &Cell| cell.text.chars().count();
    let widest =
        |column: usize| rows.iter().filter_map(|row| row.cells.get(column)).map(width).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.cells.iter().enumerate() {
            text.push_str(cell.shown.as_deref().unwrap_or(&cell.text));
            if column + 1 < row.cells.len() {
                text.extend(std::iter::repeat_n(' ', widths[column] - width(cell) + 2));
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
        for line in &row.below {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Text from elsewhere, without what a terminal would act on.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// An age as people say it.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `3 secrets`, `1 secret`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Writes something for programs.
pub(super) fn json(out: &mut dyn Write, what: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, what)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_coloured() {
        let rows = |paint: Paint| {
            let below = vec!["why".to_owned()];
            vec![
                Row::new(vec!["NAME".into(), "STATE".into(), "UNITS".into()]),
                Row {
                    cells: vec!["größe".into(), Cell::painted("failing", |text| paint.red(text)), "a".into()],
                    below,
                },
                Row::new(vec!["b\x1b[2J".into(), "".into(), "".into()]),
            ]
        };
        let plain = "NAME   STATE    UNITS\ngröße  failing  a\n    why\nb\u{fffd}[2J\n";
        assert_eq!(table(&rows(Paint::NONE)), plain);
        assert_eq!(
            table(&rows(Paint(true))),
            table(&rows(Paint::NONE)).replace("failing", "\x1b[31mfailing\x1b[0m")
        );
    }

    #[test]
    fn ages() {
        assert_eq!(
            [0, 119, 120, 7_199, 7_200, 172_800].map(age),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]
        );
    }
}
