//! What a source has spent, by hour and day, and what it may still spend. Pure: the caller passes the time.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::clock::BootTime;
use crate::ipc::{Class, Failure, Purpose, Spent};
use crate::resolver::payer::Cause;
use crate::resolver::shares::Shares;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Calls within this time are counted as one lot, whose age is that of its last call.
const LOT: Duration = Duration::from_secs(600);

/// The calls that each consumer may always cause in a day, however many consumers there are.
const LEAST_SHARE: u32 = 5;

/// What one machine may spend on one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Calls in 24 hours.
    pub(super) per_day: u32,
}

/// A token bucket: a part of a budget, which refills over the day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The capacity of the bucket.
    burst: f64,
    /// The refill in 24 hours.
    per_day: f64,
}

impl Budget {
    /// The reserve: calls that checks may not use.
    pub(super) fn kept_back(self) -> u32 {
        self.per_day / 4
    }

    /// The calls that remain for onecred's own work, requests on D-Bus and checks.
    fn unreserved(self) -> u32 {
        self.per_day - self.kept_back()
    }

    /// The total of all calls up to which a call for this cause is allowed. Units that never had an answer
    /// have priority: the last part of the reserve is only for them.
    fn ceiling(self, cause: Cause) -> u32 {
        match cause.asker.class {
            _ if cause.is_check => self.unreserved(),
            Purpose::FirstStart => self.per_day,
            Purpose::Start => self.per_day - self.kept_back() / 2,
            Purpose::Bus | Purpose::Background => self.unreserved(),
        }
    }

    /// The calls that one of this many consumers may cause in a day.
    pub(super) fn share(self, consumers: u32) -> u32 {
        (self.unreserved() / 2 / consumers.max(1)).max(LEAST_SHARE)
    }

    /// The bucket of checks. In any 24 hours, checks use at most what is not reserved: the bucket holds a
    /// fifth of it, and the other four fifths refill over the day.
    pub(super) fn checks(self) -> Share {
        let all = f64::from(self.per_day - self.kept_back());
        Share { burst: (all / 5.0).max(1.0), per_day: all * 0.8 }
    }

    /// The bucket of logins after a failure, such as a crash of the SDK core or a rejected token. It is too
    /// small to use up the reserve.
    pub(super) fn retries(self) -> Share {
        let all = f64::from(self.per_day);
        Share { burst: (all / 80.0).max(3.0), per_day: (all / 40.0).max(3.0) }
    }
}

/// What was spent, in the form that outlives this process. Times are of this boot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Lots of calls, oldest first.
    pub(super) lots: VecDeque<Lot>,
    pub(super) checks: Purse,
    pub(super) retries: Purse,
    /// The calls of each consumer.
    #[serde(default)]
    pub(super) shares: Shares,
    /// The number of consecutive "rate limited" answers of 1Password, the time of the last one, and until
    /// when 1Password is not asked.
    pub(super) limited: u32,
    pub(super) since: Option<BootTime>,
    pub(super) until: Option<BootTime>,
}

/// Calls that were made at about the same time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Lot {
    pub(super) first: BootTime,
    pub(super) last: BootTime,
    pub(super) calls: u32,
}

/// The state of a token bucket: its balance and the time of the last refill. Empty if nothing was taken yet.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Purse(pub(super) Option<(f64, BootTime)>);

impl Ledger {
    pub(super) fn admit(&self, calls: u32, budget: Budget, now: BootTime) -> Result<(), Failure> {
        let left = self.until.map(|until| now.age(until)).filter(|left| !left.is_zero());
        if let Some(left) = left {
            let cause = "1Password limits the calls, so onecred makes no calls for a while";
            return Err(limited(cause.into(), left));
        }
        // a budget smaller than the cost of a login allows one login per day
        let most = if self.lots.is_empty() { budget.per_day.max(calls) } else { budget.per_day };
        let spent = self.spent(now, DAY);
        if spent.saturating_add(calls) <= most {
            return Ok(());
        }
        let cause = format!("the source's budget is used up: {spent} calls of {} a day", budget.per_day);
        Err(limited(cause, self.room(calls, most, now).max(Duration::from_secs(60))))
    }

    /// How long until enough lots are older than a day for these calls to fit the limit.
    fn room(&self, calls: u32, most: u32, now: BootTime) -> Duration {
        let mut spent = self.spent(now, DAY).saturating_add(calls);
        let counting = self.lots.iter().filter(|lot| lot.last.age(now) < DAY);
        for lot in counting {
            spent = spent.saturating_sub(lot.calls);
            if spent <= most {
                return now.age(lot.last.after(DAY));
            }
        }
        DAY
    }

    /// Pays for calls of this cause.
    pub(super) fn pay(
        &mut self,
        calls: u32,
        cause: Cause,
        budget: Budget,
        now: BootTime,
    ) -> Result<(), Failure> {
        self.admit(calls, budget, now)?;
        self.admit_for(calls, cause, budget, now)?;
        self.spend(calls, now);
        self.shares.spend(cause.asker.share, calls, cause.has_share(), now);
        if cause.is_check && !cause.is_first {
            self.checks.owe(calls);
        }
        Ok(())
    }

    /// Whether calls of this cause leave the reserves of others intact.
    fn admit_for(&self, calls: u32, cause: Cause, budget: Budget, now: BootTime) -> Result<(), Failure> {
        let most = budget.ceiling(cause);
        if !self.lots.is_empty() && self.spent(now, DAY).saturating_add(calls) > most {
            let cause_text = format!(
                "the rest of the source's budget of {} calls is reserved for units that start",
                budget.per_day
            );
            let wait = self.room(calls, most, now).max(Duration::from_secs(60));
            return Err(limited(cause_text, wait).of_asker());
        }
        if !cause.has_share() {
            return Ok(());
        }
        let consumer = cause.asker.share;
        let share = budget.share(self.shares.count(consumer, now));
        let (spent, wait) = self.shares.spent(consumer, now);
        if spent.saturating_add(calls) <= share {
            return Ok(());
        }
        let cause = format!(
            "the unit or user has used up its share of the source's budget: {spent} calls of {share} in 24 hours"
        );
        Err(limited(cause, wait.max(Duration::from_secs(60))).of_asker())
    }

    /// Admits a check whose first call will have this cause.
    pub(super) fn admit_check(&mut self, cause: Cause, budget: Budget, now: BootTime) -> Result<(), Failure> {
        self.admit(1, budget, now)?;
        if cause.has_share() {
            self.admit_for(1, cause, budget, now)?;
        }
        let most = budget.per_day - budget.kept_back();
        if self.spent(now, DAY) >= most && budget.per_day > 1 {
            let cause = format!(
                "the rest of the source's budget of {} calls is reserved for new secrets",
                budget.per_day
            );
            return Err(limited(cause, self.room(1, most, now).max(Duration::from_secs(60))));
        }
        self.checks.take(budget.checks(), now).map_err(|wait| {
            let cause = format!(
                "checks are spread over the day to stay within the source's budget of {} calls; the next one is not due yet",
                budget.per_day
            );
            limited(cause, wait)
        })
    }

    /// Whether any entry is still relevant.
    pub(super) fn matters(&self, now: BootTime) -> bool {
        self.spent(now, DAY) > 0 || self.until.is_some_and(|until| !now.age(until).is_zero())
    }

    pub(super) fn spend(&mut self, calls: u32, now: BootTime) {
        match self.lots.back_mut() {
            Some(lot) if lot.first.age(now) < LOT => {
                (lot.last, lot.calls) = (now, lot.calls.saturating_add(calls));
            }
            _ => self.lots.push_back(Lot { first: now, last: now, calls }),
        }
        while self.lots.front().is_some_and(|lot| lot.last.age(now) >= DAY) {
            self.lots.pop_front();
        }
    }

    pub(super) fn give_back(&mut self, mut calls: u32, cause: Cause) {
        self.shares.give_back(cause.asker.share, calls, cause.has_share());
        for lot in self.lots.iter_mut().rev() {
            let back = lot.calls.min(calls);
            (lot.calls, calls) = (lot.calls - back, calls - back);
        }
        self.lots.retain(|lot| lot.calls > 0);
    }

    /// The calls within this time. Lots make the result too high rather than too low.
    pub(super) fn spent(&self, now: BootTime, within: Duration) -> u32 {
        let lots = self.lots.iter().filter(|lot| lot.last.age(now) < within);
        lots.fold(0, |sum, lot| sum.saturating_add(lot.calls))
    }

    pub(super) fn spent_of(&self, budget: Budget, now: BootTime) -> Spent {
        Spent { hour: self.spent(now, HOUR), day: self.spent(now, DAY), budget: budget.per_day }
    }
}

impl Purse {
    /// Takes calls that were not planned; the balance may become negative.
    fn owe(&mut self, count: u32) {
        if let Some((earned, _)) = &mut self.0 {
            *earned -= f64::from(count);
        }
    }

    /// Takes one, or returns the time until one is available.
    pub(super) fn take(&mut self, share: Share, now: BootTime) -> Result<(), Duration> {
        let rate = share.per_day / DAY.as_secs_f64();
        let earned = match self.0 {
            Some((earned, then)) => (earned + then.age(now).as_secs_f64() * rate).min(share.burst),
            None => share.burst,
        };
        if earned >= 1.0 {
            self.0 = Some((earned - 1.0, now));
            return Ok(());
        }
        self.0 = Some((earned, now));
        Err(Duration::from_secs_f64(((1.0 - earned) / rate.max(1e-9)).min(DAY.as_secs_f64())))
    }
}

fn limited(cause: String, wait: Duration) -> Failure {
    let remedy =
        "wait, or raise the source's \"budget\"; to reduce calls, use a longer maxAge or a Connect server";
    Failure::new(Class::Limited, cause, remedy).retry_after(wait)
}
