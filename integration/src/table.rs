//! Measurements as rows of a table: the figure, the floor's figure, their ratio, the limit, and whether it
//! holds.

use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    what: String,
    unit: Unit,
    onecred: f64,
    floor: Option<f64>,
    ratio: Option<f64>,
    wanted: Option<Wanted>,
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Unit {
    /// Answers per second.
    PerSecond,
    /// Millionths of a second.
    Microseconds,
    /// Thousandths of a second.
    Milliseconds,
    /// Memory, or the size of a file.
    Mebibytes,
    /// Requests to a server.
    Calls,
    /// How often something was observed.
    Times,
}

/// The limit of the ratio, or of the figure if there is no ratio.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Wanted {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Row {
    /// A figure without a comparison.
    pub fn alone(what: impl Into<String>, unit: Unit, onecred: f64, wanted: Option<Wanted>) -> Self {
        Self { what: what.into(), unit, onecred, floor: None, ratio: None, wanted }
    }

    /// Figures from periods that were long enough, each of onecred with one of the floor beside it. The ratio
    /// is the median of the ratios of neighbours, because the load of the machine changes over time for both.
    pub fn neighbours(
        what: impl Into<String>,
        unit: Unit,
        pairs: &[[f64; 2]],
        wanted: Option<Wanted>,
    ) -> Self {
        let ratio = median(pairs.iter().map(|[onecred, floor]| onecred / floor));
        Self { ratio: Some(ratio), ..Self::events(what, unit, pairs, wanted) }
    }

    /// Single events in turn: the ratio is that of the medians.
    pub fn events(what: impl Into<String>, unit: Unit, pairs: &[[f64; 2]], wanted: Option<Wanted>) -> Self {
        let [onecred, floor] = [0, 1].map(|side| median(pairs.iter().map(|pair| pair[side])));
        Self { what: what.into(), unit, onecred, floor: Some(floor), ratio: Some(onecred / floor), wanted }
    }

    /// Whether it is a count, which is the same on every machine, however fast or busy.
    pub fn is_a_count(&self) -> bool {
        matches!(self.unit, Unit::Calls | Unit::Times)
    }

    /// Whether the limit holds; `None` without a limit.
    pub fn holds(&self) -> Option<bool> {
        let judged = self.ratio.unwrap_or(self.onecred);
        self.wanted.map(|wanted| match wanted {
            Wanted::AtLeast(least) => judged >= least,
            Wanted::AtMost(most) => judged <= most,
        })
    }
}

/// The median.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this fraction of all values lies.
pub fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Formats the table.
pub fn table(rows: &[Row]) -> String {
    let head = ["", "onecred", "floor", "ratio", "wanted", ""].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |cells: &[String; 6]| {
        let text: String = cells
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(n, (cell, width))| match n {
                0 | 5 => format!("{cell:<width$}  "),
                _ => format!("{cell:>width$}  "),
            })
            .collect();
        format!("{}\n", text.trim_end())
    };
    lines.iter().map(line).collect()
}

fn cells(row: &Row) -> [String; 6] {
    let figure = |value: f64| match row.unit {
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Microseconds => format!("{value:.1} µs"),
        Unit::Milliseconds => format!("{value:.2} ms"),
        Unit::Mebibytes => format!("{value:.1} MiB"),
        Unit::Calls => format!("{value:.0} calls"),
        Unit::Times => format!("{value:.0}"),
    };
    let wanted = |bound: f64| if row.ratio.is_some() { format!("{bound:.2}") } else { figure(bound) };
    let wanted = row.wanted.map(|is| match is {
        Wanted::AtLeast(least) => format!(">= {}", wanted(least)),
        Wanted::AtMost(most) => format!("<= {}", wanted(most)),
    });
    let verdict = row.holds().map_or("", |holds| if holds { "holds" } else { "FAILS" });
    [
        row.what.clone(),
        figure(row.onecred),
        row.floor.map(figure).unwrap_or_default(),
        row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        wanted.unwrap_or_default(),
        verdict.to_owned(),
    ]
}
