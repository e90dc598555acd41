//! Items as 1Password sends them: which item a reference matches, and the values of its fields. No I/O.

pub(crate) mod labels;
pub(crate) mod matching;
pub(crate) mod model;
pub(crate) mod otp;
pub(crate) mod ssh;
pub(crate) mod value;
