//! Counters and states, as metrics, D-Bus and the command line show them.

pub mod counters;
pub mod metrics;
pub mod secret_status;
