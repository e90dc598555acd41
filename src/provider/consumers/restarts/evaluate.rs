//! Evaluates the units for which an action is due: their state, whether they would start with the new values,
//! and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::broadcast;
use zbus::OwnedObjectPath;

use super::orders::Order;
use super::pending::{Activity, Decision, NextStep, Problem, UnitReading, UnitState};
use super::unit::{Credentials, handle_problem, restarted_with};
use super::waves::{self, First};
use super::{Context, Due, Measure, Restarts, digests, now, rotation};
use crate::domain::name::UnitName;
use crate::domain::unit_pattern::UnitPattern;
use crate::host::systemd::{invocation, message_id};
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::base::events::Event;
use crate::provider::base::side_by_side::side_by_side;
use crate::provider::fetch::broker::Broker;
use crate::provider::fetch::start::Fit;

/// How often units are judged before anything is done, if each round finds further changes.
const ROUNDS: usize = 3;
/// How many units are evaluated at the same time.
const AT_ONCE: usize = 8;
/// The states of units that can have an old value.
const RUNNING: [&str; 3] = ["active", "activating", "reloading"];
/// The states of units that a wave considers. A stopped unit does not delay the other units; a failed one
/// does.
const IN_WAVE: [&str; 5] = ["active", "activating", "reloading", "deactivating", "failed"];

impl Restarts {
    /// Evaluates the units for which an action is due; with `all`, also those for which it is withheld.
    /// Returns the actions to carry out. Changes that are found in the meantime are included, so that a unit
    /// is restarted once.
    pub(super) async fn evaluate(
        &self,
        context: Context<'_>,
        all: bool,
        events: &mut broadcast::Receiver<Event>,
    ) -> Vec<Order> {
        let (mut all, mut judged) = (all, BTreeMap::new());
        for _ in 0..ROUNDS {
            let active = self.config.get();
            self.list(context, &active).await;
            judged = self.judge(context, &active, all).await;
            let before = self.pending().news();
            all |= self.note_all(context, events);
            if self.pending().news() == before {
                break;
            }
        }
        let active = self.config.get();
        let mut orders = Vec::new();
        for (unit, problem) in judged {
            let mut pending = self.pending();
            let Some(due) = pending.due(&unit) else { continue };
            let what = match active.template(&due.secret) {
                Some(_) => format!("template {}", due.secret),
                None => format!("secret {}", due.secret),
            };
            match (pending.decide(&unit, problem.clone()), problem) {
                (Decision::Act, _) => orders.push(Order { due, what, causes: pending.causes(&unit) }),
                (Decision::Withhold { first: true }, Some(problem)) => log_withheld(&due, &what, &problem),
                (Decision::Withhold { .. }, _) => {}
            }
        }
        orders
    }

    /// Lists the units of changed secrets and templates.
    async fn list(&self, context: Context<'_>, active: &ActiveConfig) {
        let news = self.pending().news();
        if news.is_empty() {
            return;
        }
        context.publisher.sync().await;
        let names: BTreeSet<String> = news.keys().cloned().collect();
        match self.units_of(active, &names, &RUNNING).await {
            Ok(due) => self.pending().listed(due, &news, now()),
            Err(error) => tracing::warn!(
                "the units that use {} can't be listed, so they are not restarted or reloaded yet: {error}; trying again",
                names.into_iter().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// Judges the units for which an action is possible: the reason to withhold it, or `None`.
    async fn judge(
        &self,
        context: Context<'_>,
        active: &Arc<ActiveConfig>,
        all: bool,
    ) -> BTreeMap<String, Option<Problem>> {
        let units = self.pending().units(all);
        // loops, because a closure that borrows its argument cannot return a future here
        let mut looks = Vec::new();
        for unit in &units {
            looks.push(self.find(unit));
        }
        let found = side_by_side(AT_ONCE, looks).await;
        let held = self.held(active).await;
        let (mut judged, mut possible) = (BTreeMap::new(), Vec::<Due>::new());
        for (unit, found) in units.into_iter().zip(found) {
            let received = self.received();
            let has = |name: &str, state: &UnitState| {
                received.has(&unit, &state.invocation, &digests(context.broker, active, name))
            };
            let comes_later = |name: &str| held.get(name).and_then(|wave| wave.holds(&unit));
            let mut pending = self.pending();
            match pending.settle(&unit, &found, has, comes_later) {
                NextStep::Drop | NextStep::Wait => {}
                NextStep::Withhold(problem) => drop(judged.insert(unit.clone(), Some(problem))),
                NextStep::Judge => possible.extend(pending.due(&unit)),
            }
        }
        let mut looks = Vec::new();
        for due in &possible {
            looks.push(self.problem((context.broker, context.fit), active, due, true));
        }
        let problems = side_by_side(AT_ONCE, looks).await;
        judged.extend(possible.into_iter().map(|due| due.unit).zip(problems));
        judged
    }

    /// The state of a unit.
    async fn find(&self, unit: &str) -> UnitReading {
        let found = async {
            let it = self.link.properties(unit, "Unit").await?;
            let (job, _): (u32, OwnedObjectPath) = it.get("Job").await?;
            let id: Vec<u8> = it.get("InvocationID").await?;
            zbus::Result::Ok(UnitState {
                activity: Activity::of(&it.get::<String>("ActiveState").await?),
                job: job != 0,
                invocation: invocation::of_bytes(&id),
                started: it.get("InactiveExitTimestampMonotonic").await?,
                active_since: it.get("ActiveEnterTimestampMonotonic").await?,
            })
        };
        found.await.map_or_else(|error| UnitReading::Unknown(error.to_string()), UnitReading::Known)
    }

    /// The waves of the secrets and templates for which an action is due.
    async fn held(&self, active: &ActiveConfig) -> BTreeMap<String, Wave> {
        let names: BTreeSet<String> =
            self.pending().entries().flat_map(|(_, entry)| entry.causes.keys().cloned()).collect();
        let mut held = BTreeMap::new();
        for name in names {
            let Some(wave) = rotation(active, &name).and_then(|rotation| rotation.wave.as_ref()) else {
                continue;
            };
            let first = match self.listed(&wave.units, &IN_WAVE).await {
                Ok(units) => units,
                Err(error) => {
                    let reason = Some(format!("the units of its wave can't be listed: {error}"));
                    held.insert(name, Wave { units: wave.units.clone(), reason });
                    continue;
                }
            };
            let mut looks = Vec::new();
            for unit in &first {
                looks.push(self.find(unit));
            }
            let found = side_by_side(AT_ONCE, looks).await;
            let pending = self.pending();
            let first: Vec<First> = first
                .into_iter()
                .zip(found)
                .map(|(unit, found)| First { due: pending.is_due(&unit, &name), unit, found })
                .collect();
            let changed =
                pending.entries().filter_map(|(_, entry)| Some(entry.causes.get(&name)?.since)).max();
            let carried_out = pending.carried_out(&name).max(changed).unwrap_or_default();
            let reason = waves::held(&first, wave.after, carried_out, now());
            held.insert(name, Wave { units: wave.units.clone(), reason });
        }
        held
    }

    /// Why a unit would not start with the new values, or for a restart, why a unit that systemd restarts with it
    /// would not. Without `look_up`, considers only what is in memory.
    async fn problem(
        &self,
        how: (&Arc<Broker>, &dyn Fit),
        active: &Arc<ActiveConfig>,
        due: &Due,
        look_up: bool,
    ) -> Option<Problem> {
        let problem = self.problem_of(how, active, &due.unit, look_up).await;
        if problem.is_some() || due.measure != Measure::Restart {
            return problem;
        }
        let dependents = match restarted_with(&self.link, &due.unit).await {
            Ok(dependents) => dependents,
            Err(error) => return Some(Problem::Unknown(error.to_string())),
        };
        for dependent in dependents {
            match self.problem_of(how, active, &dependent, look_up).await {
                Some(Problem::Refused(credential, reason)) => {
                    let reason =
                        format!("{dependent}, which systemd restarts with it, would not start: {reason}");
                    return Some(Problem::Refused(credential, reason));
                }
                None => {}
                other => return other,
            }
        }
        None
    }

    /// Why a unit would not start with the new values.
    async fn problem_of(
        &self,
        how: (&Arc<Broker>, &dyn Fit),
        active: &Arc<ActiveConfig>,
        unit: &str,
        look_up: bool,
    ) -> Option<Problem> {
        match handle_problem(&self.link, unit).await {
            Ok(None) => {}
            Ok(problem) => return problem,
            Err(error) => return Some(Problem::Unknown(error.to_string())),
        }
        let unit = UnitName::parse(unit).ok()?;
        match Credentials::read(&self.link, active, &unit).await {
            Ok(credentials) => credentials.problem(how, active, &unit, look_up).await,
            Err(error) => Some(Problem::Unknown(error.to_string())),
        }
    }

    /// Why a due action would be withheld, according to what is in memory. Empty if it would not be.
    pub async fn foresee(&self, broker: &Arc<Broker>, fit: &dyn Fit, due: &Due) -> String {
        let problem = self.problem((broker, fit), &self.config.get(), due, false).await;
        problem.as_ref().map(Problem::in_words).unwrap_or_default()
    }

    /// The strongest measure for each running unit if these secrets and templates changed.
    pub async fn due(&self, active: &ActiveConfig, names: &BTreeSet<String>) -> zbus::Result<Vec<Due>> {
        let mut units: BTreeMap<String, Due> = BTreeMap::new();
        for due in self.units_of(active, names, &["active"]).await? {
            if units.get(&due.unit).is_none_or(|known| known.measure < due.measure) {
                units.insert(due.unit.clone(), due);
            }
        }
        Ok(units.into_values().collect())
    }

    /// The actions on units in these states for changed secrets and templates: the strongest measure for each
    /// unit and name.
    async fn units_of(
        &self,
        active: &ActiveConfig,
        names: &BTreeSet<String>,
        states: &[&str],
    ) -> zbus::Result<Vec<Due>> {
        let mut due: BTreeMap<(String, &String), Measure> = BTreeMap::new();
        for name in names {
            let Some(rotation) = rotation(active, name) else { continue };
            let lists =
                [(Measure::Restart, &rotation.restart_units), (Measure::Reload, &rotation.reload_units)];
            for (measure, patterns) in lists {
                for unit in self.listed(patterns, states).await? {
                    let known = due.entry((unit, name)).or_insert(measure);
                    *known = measure.max(*known);
                }
            }
            for (pattern, signal) in &rotation.signal_units {
                for unit in self.listed(std::slice::from_ref(pattern), states).await? {
                    due.entry((unit, name)).or_insert(Measure::Signal(*signal));
                }
            }
        }
        let due = due.into_iter();
        Ok(due.map(|((unit, name), measure)| Due { unit, measure, secret: name.clone() }).collect())
    }

    /// The units in these states that match.
    async fn listed(&self, patterns: &[UnitPattern], states: &[&str]) -> zbus::Result<Vec<String>> {
        if patterns.is_empty() {
            return Ok(Vec::new());
        }
        let patterns: Vec<&str> = patterns.iter().map(|pattern| pattern.glob().as_str()).collect();
        let units = self.link.manager().await?.list_units_by_patterns(states, &patterns).await?;
        Ok(units.into_iter().map(|(unit, ..)| unit).collect())
    }
}

/// The units that come first for a secret or template, and why the others wait.
struct Wave {
    units: Vec<UnitPattern>,
    reason: Option<String>,
}

impl Wave {
    /// Why a unit must wait, if it must.
    fn holds(&self, unit: &str) -> Option<String> {
        let unit = UnitName::parse(unit).ok()?;
        let is_first = self.units.iter().any(|pattern| pattern.matches(&unit));
        self.reason.clone().filter(|_| !is_first)
    }
}

fn log_withheld(due: &Due, what: &str, problem: &Problem) {
    let Due { unit, measure, secret } = due;
    let (past, reason) = (measure.past(), problem.in_words());
    let credential = match problem {
        Problem::Refused(credential, _) => Some(credential.as_str()),
        _ => None,
    };
    let text = match problem {
        Problem::Refused(..) => format!(
            "{unit} is not {past} although {what} has changed, since it would not start: {reason}; it is {past} once it can start"
        ),
        Problem::Unknown(_) | Problem::Wave(_) => {
            format!("{unit} is not {past} yet although {what} has changed: {reason}")
        }
    };
    tracing::warn!(
        message_id = message_id::WITHHELD,
        object_systemd_unit = unit.as_str(),
        onecred_unit = unit.as_str(),
        onecred_secret = secret.as_str(),
        onecred_credential = credential,
        "{text}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_holds_all_units_but_its_own() {
        let wave = |reason: Option<&str>| Wave {
            units: vec![UnitPattern::parse("app@1").unwrap(), UnitPattern::parse("web@*").unwrap()],
            reason: reason.map(str::to_owned),
        };
        for (unit, is_first) in [
            ("app@1.service", true),
            ("web@x.service", true),
            ("app@2.service", false),
            ("db.service", false),
        ] {
            let expected = (!is_first).then(|| "wait".to_owned());
            assert_eq!(wave(Some("wait")).holds(unit), expected, "{unit}");
            assert_eq!(wave(None).holds(unit), None, "{unit}");
        }
    }
}
