//! What is done to units: restarts after a change, recovery after an outage.

mod received;
pub mod recovery;
pub mod restarts;
