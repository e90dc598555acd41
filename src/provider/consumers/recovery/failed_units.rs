//! The list of units that are started again after an outage. Messages from units and from the service manager
//! change it, and arrive in any order.
//!
//! The start job of a `Type=simple` unit succeeds as soon as the process is forked. This is before the
//! process is refused a credential, but the refusal may become known first. Therefore the end of a job
//! removes a unit from the list only if it was reported after a call to the manager that was made after the
//! refusal.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::host::clock::BootTime;

/// The maximum number of units in the list.
pub(super) const MOST: usize = 4096;

/// A unit that failed to start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct FailedUnit {
    pub(super) since: BootTime,
    /// The credential that it was refused; `None` if it failed because of units that it needs.
    pub(super) credential: Option<String>,
    /// The units in the list that it needs.
    #[serde(default)]
    pub(super) needs: BTreeSet<String>,
    /// The invocation that was refused the credential, if known.
    #[serde(default)]
    pub(super) invocation: Option<String>,
    /// The class of the failure, if an administrator must correct its cause.
    #[serde(default)]
    pub(super) awaits_correction: Option<String>,
    /// The cause in a few words.
    pub(super) why: String,
}

/// The order of reports about a unit. `P` is a position in the sequence of the service manager's reports.
#[derive(Debug, Clone, Copy)]
struct Order<P> {
    /// The number of the refusal.
    number: u64,
    /// Reports before this position may concern the start that was refused.
    settled: Option<P>,
    /// The position of the last end of a job since the refusal.
    ended: Option<P>,
}

/// The list.
#[derive(Debug)]
pub(super) struct FailedUnits<P> {
    units: BTreeMap<String, FailedUnit>,
    orders: BTreeMap<String, Order<P>>,
    /// The units that are being started.
    starting: BTreeSet<String>,
    /// How many refusals were recorded.
    refusals: u64,
    /// Whether the list has changed since the last query.
    is_changed: bool,
}

impl<P: Copy + Ord> FailedUnits<P> {
    /// Continues with the list of the previous process.
    pub(super) fn new(units: BTreeMap<String, FailedUnit>) -> Self {
        // earlier versions did not record what a unit needs
        let units = units.into_iter().filter(|(_, failed)| !failed.is_next()).collect();
        let (orders, starting) = (BTreeMap::new(), BTreeSet::new());
        let mut all = Self { units, orders, starting, refusals: 0, is_changed: false };
        all.reconnect();
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(super) fn get(&self, unit: &str) -> Option<&FailedUnit> {
        self.units.get(unit)
    }

    pub(super) fn all(&self) -> &BTreeMap<String, FailedUnit> {
        &self.units
    }

    /// Whether the list has changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Adds a unit that was refused a credential. This replaces an earlier refusal.
    pub(super) fn refuse(&mut self, unit: String, failed: FailedUnit) {
        self.refusals += 1;
        self.starting.remove(&unit);
        if self.units.len() < MOST || self.units.contains_key(&unit) {
            self.orders.insert(unit.clone(), Order { number: self.refusals, settled: None, ended: None });
            self.units.insert(unit, failed);
            self.is_changed = true;
        }
    }

    /// Reports that the starts of these units failed because of units that they need. Adds those that need a
    /// unit in the list, and returns the others. The manager may report a unit before a unit that it needs.
    pub(super) fn fail_with(
        &mut self,
        mut units: Vec<(String, Vec<String>)>,
        now: BootTime,
    ) -> Vec<(String, Vec<String>)> {
        loop {
            let before = units.len();
            units.retain(|(unit, needs)| !self.fails_with(unit, needs, now));
            if units.len() == before {
                return units;
            }
        }
    }

    fn fails_with(&mut self, unit: &str, needs: &[String], now: BootTime) -> bool {
        let needs: BTreeSet<String> =
            needs.iter().filter(|needed| self.units.contains_key(*needed)).cloned().collect();
        let Some(first) = needs.first().filter(|_| self.units.len() < MOST) else { return false };
        let why = format!("it needs {first}, which did not start");
        let failed = FailedUnit { since: now, needs, why, ..FailedUnit::default() };
        self.is_changed |= !self.units.contains_key(unit);
        self.units.entry(unit.to_owned()).or_insert(failed);
        true
    }

    /// Whether other units failed because of this one.
    pub(super) fn is_needed(&self, unit: &str) -> bool {
        self.units.values().any(|failed| failed.needs.contains(unit))
    }

    /// Reports that a job of a unit was done or canceled. This means that someone has started or stopped the
    /// unit, unless the job is the start that was refused.
    pub(super) fn ended(&mut self, unit: &str, at: P) {
        if self.starting.contains(unit) {
            return;
        }
        match self.orders.get_mut(unit) {
            Some(order) if order.settled.is_none_or(|settled| at <= settled) => {
                order.ended = order.ended.max(Some(at));
            }
            _ => self.forget(unit),
        }
    }

    /// The number of the last refusal, if [`Self::settle`] was not called for it.
    pub(super) fn unsettled(&self) -> Option<u64> {
        self.orders.values().any(|order| order.settled.is_none()).then_some(self.refusals)
    }

    /// Reports that the manager was called after the refusal of this number, and that its answer has this
    /// position among its reports.
    pub(super) fn settle(&mut self, number: u64, at: P) {
        let unsettled = |order: &&mut Order<P>| order.settled.is_none() && order.number <= number;
        let mut over = Vec::new();
        for (unit, order) in &mut self.orders {
            if let Some(order) = Some(order).filter(unsettled) {
                order.settled = Some(at);
                if order.ended > Some(at) {
                    over.push(unit.clone());
                }
            }
        }
        over.iter().for_each(|unit| self.forget(unit));
    }

    /// Reports that the connection to the manager was made again. Returns the units that were refused by this
    /// process and are not settled: the dependents that failed with them may not have been reported.
    pub(super) fn reconnect(&mut self) -> Vec<String> {
        let is_early = |order: &Order<P>| order.number > 0 && order.settled.is_none();
        let early = self.orders.iter().filter(|(_, order)| is_early(order));
        let early = early.map(|(unit, _)| unit.clone()).collect();
        let refused = self.units.iter().filter(|(_, failed)| failed.credential.is_some());
        let order = Order { number: self.refusals, settled: None, ended: None };
        self.orders = refused.map(|(unit, _)| (unit.clone(), order)).collect();
        early
    }

    /// Removes a unit, and those that failed only because of it.
    pub(super) fn forget(&mut self, unit: &str) {
        let mut over = vec![unit.to_owned()];
        while let Some(unit) = over.pop() {
            self.orders.remove(&unit);
            self.starting.remove(&unit);
            self.is_changed |= self.units.remove(&unit).is_some();
            for (dependent, failed) in &mut self.units {
                if failed.needs.remove(&unit) && failed.is_next() {
                    over.push(dependent.clone());
                }
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.is_changed |= !self.units.is_empty();
        self.units.clear();
        self.orders.clear();
        self.starting.clear();
    }

    /// Marks a unit as about to be started: the end of its next job is expected.
    pub(super) fn begin(&mut self, unit: &str) -> Option<FailedUnit> {
        let failed = self.units.get(unit)?;
        self.starting.insert(unit.to_owned());
        Some(failed.clone())
    }

    /// Reports that a unit was started. Returns the dependents that can be started next, or none if the unit
    /// was refused again.
    pub(super) fn started(&mut self, unit: &str, as_it_was: &FailedUnit) -> Vec<String> {
        self.starting.remove(unit);
        if self.units.get(unit) != Some(as_it_was) {
            return Vec::new();
        }
        self.units.remove(unit);
        self.orders.remove(unit);
        self.is_changed = true;
        let dependents = self.units.iter_mut().filter_map(|(dependent, failed)| {
            let is_next = failed.needs.remove(unit) && failed.is_next();
            is_next.then(|| dependent.clone())
        });
        dependents.collect()
    }

    /// Reports that a unit was not started, because another unit that it needs has failed or because it is
    /// still stopping. It stays in the list, unless it waits for something that is not in the list.
    pub(super) fn waits(&mut self, unit: &str) {
        self.starting.remove(unit);
        if self.units.get(unit).is_some_and(FailedUnit::is_next) {
            self.forget(unit);
        }
    }

    /// Removes a unit that cannot be started, or need not be.
    pub(super) fn is_over(&mut self, unit: &str, as_it_was: &FailedUnit) {
        self.starting.remove(unit);
        if self.units.get(unit) == Some(as_it_was) {
            self.forget(unit);
        }
    }
}

impl FailedUnit {
    /// Whether all units that it needs have been started again.
    fn is_next(&self) -> bool {
        self.credential.is_none() && self.needs.is_empty()
    }
}

#[cfg(test)]
mod tests;
