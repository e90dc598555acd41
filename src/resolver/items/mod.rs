//! Items as 1Password sends them: which one a reference means, and the value of each of their fields. Without I/O.

pub(crate) mod labels;
pub(crate) mod matching;
pub(crate) mod model;
pub(crate) mod otp;
pub(crate) mod ssh;
pub(crate) mod value;
