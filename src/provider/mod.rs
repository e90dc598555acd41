//! The privileged process: accepts connections, attests the peers, applies the policy, and answers from the
//! store or through the resolver.

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
