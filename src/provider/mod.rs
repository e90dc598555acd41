//! The privileged half: takes connections, knows who asks, decides, and answers from the store or by the resolver.

pub mod base;
pub mod bus;
pub mod consumers;
pub mod fetch;
pub mod figures;
pub mod observe;
pub mod publish;
pub mod request;
pub mod run;
pub mod store;
