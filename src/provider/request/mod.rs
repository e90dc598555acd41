//! The path of a request.

pub mod unit_totals;
