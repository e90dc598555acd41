//! The units that are started again after an outage. The messages that change this list come from units and from the service manager, in any
//! order.
//!
//! A start job of `Type=simple` ends well as soon as the process is forked, which is before that process is refused a credential. The refusal
//! can still be known first. So the end of a job removes a unit from the list only if it was reported after a call to the manager that was made
//! after the refusal.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::host::clock::BootTime;

/// The most units in the list.
pub(super) const MOST: usize = 4096;

/// A unit that did not start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct FailedUnit {
    pub(super) since: BootTime,
    /// The credential that it was refused; none where it failed for units that it needs.
    pub(super) credential: Option<String>,
    /// The units in the list that it needs.
    #[serde(default)]
    pub(super) needs: BTreeSet<String>,
    /// The invocation that was refused the credential, where it is known.
    #[serde(default)]
    pub(super) invocation: Option<String>,
    /// The class of the failure, if an administrator must correct its cause.
    #[serde(default)]
    pub(super) awaits_correction: Option<String>,
    /// Why, in a few words.
    pub(super) why: String,
}

/// When something was reported, on a scale `P` that is the service manager's.
#[derive(Debug, Clone, Copy)]
struct Order<P> {
    /// The number of the refusal.
    number: u64,
    /// What the manager reported before this may concern the start that was refused.
    settled: Option<P>,
    /// The end of the unit's last job that was reported since the refusal was noted.
    ended: Option<P>,
}

/// The list.
#[derive(Debug)]
pub(super) struct FailedUnits<P> {
    units: BTreeMap<String, FailedUnit>,
    orders: BTreeMap<String, Order<P>>,
    /// Those that are being started.
    starting: BTreeSet<String>,
    /// How many refusals were noted.
    refusals: u64,
    /// Whether the list has changed since this was asked.
    is_changed: bool,
}

impl<P: Copy + Ord> FailedUnits<P> {
    /// The list as the process before this one has left it.
    pub(super) fn new(units: BTreeMap<String, FailedUnit>) -> Self {
        // the versions before did not note what a unit needs
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

    /// A unit was refused a credential. What it was refused before does not matter any more.
    pub(super) fn refuse(&mut self, unit: String, failed: FailedUnit) {
        self.refusals += 1;
        self.starting.remove(&unit);
        if self.units.len() < MOST || self.units.contains_key(&unit) {
            self.orders.insert(unit.clone(), Order { number: self.refusals, settled: None, ended: None });
            self.units.insert(unit, failed);
            self.is_changed = true;
        }
    }

    /// The starts of these units failed, since they need others: each with what it needs. Those that need a unit in the list are noted in it. The
    /// others are returned. The manager may report a unit before one that it needs.
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

    /// Whether others failed for this unit.
    pub(super) fn is_needed(&self, unit: &str) -> bool {
        self.units.values().any(|failed| failed.needs.contains(unit))
    }

    /// A job of a unit was done or canceled: somebody has started or stopped it, unless it is the start that was refused.
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

    /// The number of the last refusal, if there is one for which [`Self::settle`] was not called.
    pub(super) fn unsettled(&self) -> Option<u64> {
        self.orders.values().any(|order| order.settled.is_none()).then_some(self.refusals)
    }

    /// After the refusal of this number, the manager was called, and its answer has this place among its reports.
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

    /// Reports come over another connection from here on. Returns the units that were refused by this process and are not settled: which units
    /// failed with them may not have been reported.
    pub(super) fn reconnect(&mut self) -> Vec<String> {
        let is_early = |order: &Order<P>| order.number > 0 && order.settled.is_none();
        let early = self.orders.iter().filter(|(_, order)| is_early(order));
        let early = early.map(|(unit, _)| unit.clone()).collect();
        let refused = self.units.iter().filter(|(_, failed)| failed.credential.is_some());
        let order = Order { number: self.refusals, settled: None, ended: None };
        self.orders = refused.map(|(unit, _)| (unit.clone(), order)).collect();
        early
    }

    /// A unit is not to be started any more, and so are those that failed for it alone.
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

    /// A unit is about to be started: the end of its next job is expected.
    pub(super) fn begin(&mut self, unit: &str) -> Option<FailedUnit> {
        let failed = self.units.get(unit)?;
        self.starting.insert(unit.to_owned());
        Some(failed.clone())
    }

    /// A unit was started again. Returns those that failed for it and are next. None, if it was refused again in the meantime.
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

    /// A unit was not started, since another one that it needs has failed, or since it is still ending. It stays in the list, unless it waits
    /// for something that is not in the list.
    pub(super) fn waits(&mut self, unit: &str) {
        self.starting.remove(unit);
        if self.units.get(unit).is_some_and(FailedUnit::is_next) {
            self.forget(unit);
        }
    }

    /// A unit cannot be started, or need not be.
    pub(super) fn is_over(&mut self, unit: &str, as_it_was: &FailedUnit) {
        self.starting.remove(unit);
        if self.units.get(unit) == Some(as_it_was) {
            self.forget(unit);
        }
    }
}

impl FailedUnit {
    /// Whether it failed for units that have all been started again.
    fn is_next(&self) -> bool {
        self.credential.is_none() && self.needs.is_empty()
    }
}

#[cfg(test)]
mod tests;
