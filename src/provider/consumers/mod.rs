//! Actions on units: restarts after a change, and recovery after an outage.

mod received;
pub mod recovery;
pub mod restarts;
