//! The privileged half: takes connections, knows who asks, decides, and answers from the store or by the resolver.

pub mod active;
pub mod assemble;
pub mod broker;
pub mod bus;
pub mod condition;
pub mod events;
pub mod flights;
pub mod freshness;
pub mod keeper;
pub mod peer;
pub mod pins;
pub mod publish;
pub mod recovery;
pub mod refusal;
pub mod reply;
pub mod report;
pub mod restarts;
pub mod rotation;
pub mod run;
pub mod sealer;
pub mod server;
pub mod store;
pub mod tally;
pub mod trouble;
pub mod units;
