//! Units whose start failed with the result `dependency`, while the units that they need may still be
//! restarted.

use std::collections::BTreeMap;

use super::MOST;

/// These units, each with the units that it needs. The order in which the service manager reports them says
/// nothing about their dependencies.
#[derive(Debug, Default)]
pub(super) struct Dependents(BTreeMap<String, Vec<String>>);

impl Dependents {
    /// Records that the start of a unit failed because a unit that it needs failed.
    pub(super) fn note(&mut self, unit: String, needs: Vec<String>) {
        if self.0.len() < MOST {
            self.0.insert(unit, needs);
        }
    }

    /// Removes a unit that was started or stopped by someone else.
    pub(super) fn forget(&mut self, unit: &str) {
        self.0.remove(unit);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a unit that needs one of `started`. Returns it with that unit.
    pub(super) fn take_for(&mut self, started: &[String]) -> Option<(String, String)> {
        let (unit, needed) = self.0.iter().find_map(|(unit, needs)| {
            let needed = needs.iter().find(|needed| started.contains(needed))?;
            Some((unit.clone(), needed.clone()))
        })?;
        self.0.remove(&unit);
        Some((unit, needed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependents_are_taken_after_what_they_need() {
        let mut all = Dependents::default();
        for (unit, needs) in [("a", &["b", "x"][..]), ("b", &["app"]), ("c", &["other"]), ("d", &[])] {
            all.note(unit.into(), needs.iter().map(ToString::to_string).collect());
        }
        let mut started = vec!["app".to_owned()];
        assert_eq!(all.take_for(&started), Some(("b".into(), "app".into())));
        assert_eq!(all.take_for(&started), None, "b is not started yet");
        started.push("b".into());
        assert_eq!(all.take_for(&started), Some(("a".into(), "b".into())));
        assert_eq!(all.take_for(&started), None, "what c needs is not restarted");
        all.forget("c");
        assert_eq!(all.take_for(&["other".to_owned()]), None, "it was started or stopped");
        assert!(!all.is_empty());
        all.clear();
        assert!(all.is_empty());
    }
}
