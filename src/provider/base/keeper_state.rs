//! The state of the keeper, for `onecred status`: whether it runs, and in which control group.

use std::sync::{Mutex, PoisonError};

/// The state of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Keeper {
    /// It runs. It is in a scope, is being moved there, or runs outside systemd.
    #[default]
    Fine,
    /// It runs in the service's control group, for this reason.
    InService(String),
    /// It was killed.
    Gone,
}

impl Keeper {
    /// The problem, its consequence and the remedy; empty without a problem.
    pub fn problem(&self) -> String {
        match self {
            Self::Fine => String::new(),
            Self::InService(why) => format!(
                "the keeper process has no scope unit ({why}): if all processes of onecred.service are killed at once, a unit at the plain socket can start with an incomplete value; try: systemctl restart onecred"
            ),
            Self::Gone => "the keeper process was killed: onecred restarts when no connection is open; if the provider is killed before, a unit at the plain socket can start with an incomplete value".to_owned(),
        }
    }
}

/// The state of the keeper, shared by the parts of the provider.
#[derive(Debug, Default)]
pub struct KeeperState(Mutex<Keeper>);

impl KeeperState {
    /// Sets the state. `Gone` is final.
    pub fn set(&self, state: Keeper) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != Keeper::Gone {
            *current = state;
        }
    }

    /// The state now.
    pub fn get(&self) -> Keeper {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_that_was_killed_does_not_come_back() {
        let state = KeeperState::default();
        assert_eq!(state.get().problem(), "");
        state.set(Keeper::InService("why".into()));
        assert!(state.get().problem().contains("(why)"));
        state.set(Keeper::Fine);
        assert_eq!(state.get(), Keeper::Fine);
        state.set(Keeper::Gone);
        state.set(Keeper::Fine);
        assert!(state.get().problem().contains("was killed"));
    }
}
