//! The quota: every call is counted, by hour and day; a budget is kept; checks stop before it is used up, and so leave the rest to what units can't start without.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::book::Book;
use crate::clock::{self, BootTime};
use crate::wire::{Class, Failure, QuotaStatus, Spent};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// The pause after a first "rate limited", and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// What one machine may spend on one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Calls in 24 hours.
    pub(super) per_day: u32,
}

impl Budget {
    /// What checks may spend of it in 24 hours.
    fn for_checks(self) -> f64 {
        f64::from(self.per_day) * 0.75
    }

    /// How many checks may come at once; after that they come as their share is earned.
    fn burst(self) -> f64 {
        (self.for_checks() / 4.0).max(1.0)
    }
}

/// The quota of one source.
pub(in crate::resolver) struct Quota {
    budget: Budget,
    book: Arc<Book>,
    page: String,
}

/// What was spent, as it outlives this process. Times are of this boot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Calls by the hour that they were made in, oldest first.
    hours: VecDeque<(BootTime, u32)>,
    /// Checks that have been earned, and when that was reckoned.
    checks: Option<(f64, BootTime)>,
    /// How often 1Password has said "rate limited" in a row, and until when it is left alone.
    limited: u32,
    until: Option<BootTime>,
}

impl Quota {
    /// The quota that is written on this page of the book.
    pub(super) fn new(budget: Budget, book: Arc<Book>, page: String) -> Self {
        Self { budget, book, page }
    }

    fn ledger<T>(&self, turn: impl FnOnce(&mut Ledger) -> T) -> T {
        self.book.page(&self.page, turn)
    }

    /// Lets a call through, or says why not and until when.
    pub(super) fn admit(&self) -> Result<(), Failure> {
        self.admit_at(BootTime::now())
    }

    fn admit_at(&self, now: BootTime) -> Result<(), Failure> {
        self.ledger(|ledger| ledger.admit(self.budget, now))
    }

    /// Lets a check through, or says when the next one may come.
    pub(super) fn admit_check(&self) -> Result<(), Failure> {
        self.admit_check_at(BootTime::now())
    }

    fn admit_check_at(&self, now: BootTime) -> Result<(), Failure> {
        self.ledger(|ledger| {
            ledger.admit(self.budget, now)?;
            ledger.admit_check(self.budget, now)
        })
    }

    /// What was spent, and may be.
    pub(super) fn spent(&self) -> Spent {
        let now = BootTime::now();
        let (hour, day) = self.ledger(|ledger| (ledger.spent(now, HOUR), ledger.spent(now, DAY)));
        Spent { hour, day, budget: self.budget.per_day }
    }

    /// How it is, for whoever asks.
    pub(in crate::resolver) fn status(&self) -> QuotaStatus {
        let now = BootTime::now();
        let wait = self.ledger(|ledger| ledger.admit(self.budget, now)).err();
        let spent = self.spent();
        QuotaStatus {
            spent,
            left: spent.budget.saturating_sub(spent.day),
            kept_back: spent.budget - self.budget.for_checks() as u32,
            limited_until: wait
                .map(|failure| clock::unix() + failure.retry_after.unwrap_or_default().as_secs()),
        }
    }

    /// Counts calls.
    pub(super) fn spend(&self, calls: u32) {
        self.ledger(|ledger| ledger.spend(calls, BootTime::now()));
    }

    /// 1Password has answered, so it does not limit.
    pub(super) fn answered(&self) {
        self.ledger(|ledger| (ledger.limited, ledger.until) = (0, None));
    }

    /// The failure of a call: after a "rate limited" nothing is asked for a growing while.
    pub(super) fn noticed(&self, failure: Failure) -> Failure {
        if failure.class != Class::Limited || failure.retry_after.is_some() {
            return failure;
        }
        failure.retry_after(self.ledger(|ledger| {
            let pause = (FIRST_PAUSE * 2_u32.pow(ledger.limited.min(6))).min(LONGEST_PAUSE);
            ledger.limited = ledger.limited.saturating_add(1);
            ledger.until = Some(BootTime::now().after(pause));
            pause
        }))
    }
}

impl Ledger {
    fn admit(&self, budget: Budget, now: BootTime) -> Result<(), Failure> {
        let left = self.until.map(|until| now.age(until)).filter(|left| !left.is_zero());
        if let Some(left) = left {
            return Err(limited("1Password limits the calls, and is left alone for a while".into(), left));
        }
        let spent = self.spent(now, DAY);
        if spent < budget.per_day {
            return Ok(());
        }
        let oldest = self.hours.front().map_or(HOUR, |(since, _)| now.age(since.after(DAY)));
        let cause = format!("the source's budget is used up: {spent} calls of {} a day", budget.per_day);
        Err(limited(cause, oldest.max(Duration::from_secs(60))))
    }

    fn admit_check(&mut self, budget: Budget, now: BootTime) -> Result<(), Failure> {
        let rate = budget.for_checks() / DAY.as_secs_f64();
        let earned = match self.checks {
            Some((earned, then)) => (earned + then.age(now).as_secs_f64() * rate).min(budget.burst()),
            None => budget.burst(),
        };
        if earned >= 1.0 {
            self.checks = Some((earned - 1.0, now));
            return Ok(());
        }
        self.checks = Some((earned, now));
        let wait = Duration::from_secs_f64(((1.0 - earned) / rate.max(1e-9)).min(DAY.as_secs_f64()));
        let cause = format!("the source's budget of {} calls spreads checks over the day", budget.per_day);
        Err(limited(cause, wait))
    }

    /// Whether anything of it still counts.
    pub(super) fn matters(&self, now: BootTime) -> bool {
        self.spent(now, DAY) > 0 || self.until.is_some_and(|until| !now.age(until).is_zero())
    }

    pub(super) fn spend(&mut self, calls: u32, now: BootTime) {
        match self.hours.back_mut() {
            Some((since, count)) if since.age(now) < HOUR => *count = count.saturating_add(calls),
            _ => self.hours.push_back((now, calls)),
        }
        // an hour counts for a day after its last call
        while self.hours.front().is_some_and(|(since, _)| since.age(now) >= DAY + HOUR) {
            self.hours.pop_front();
        }
    }

    pub(super) fn spent(&self, now: BootTime, within: Duration) -> u32 {
        self.hours.iter().filter(|(since, _)| since.age(now) < within).map(|(_, count)| count).sum()
    }
}

fn limited(cause: String, wait: Duration) -> Failure {
    let remedy =
        "wait, or raise the source's \"budget\"; a longer maxAge, or a Connect server, costs fewer calls";
    Failure::new(Class::Limited, cause, remedy).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(per_day: u32) -> Quota {
        Quota::new(Budget { per_day }, Arc::default(), "page".into())
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_minutely_check_stays_within_the_budget_and_never_stops_for_long() {
        let quota = quota(200);
        let (mut done, mut last, mut longest) = (0, 0, 0);
        for minute in 0..2 * 1_440 {
            let now = at(minute * 60);
            if quota.admit_check_at(now).is_ok() {
                quota.ledger(|ledger| ledger.spend(1, now));
                (done, longest, last) = (done + 1, longest.max(minute - last), minute);
            }
        }
        assert!(done <= 2 * 150 + 38, "{done}");
        assert!(longest <= 11, "{longest} minutes without a check");
        assert!(quota.admit_at(at(2 * 86_400)).is_ok(), "something is left for cold fetches");
    }

    #[test]
    fn a_budget_ends_and_comes_back() {
        let quota = quota(10);
        quota.ledger(|ledger| ledger.spend(10, at(100)));
        let failure = quota.admit_at(at(200)).unwrap_err();
        assert_eq!((failure.class, failure.retry_after), (Class::Limited, Some(Duration::from_secs(86_300))));
        assert!(quota.admit_at(at(100 + 86_400)).is_ok());
    }

    #[test]
    fn pauses_grow_until_there_is_an_answer() {
        let quota = quota(10);
        let limit = || quota.noticed(Failure::new(Class::Limited, "", "")).retry_after.unwrap().as_secs();
        assert_eq!([limit(), limit(), limit()], [60, 120, 240]);
        assert_eq!(quota.admit().unwrap_err().class, Class::Limited);
        for _ in 0..10 {
            limit();
        }
        assert_eq!(limit(), 900);
        quota.answered();
        assert!(quota.admit().is_ok());
        assert_eq!(limit(), 60);
    }
}
