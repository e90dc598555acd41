//! A fake 1Password service with one service account and switchable faults, for tests: the official SDK core logs in to it and
//! resolves from it.
//!
//! It serves the same data as the fake Connect server, translated into what the core decrypts ([`details`], [`files`]).
//! `fake-account` is this as a program; [`FakeAccount::start`] is this on a thread of the test; its `control` gives the token.

mod details;
mod envelope;
mod files;
mod keys;
mod routes;
mod session;
mod srp;
#[cfg(test)]
mod tests;

pub use crate::fake::{Control, Edit, Fault, Kind, Options, Seen, TlsFault};
pub use routes::Account;

/// One on a thread of its own.
pub type FakeAccount = crate::fake::Fake<Account>;
