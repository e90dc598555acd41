//! Getting what requests need.

pub mod preview;
pub mod resolver_unit;
