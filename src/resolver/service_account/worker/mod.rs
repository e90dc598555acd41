//! The worker: a process of the resolver's own that has 1Password's core in it. Hung or crashed it is killed, and another one started.

mod link;
mod process;
mod protocol;

#[cfg(test)]
pub(super) use link::Answer;
pub(super) use link::{Launch, Trouble, Work, Worker};
pub use process::run;
pub(super) use protocol::{Ask, Refused, Told, Wanted};

/// What the fuzzer tries on what the two say to each other: what is read, written, and read again is the same.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(json: &[u8]) {
    crate::fuzzing::again::<protocol::Request>(json);
    crate::fuzzing::again::<protocol::Response>(json);
}
