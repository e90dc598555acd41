//! Getting what requests need.

pub mod preview;
