//! Secrets, references, templates, and the policy that decides which unit may have which secret. No I/O.

pub mod glob;
pub mod name;
pub(crate) mod nearest;
pub mod policy;
pub mod reference;
pub mod seal;
pub mod secret;
pub mod template;
pub mod unit_pattern;
