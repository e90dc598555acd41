//! The networked half: it knows references and 1Password, nothing of units or files.

pub mod run;
