//! What secrets, references and templates are, and which unit may have which secret. Without I/O.

pub mod glob;
pub mod name;
pub(crate) mod nearest;
pub mod policy;
pub mod reference;
pub mod seal;
pub mod secret;
pub mod template;
pub mod unit_pattern;
