//! What a case plays on: a booted machine, and what runs beside it.
use crate::machine::{Machine, Plan};

/// A machine and its surroundings.
pub struct Stage {
    /// The machine.
    pub machine: Machine,
}

impl Stage {
    /// Boots a plan.
    #[track_caller]
    pub fn of(plan: &Plan) -> Self {
        Self { machine: plan.boot().unwrap_or_else(|fault| panic!("{fault}")) }
    }
}

impl std::ops::Deref for Stage {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}
