//! States in the colours of the tables.

use super::table::Cell;

/// Formats the state of a secret or a template.
pub(in crate::cli) fn state(state: &str, held: Option<&str>) -> Cell {
    match (state, held) {
        ("held", Some(by)) => Cell::bold(&format!("held ({by})")),
        ("failing", _) => Cell::red("failing"),
        ("fresh", _) => Cell::green("fresh"),
        (state, _) => state.into(),
    }
}
