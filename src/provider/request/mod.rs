//! The path of a request.

pub mod attestation;
mod file_handle;
pub mod keeper;
pub mod reply;
pub mod request_log;
pub(super) mod sealed_pace;
pub mod sealer;
pub(crate) mod send_budget;
pub mod server;
