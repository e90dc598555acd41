//! Basic types that several layers of the provider use.

pub mod active_config;
pub mod asker;
pub mod events;
pub mod files;
pub(crate) mod item_key;
pub mod keeper_state;
pub mod limits;
pub mod peer;
pub mod process_id;
pub(crate) mod publish_error;
pub mod refusal;
pub mod seal_error;
pub mod sealer;
pub(in crate::provider) mod side_by_side;
pub mod unit_totals;
