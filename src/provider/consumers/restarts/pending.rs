//! The pending restarts, reloads and signals: their causes, and whether they wait or are withheld. Pure. The
//! next provider process continues with them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Due, Measure};
use crate::host::systemd::invocation::Invocation;
use crate::provider::consumers::received::Has;

/// Why an action on a unit is withheld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Problem {
    /// The unit would be refused a credential: its ID, the cause and the remedy.
    Refused(String, String),
    /// The service manager does not answer about the unit, for this reason.
    Unknown(String),
    /// Other units come first, as this text says.
    Wave(String),
}

/// Why an action is due for a unit: a secret or a template has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cause {
    pub(super) measure: Measure,
    /// When the new value was published, in microseconds on CLOCK_MONOTONIC. A unit that started later has
    /// it.
    pub(super) since: u64,
    /// Whether there was no value before. Then only units that are known to have another value are affected.
    pub(super) first: bool,
}

/// The causes of an action, by the name of the secret or template.
pub(super) type Causes = BTreeMap<String, Cause>;

/// What is due for a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DueUnit {
    pub(super) causes: Causes,
    /// Why it is withheld.
    pub(super) problem: Option<Problem>,
    /// Whether it is being carried out.
    #[serde(skip)]
    ordered: bool,
}

impl DueUnit {
    /// Whether it can become possible at any time, so that it is checked often. Otherwise a check may cost
    /// requests to 1Password.
    fn is_waiting(&self) -> bool {
        !self.ordered && matches!(self.problem, None | Some(Problem::Wave(_)))
    }
}

/// What the service manager reports about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UnitReading {
    Known(UnitState),
    /// It could not be asked, for this reason.
    Unknown(String),
}

/// The state of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitState {
    pub(super) activity: Activity,
    /// Whether it has a job.
    pub(super) job: bool,
    pub(super) invocation: Invocation,
    /// When it began to start, in microseconds on CLOCK_MONOTONIC.
    pub(super) started: u64,
    /// When it became active, on the same clock.
    pub(super) active_since: u64,
}

/// Whether a unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    Active,
    /// It starts or reloads.
    Busy,
    /// It has stopped or failed, or is stopping.
    Ended,
}

impl Activity {
    /// Converts systemd's name of the state.
    pub(super) fn of(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "activating" | "reloading" | "refreshing" => Self::Busy,
            _ => Self::Ended,
        }
    }
}

/// What to do for a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Nothing is due any more.
    Drop,
    /// Check it again later.
    Wait,
    /// Check whether it can start with the new values.
    Judge,
    /// Withhold the action, for this reason.
    Withhold(Problem),
}

/// Decides by the state of a unit and by what it received. `has` returns the latter for the name of a secret
/// or template, `held` the reason why other units come first.
fn step(
    causes: &mut Causes,
    found: &UnitReading,
    has: impl Fn(&str, &UnitState) -> Has,
    held: impl Fn(&str) -> Option<String>,
) -> NextStep {
    let state = match found {
        UnitReading::Known(state) => state,
        UnitReading::Unknown(error) => return NextStep::Withhold(Problem::Unknown(error.clone())),
    };
    if state.activity == Activity::Ended {
        return NextStep::Drop; // it gets the new values when it starts
    }
    causes.retain(|name, cause| match has(name, state) {
        Has::Current => false,
        Has::Other => true,
        Has::Unknown => !cause.first && state.started <= cause.since,
    });
    if causes.is_empty() {
        return NextStep::Drop;
    }
    if state.activity == Activity::Busy || state.job {
        return NextStep::Wait;
    }
    let reasons: Option<Vec<String>> = causes.keys().map(|name| held(name)).collect();
    match reasons.and_then(|reasons| reasons.into_iter().next()) {
        Some(reason) => NextStep::Withhold(Problem::Wave(reason)),
        None => NextStep::Judge,
    }
}

/// What to do for a unit that was judged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Carry out the action.
    Act,
    /// Withhold the action.
    Withhold {
        /// Whether to write a line to the unit's journal.
        first: bool,
    },
}

/// All pending actions.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Changed secrets and templates whose units were not listed yet; each with whether it had no value
    /// before.
    news: BTreeMap<String, bool>,
    units: BTreeMap<String, DueUnit>,
    /// When an action was last carried out for a secret or template.
    waves: BTreeMap<String, u64>,
}

impl Pending {
    /// Records that a secret or template has changed.
    pub(super) fn note(&mut self, name: String, first: bool) {
        self.news.entry(name).and_modify(|known| *known &= first).or_insert(first);
    }

    /// The changes whose units were not listed yet.
    pub(super) fn news(&self) -> BTreeMap<String, bool> {
        self.news.clone()
    }

    /// Adds the units of the changes.
    pub(super) fn listed(&mut self, due: Vec<Due>, news: &BTreeMap<String, bool>, since: u64) {
        for Due { unit, measure, secret } in due {
            let first = news.get(&secret).copied().unwrap_or_default();
            let causes = &mut self.units.entry(unit).or_default().causes;
            let first = first && causes.get(&secret).is_none_or(|before| before.first);
            causes.insert(secret, Cause { measure, since, first });
        }
        self.news.retain(|name, first| news.get(name) != Some(first));
    }

    /// The units to check: with `all`, also those whose action is withheld.
    pub(super) fn units(&self, all: bool) -> Vec<String> {
        let open = |entry: &DueUnit| entry.is_waiting() || all && !entry.ordered;
        self.units.iter().filter(|(_, entry)| open(entry)).map(|(unit, _)| unit.clone()).collect()
    }

    /// Whether any action is waiting.
    pub(super) fn is_waiting(&self) -> bool {
        !self.news.is_empty() || self.units.values().any(DueUnit::is_waiting)
    }

    /// Whether any action is withheld.
    pub(super) fn is_withheld(&self) -> bool {
        self.units.values().any(|entry| !entry.ordered && !entry.is_waiting())
    }

    /// All units and their pending actions.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &DueUnit)> {
        self.units.iter().map(|(unit, entry)| (unit.as_str(), entry))
    }

    /// Whether an action is due for a unit because of a secret or template.
    pub(super) fn is_due(&self, unit: &str, name: &str) -> bool {
        self.units.get(unit).is_some_and(|entry| entry.causes.contains_key(name))
    }

    /// When an action was last carried out for a secret or template.
    pub(super) fn carried_out(&self, name: &str) -> Option<u64> {
        self.waves.get(name).copied()
    }

    /// Decides what to do for a unit, and removes it if nothing is due.
    pub(super) fn settle(
        &mut self,
        unit: &str,
        found: &UnitReading,
        has: impl Fn(&str, &UnitState) -> Has,
        held: impl Fn(&str) -> Option<String>,
    ) -> NextStep {
        let Some(entry) = self.units.get_mut(unit) else { return NextStep::Drop };
        let step = step(&mut entry.causes, found, has, held);
        match &step {
            NextStep::Drop => self.forget(unit),
            NextStep::Wait => entry.problem = None,
            _ => {}
        }
        step
    }

    fn forget(&mut self, unit: &str) {
        self.units.remove(unit);
        let named: BTreeSet<&String> = self.units.values().flat_map(|entry| entry.causes.keys()).collect();
        self.waves.retain(|name, _| named.contains(name));
    }

    /// The action that is due for a unit: the strongest measure, and its secret or template.
    pub(super) fn due(&self, unit: &str) -> Option<Due> {
        let causes = self.units.get(unit)?.causes.iter();
        let (secret, cause) = causes.rev().max_by_key(|(_, cause)| cause.measure)?;
        Some(Due { unit: unit.to_owned(), measure: cause.measure, secret: secret.clone() })
    }

    /// Decides about a unit that was judged.
    pub(super) fn decide(&mut self, unit: &str, problem: Option<Problem>) -> Decision {
        let Some(entry) = self.units.get_mut(unit) else { return Decision::Withhold { first: false } };
        let first = match (&entry.problem, &problem) {
            (Some(Problem::Refused(..)), _) => false,
            (Some(_), Some(now)) => matches!(now, Problem::Refused(..)),
            (None, _) | (_, None) => true,
        };
        entry.ordered = problem.is_none();
        entry.problem = problem;
        if entry.ordered { Decision::Act } else { Decision::Withhold { first } }
    }

    /// The causes of the action that is being carried out for a unit.
    pub(super) fn causes(&self, unit: &str) -> Causes {
        self.units.get(unit).map(|entry| entry.causes.clone()).unwrap_or_default()
    }

    /// Records that the action for a unit was carried out or failed. Later causes remain due.
    pub(super) fn ended(&mut self, unit: &str, done: &Causes, now: u64) {
        self.waves.extend(done.keys().map(|name| (name.clone(), now)));
        let Some(entry) = self.units.get_mut(unit) else { return self.forget(unit) };
        entry.ordered = false;
        entry.causes.retain(|name, cause| done.get(name).is_none_or(|done| done.since < cause.since));
        if entry.causes.is_empty() {
            self.forget(unit);
        }
    }
}

#[cfg(test)]
mod tests;
