//! A fake 1Password Connect server with switchable faults, for tests.
//!
//! It answers as the real server does ([`routes`]). The program is `fake-connect`; [`FakeConnect::start`]
//! runs it in a thread of the test. [`Control`] controls either.

mod filter;
mod otp;
mod routes;
#[cfg(test)]
mod tests;

pub use crate::fake::{
    Control, DEFAULT_TOKEN, Edit, Fault, Kind, Options, Seen, TlsFault, edit, fault, vault,
};
pub use routes::Connect;

/// A fake in a separate thread.
pub type FakeConnect = crate::fake::Fake<Connect>;
