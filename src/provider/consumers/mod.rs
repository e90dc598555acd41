//! What is done to units: restarts after a change, recovery after an outage.

pub mod recovery;
pub mod restarts;
