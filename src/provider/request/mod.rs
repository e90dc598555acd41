//! The path of a request.

pub(super) mod sealed_pace;
