//! The path of a request.

pub(super) mod sealed_pace;
pub mod unit_totals;
