//! The path of a request.

pub mod attestation;
mod file_handle;
pub mod handler;
pub mod keeper;
pub mod listener;
pub mod reply;
pub mod request_log;
pub(super) mod sealed_pace;
pub(crate) mod send_budget;
