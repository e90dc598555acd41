//! The privileged half: takes connections, knows who asks, decides, and answers from the store or by the resolver.

pub mod base;
pub mod bus;
pub mod consumers;
pub mod fetch;
pub mod figures;
pub mod keeper;
pub mod observe;
pub mod peer;
pub mod publish;
pub mod reply;
pub mod report;
pub mod request;
mod room;
pub mod run;
pub mod sealer;
pub mod server;
pub mod store;
