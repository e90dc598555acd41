//! A fake 1Password Connect server with switchable faults, for tests.
//!
//! It answers as the real one does ([`routes`]) from a JSON file ([`vault`]), until it is told to misbehave ([`fault`]) or to change its
//! data ([`edit`]). `fake-connect` is this as a program; [`FakeConnect::start`] is this on a thread of the test.
//! [`Control`] steers either of the two.

mod body;
mod client;
mod clock;
mod connection;
mod control;
pub mod edit;
pub mod fault;
mod filter;
mod misbehave;
mod otp;
mod reply;
mod routes;
mod server;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod tls;
pub mod vault;

pub use client::Control;
pub use edit::Edit;
pub use fault::{Fault, Kind};
pub use start::{DEFAULT_TOKEN, FakeConnect, Options, serve_until};
pub use state::Seen;
pub use tls::TlsFault;
