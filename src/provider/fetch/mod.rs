//! Gets the values that requests need.

pub mod absent;
mod askers;
pub mod assemble;
pub mod broker;
pub mod bus_pace;
pub mod outages;
pub mod preview;
pub mod resolver_unit;
pub mod rotation;
pub mod single_flight;
pub mod source_status;
pub mod start;
pub mod unit_files;
