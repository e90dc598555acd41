//! Leaves that several layers of the provider name.

pub mod files;
pub mod last_valid;
pub mod limits;
pub mod peer;
pub mod process_id;
pub mod seal_error;
