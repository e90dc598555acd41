//! The restarts and reloads that are withheld, since the unit would not start with the new values. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Due, Measure};

/// Why a unit would not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    /// The credential that it would be refused.
    pub(super) credential: String,
    /// The cause and the remedy.
    pub(super) reason: String,
}

/// A unit that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// Its invocation: another one has started since with what there was then.
    pub(super) invocation: Vec<u8>,
}

/// What is withheld of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    measure: Measure,
    /// The secret that changed.
    pub(super) secret: String,
    invocation: Vec<u8>,
    /// Why.
    pub(super) problem: Problem,
}

/// What to do for a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Restart or reload it.
    Tell,
    /// Withhold that.
    Withhold {
        /// Whether it is withheld for the first time, so that the unit's journal gets a line.
        first: bool,
    },
}

/// The units of which something is withheld.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Withheld(BTreeMap<String, Entry>);

impl Withheld {
    /// Whether nothing is withheld.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The units.
    pub(super) fn units(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// All entries, by unit.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(unit, entry)| (unit.as_str(), entry))
    }

    /// Adds what is withheld to what is newly due. Units that have been stopped or started since are dropped: they do not run with the old values, or
    /// an administrator has acted.
    pub(super) fn merge(&mut self, due: Vec<Due>, running: &BTreeMap<String, Running>) -> Vec<Due> {
        self.0.retain(|unit, entry| {
            running.get(unit).is_some_and(|running| running.invocation == entry.invocation)
        });
        let mut all: BTreeMap<String, Due> = due.into_iter().map(|due| (due.unit.clone(), due)).collect();
        for (unit, entry) in &self.0 {
            let of_entry =
                || Due { unit: unit.clone(), measure: entry.measure, secret: entry.secret.clone() };
            let due = all.entry(unit.clone()).or_insert_with(of_entry);
            due.measure = due.measure.max(entry.measure);
        }
        all.into_values().collect()
    }

    /// Decides what to do for a unit that is due.
    pub(super) fn decide(&mut self, due: &Due, running: &Running, problem: Option<Problem>) -> Decision {
        let Some(problem) = problem else {
            self.0.remove(&due.unit);
            return Decision::Tell;
        };
        let (measure, secret, invocation) = (due.measure, due.secret.clone(), running.invocation.clone());
        let before = self.0.insert(due.unit.clone(), Entry { measure, secret, invocation, problem });
        Decision::Withhold { first: before.is_none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(unit: &str, measure: Measure, secret: &str) -> Due {
        Due { unit: unit.into(), measure, secret: secret.into() }
    }

    fn running(invocation: u8) -> Running {
        Running { invocation: vec![invocation] }
    }

    fn problem(reason: &str) -> Option<Problem> {
        Some(Problem { credential: "db".into(), reason: reason.into() })
    }

    /// One restart of app that is withheld.
    fn one() -> Withheld {
        let mut withheld = Withheld::default();
        let decision = withheld.decide(&due("app", Measure::Restart, "db"), &running(1), problem("empty"));
        assert_eq!(decision, Decision::Withhold { first: true });
        withheld
    }

    #[test]
    fn what_is_due_is_done_once_all_is_complete() {
        let app = due("app", Measure::Restart, "db");
        for (case, before, problem, decision, left) in [
            ("complete", Withheld::default(), None, Decision::Tell, 0),
            ("incomplete", Withheld::default(), problem("empty"), Decision::Withhold { first: true }, 1),
            ("still incomplete", one(), problem("empty"), Decision::Withhold { first: false }, 1),
            ("for another reason", one(), problem("too large"), Decision::Withhold { first: false }, 1),
            ("complete again", one(), None, Decision::Tell, 0),
        ] {
            let mut withheld = before;
            assert_eq!(withheld.decide(&app, &running(1), problem.clone()), decision, "{case}");
            let entries: Vec<_> = withheld.entries().map(|(_, entry)| Some(entry.problem.clone())).collect();
            assert_eq!(entries.len(), left, "{case}");
            assert!(entries.iter().all(|it| *it == problem), "{case}: the present reason is shown");
        }
    }

    #[test]
    fn what_is_withheld_stays_due_for_the_same_run_of_the_unit() {
        let restart = |unit, secret| due(unit, Measure::Restart, secret);
        let reload = |unit, secret| due(unit, Measure::Reload, secret);
        for (case, new, runs, expected) in [
            ("nothing new", vec![], vec![("app", 1)], vec![restart("app", "db")]),
            ("it was started again", vec![], vec![("app", 2)], vec![]),
            ("it was stopped", vec![], vec![], vec![]),
            (
                "another unit",
                vec![reload("web", "x")],
                vec![("app", 1), ("web", 1)],
                vec![restart("app", "db"), reload("web", "x")],
            ),
            (
                "a restart includes a reload",
                vec![reload("app", "x")],
                vec![("app", 1)],
                vec![restart("app", "x")],
            ),
            ("started again and due", vec![reload("app", "x")], vec![("app", 2)], vec![reload("app", "x")]),
        ] {
            let runs = runs.into_iter().map(|(unit, run)| (unit.to_owned(), running(run))).collect();
            assert_eq!(one().merge(new, &runs), expected, "{case}");
        }
    }

    #[test]
    fn the_next_provider_goes_on_with_it() {
        let bytes = serde_json::to_vec(&one()).unwrap();
        assert_eq!(serde_json::from_slice::<Withheld>(&bytes).unwrap(), one());
    }
}
