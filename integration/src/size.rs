//! How often a case repeats what it does.
use std::env;

/// A number of repetitions or units: few in a normal run, many if `ONECRED_FULL_SIZE` is set.
pub struct Size {
    /// For each normal run.
    pub short: usize,
    /// For long runs.
    pub full: usize,
}

impl Size {
    /// The number for this run.
    pub fn now(&self) -> usize {
        if env::var_os("ONECRED_FULL_SIZE").is_some() { self.full } else { self.short }
    }
}
