//! Tables that fit the terminal.

use unicode_width::UnicodeWidthStr;

use super::text::wrap;
use crate::cli::common::show::{Paint, clean};

/// The number of columns between two cells.
const GAP: usize = 2;
/// The indentation of lines below a row.
const INDENT: &str = "    ";
/// The minimum width of the last column. With less space it is placed below its row.
const LAST: usize = 20;

/// The colour of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    None,
    Bold,
    Red,
    Green,
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Cell {
    text: String,
    colour: Colour,
}

impl Cell {
    /// A heading, or something to notice.
    pub(in crate::cli) fn bold(text: &str) -> Self {
        Self { text: clean(text), colour: Colour::Bold }
    }

    /// A problem.
    pub(in crate::cli) fn red(text: &str) -> Self {
        Self { text: clean(text), colour: Colour::Red }
    }

    /// Something that is in order.
    pub(in crate::cli) fn green(text: &str) -> Self {
        Self { text: clean(text), colour: Colour::Green }
    }

    fn width(&self) -> usize {
        self.text.width()
    }

    fn longest_word(&self) -> usize {
        self.text.split(' ').map(UnicodeWidthStr::width).max().unwrap_or_default()
    }

    fn painted(&self, text: &str, paint: Paint) -> String {
        match self.colour {
            Colour::None => text.to_owned(),
            Colour::Bold => paint.bold(text),
            Colour::Red => paint.red(text),
            Colour::Green => paint.green(text),
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: clean(text.as_ref()), colour: Colour::None }
    }
}

/// A row of a table, with lines below it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Row {
    /// The cells.
    pub(in crate::cli) cells: Vec<Cell>,
    /// The lines below the row, which are indented.
    pub(in crate::cli) below: Vec<Cell>,
}

impl Row {
    /// A row without lines below it.
    pub(in crate::cli) fn new(cells: Vec<Cell>) -> Self {
        Self { cells, below: Vec::new() }
    }
}

/// The positions of the columns.
struct Layout {
    /// The first screen column of each.
    starts: Vec<usize>,
    /// The width of the last column; `None` if it is placed below its row.
    last: Option<usize>,
    /// The width of the terminal.
    width: usize,
}

impl Layout {
    /// Makes columns as wide as their cells. If the table is too wide, wraps the last column. If that leaves
    /// too little space, places it below its row. If the other columns still do not fit, each cell wider than
    /// a third of the terminal moves the rest of its row to the next line.
    fn of(rows: &[Row], width: usize) -> Self {
        let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or_default();
        let cells = |column: usize| rows.iter().filter_map(move |row| row.cells.get(column));
        let widest = |column, cap| cells(column).map(Cell::width).filter(|width| *width <= cap).max();
        let starts = |cap: usize| {
            let ends = (0..columns).scan(0, |end, column| {
                let start = *end;
                *end += widest(column, cap).unwrap_or(0) + GAP;
                Some(start)
            });
            ends.collect::<Vec<usize>>()
        };
        let at = columns.saturating_sub(1);
        let needs = cells(at).map(Cell::width).max().unwrap_or(0);
        let word = cells(at).map(Cell::longest_word).max().unwrap_or(0);
        let all = starts(usize::MAX);
        let left = |starts: &[usize]| width.saturating_sub(starts.last().copied().unwrap_or(0));
        if at == 0 || left(&all) >= needs.min(word.max(LAST)) {
            return Self { last: Some(left(&all)), starts: all, width };
        }
        let others = (0..at).map(|column| widest(column, usize::MAX).unwrap_or(0)).sum::<usize>();
        let starts = match others + at.saturating_sub(1) * GAP <= width {
            true => all,
            false => starts(width / 3),
        };
        Self { starts, last: None, width }
    }

    fn write(&self, row: &Row, paint: Paint, text: &mut String) {
        let mut position = 0;
        for (column, cell) in row.cells.iter().enumerate() {
            if cell.text.is_empty() {
                continue;
            }
            let is_last = column + 1 == self.starts.len();
            let (start, room) = match (is_last, self.last) {
                (false, _) => (self.starts[column], usize::MAX),
                (true, Some(width)) => (self.starts[column], width),
                (true, None) => (INDENT.len(), self.width - INDENT.len()),
            };
            let is_below = is_last && self.last.is_none();
            if position > 0 && (is_below || position + GAP > start) {
                text.push('\n');
                position = 0;
            }
            for (line, piece) in wrap(&cell.text, room, "", "").iter().enumerate() {
                if line > 0 {
                    text.push('\n');
                    position = 0;
                }
                text.extend(std::iter::repeat_n(' ', start - position));
                text.push_str(&cell.painted(piece, paint));
                position = start + piece.width();
            }
        }
        text.push('\n');
        for cell in &row.below {
            for piece in wrap(&cell.text, self.width - INDENT.len(), "", "") {
                text.push_str(INDENT);
                text.push_str(&cell.painted(&piece, paint));
                text.push('\n');
            }
        }
    }
}

/// Formats rows in columns, no wider than the terminal.
pub(in crate::cli) fn table(rows: &[Row], paint: Paint) -> String {
    let layout = Layout::of(rows, paint.width());
    let mut text = String::new();
    rows.iter().for_each(|row| layout.write(row, paint, &mut text));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(cells: &[&str]) -> Row {
        Row::new(cells.iter().map(Into::into).collect())
    }

    #[test]
    fn columns_line_up_whatever_is_coloured() {
        let rows = vec![
            row(&["NAME", "STATE", "UNITS"]),
            Row {
                cells: vec!["größe".into(), Cell::red("failing"), "a".into()], below: vec!["why".into()]
            },
            row(&["b\x1b[2J", "", ""]),
        ];
        let plain = "NAME   STATE    UNITS\ngröße  failing  a\n    why\nb\u{fffd}[2J\n";
        assert_eq!(table(&rows, Paint::NONE), plain);
        let coloured = plain.replace("failing", "\x1b[31mfailing\x1b[0m");
        assert_eq!(table(&rows, Paint::coloured(80)), coloured);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let rows = [row(&["秘密秘", "a"]), row(&["abcd", "b"]), row(&["e\u{301}e", "c"])];
        assert_eq!(table(&rows, Paint::NONE), "秘密秘  a\nabcd    b\ne\u{301}e      c\n");
    }

    #[test]
    fn the_last_column_wraps() {
        let rows = [row(&["NAME", "UNITS"]), row(&["a", "one.service, two.service, three.service"])];
        let expected = "NAME  UNITS\na     one.service, two.service,\n      three.service\n";
        assert_eq!(table(&rows, Paint::plain(40)), expected);
    }

    #[test]
    fn a_last_column_that_would_be_too_narrow_stands_below() {
        let rows = [
            row(&["NAME", "STATE", "UNITS"]),
            row(&["a-rather-long-name", "fresh", "one.service, two.service, three.service"]),
        ];
        let expected = "\
NAME                STATE
    UNITS
a-rather-long-name  fresh
    one.service, two.service,
    three.service
";
        assert_eq!(table(&rows, Paint::plain(40)), expected);
    }

    #[test]
    fn a_cell_that_is_too_wide_moves_the_rest_to_the_next_line() {
        let long = "a-name-of-forty-one-characters-and-more-x";
        let rows = [row(&["b", "fresh", "2 min", "x"]), row(&[long, "failing", "-", "y"])];
        let expected = format!("b  fresh    2 min\n    x\n{long}\n   failing  -\n    y\n");
        assert_eq!(table(&rows, Paint::plain(42)), expected);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_all_fits(
            cells in prop::collection::vec(prop::collection::vec("[a-z秘]{0,8}( [a-z秘]{1,8}){0,5}", 3), 1..6),
            width in 40_usize..120,
        ) {
            let rows: Vec<Row> = cells.iter().map(|cells| Row::new(cells.iter().map(Into::into).collect())).collect();
            let text = table(&rows, Paint::plain(width));
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(words(&text), words(&cells.concat().join(" ")));
            for line in text.lines() {
                let whole = rows.iter().flat_map(|row| &row.cells).any(|cell| cell.width() + INDENT.len() > width / 3 && line.contains(cell.text.trim()));
                prop_assert!(line.width() <= width || whole, "{} {:?}", width, line);
            }
        }
    }
}
