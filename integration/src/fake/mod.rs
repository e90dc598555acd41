//! The common part of the fakes of 1Password: they serve a JSON file ([`vault`]) over real connections, with
//! faults ([`fault`]) and changes of the data ([`edit`]) on demand. A [`Service`] defines the answers;
//! [`Control`] controls a fake.

pub(crate) mod body;
mod client;
pub(crate) mod clock;
mod connection;
mod control;
pub mod edit;
pub mod fault;
mod misbehave;
pub mod program;
pub(crate) mod reply;
mod server;
pub(crate) mod service;
mod start;
pub(crate) mod state;
mod tls;
pub mod vault;

/// The prefix of the paths by which tests control a fake.
const PREFIX: &str = "/__fake/";

pub use client::Control;
pub use edit::Edit;
pub use fault::{Fault, Kind};
pub use start::{DEFAULT_TOKEN, Fake, Options, serve_until};
pub use state::Seen;
pub use state::Service;
pub use tls::TlsFault;
