//! Leaves that several layers of the provider name.

pub mod limits;
