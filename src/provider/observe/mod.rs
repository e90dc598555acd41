//! Counters and states for metrics, D-Bus and the command line.

pub mod counters;
pub mod metrics;
pub mod secret_status;
