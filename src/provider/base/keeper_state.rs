//! What is known about the keeper, for `onecred status`: whether it lives, and in which control group.

use std::sync::{Mutex, PoisonError};

/// How the keeper is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Keeper {
    /// It lives. It is in a scope, or on its way there, or outside systemd.
    #[default]
    Fine,
    /// It lives in the service's control group, for this reason.
    InService(String),
    /// It was killed.
    Gone,
}

impl Keeper {
    /// What is wrong, what follows, and what to do. Empty if nothing is.
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

/// The state, shared by the parts of the provider.
#[derive(Debug, Default)]
pub struct KeeperState(Mutex<Keeper>);

impl KeeperState {
    /// Sets it. A keeper that was killed does not come back.
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
