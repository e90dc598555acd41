//! A fake 1Password service with one service account and switchable faults, for tests. The official SDK core
//! logs in to it and resolves references.
//!
//! It serves the same data as the fake Connect server, converted into what the core decrypts ([`details`],
//! [`files`]). The program is `fake-account`; [`FakeAccount::start`] runs it in a thread of the test. Its
//! `control` returns the token.

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

/// A fake in a separate thread.
pub type FakeAccount = crate::fake::Fake<Account>;
