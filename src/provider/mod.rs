//! The privileged half: takes connections, knows who asks, decides, and answers from the store or by the resolver.

pub mod base;
pub mod consumers;
pub mod context;
pub mod dbus;
pub mod fetch;
pub mod observe;
pub mod publish;
pub mod request;
pub mod run;
pub mod store;
