//! A fake 1Password Connect server with switchable faults, for tests.
//!
//! It answers as the real one does ([`routes`]). `fake-connect` is this as a program; [`FakeConnect::start`] is this on a thread of
//! the test. [`Control`] steers either of the two.

mod filter;
mod otp;
mod routes;
#[cfg(test)]
mod tests;

pub use crate::fake::{
    Control, DEFAULT_TOKEN, Edit, Fault, Kind, Options, Seen, TlsFault, edit, fault, vault,
};
pub use routes::Connect;

/// One on a thread of its own.
pub type FakeConnect = crate::fake::Fake<Connect>;
