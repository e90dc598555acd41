//! The worker: a child process of the resolver that has 1Password's SDK core loaded. If it hangs or crashes,
//! it is killed and replaced.

mod link;
mod process;
mod protocol;

#[cfg(test)]
pub(super) use link::WorkerAnswer;
pub(super) use link::{Launch, Work, Worker, WorkerError};
pub use process::run;
pub(super) use protocol::{Ask, Refused, Told, Wanted};

/// The fuzz target for the worker protocol: parsing, serializing and parsing again must give the same result.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(json: &[u8]) {
    crate::fuzzing::again::<protocol::WorkerRequest>(json);
    crate::fuzzing::again::<protocol::Response>(json);
}
