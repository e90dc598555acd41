//! What a source has spent, by hour and day, and what may still be spent. Pure: times are given.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::clock::BootTime;
use crate::ipc::{Class, Failure, Purpose, Spent};
use crate::resolver::payer::Cause;
use crate::resolver::shares::Shares;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Calls within so much time are counted as one lot, which counts from the last of them.
const LOT: Duration = Duration::from_secs(600);

/// The calls that a consumer may cause in a day, however many consumers there are.
const LEAST_SHARE: u32 = 5;

/// What one machine may spend on one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Calls in 24 hours.
    pub(super) per_day: u32,
}

/// A part of a budget that is earned over the day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// How much of it may come at once.
    burst: f64,
    /// What is earned in 24 hours.
    per_day: f64,
}

impl Budget {
    /// The calls that checks don't get.
    pub(super) fn kept_back(self) -> u32 {
        self.per_day / 4
    }

    /// The calls that onecred's own work, orders on the bus and checks may come to.
    fn unreserved(self) -> u32 {
        self.per_day - self.kept_back()
    }

    /// The calls that all calls together may come to when one is made for this. Units that were never answered come first: the last part of what
    /// is kept back is for them alone.
    fn ceiling(self, cause: Cause) -> u32 {
        match cause.asker.class {
            _ if cause.is_check => self.unreserved(),
            Purpose::FirstStart => self.per_day,
            Purpose::Start => self.per_day - self.kept_back() / 2,
            Purpose::Bus | Purpose::Background => self.unreserved(),
        }
    }

    /// The calls that one of so many consumers may cause in a day.
    pub(super) fn share(self, consumers: u32) -> u32 {
        (self.unreserved() / 2 / consumers.max(1)).max(LEAST_SHARE)
    }

    /// Checks: together no more than what is not kept back, in any 24 hours.
    pub(super) fn checks(self) -> Share {
        let all = f64::from(self.per_day - self.kept_back());
        Share { burst: (all / 5.0).max(1.0), per_day: all * 0.8 }
    }

    /// Logins that come after a failure, such as a crash of the core or a token that is denied: fewer than would use up what is kept back.
    pub(super) fn retries(self) -> Share {
        let all = f64::from(self.per_day);
        Share { burst: (all / 80.0).max(3.0), per_day: (all / 40.0).max(3.0) }
    }
}

/// What was spent, as it outlives this process. Times are of this boot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Calls, oldest first.
    pub(super) lots: VecDeque<Lot>,
    pub(super) checks: Purse,
    pub(super) retries: Purse,
    /// The calls of each consumer.
    #[serde(default)]
    pub(super) shares: Shares,
    /// How often 1Password has said "rate limited" in a row, when it did so last, and until when it is left alone.
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

/// What has been earned of a share, and when that was reckoned; nothing was taken yet, where it is empty.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Purse(pub(super) Option<(f64, BootTime)>);

impl Ledger {
    pub(super) fn admit(&self, calls: u32, budget: Budget, now: BootTime) -> Result<(), Failure> {
        let left = self.until.map(|until| now.age(until)).filter(|left| !left.is_zero());
        if let Some(left) = left {
            return Err(limited("1Password limits the calls, and is left alone for a while".into(), left));
        }
        // a budget that is smaller than a login allows one a day
        let most = if self.lots.is_empty() { budget.per_day.max(calls) } else { budget.per_day };
        let spent = self.spent(now, DAY);
        if spent.saturating_add(calls) <= most {
            return Ok(());
        }
        let cause = format!("the source's budget is used up: {spent} calls of {} a day", budget.per_day);
        Err(limited(cause, self.room(calls, most, now).max(Duration::from_secs(60))))
    }

    /// How long it takes until so many lots have aged that there is room for these calls.
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

    /// Whether calls of this cause leave what is kept for others.
    fn admit_for(&self, calls: u32, cause: Cause, budget: Budget, now: BootTime) -> Result<(), Failure> {
        let most = budget.ceiling(cause);
        if !self.lots.is_empty() && self.spent(now, DAY).saturating_add(calls) > most {
            let cause_text = format!(
                "the rest of the source's budget of {} calls is kept for units that start",
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

    /// Admits a check, whose first call is to have this cause.
    pub(super) fn admit_check(&mut self, cause: Cause, budget: Budget, now: BootTime) -> Result<(), Failure> {
        self.admit(1, budget, now)?;
        if cause.has_share() {
            self.admit_for(1, cause, budget, now)?;
        }
        let most = budget.per_day - budget.kept_back();
        if self.spent(now, DAY) >= most && budget.per_day > 1 {
            let cause = format!(
                "what is left of the source's budget of {} calls is kept for new secrets",
                budget.per_day
            );
            return Err(limited(cause, self.room(1, most, now).max(Duration::from_secs(60))));
        }
        self.checks.take(budget.checks(), now).map_err(|wait| {
            let cause =
                format!("the source's budget of {} calls spreads checks over the day", budget.per_day);
            limited(cause, wait)
        })
    }

    /// Whether anything of it still counts.
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

    /// Calls within this time, rather some too many than one too few.
    pub(super) fn spent(&self, now: BootTime, within: Duration) -> u32 {
        let lots = self.lots.iter().filter(|lot| lot.last.age(now) < within);
        lots.fold(0, |sum, lot| sum.saturating_add(lot.calls))
    }

    pub(super) fn spent_of(&self, budget: Budget, now: BootTime) -> Spent {
        Spent { hour: self.spent(now, HOUR), day: self.spent(now, DAY), budget: budget.per_day }
    }
}

impl Purse {
    /// Takes what was not foreseen, and was earned or will be.
    fn owe(&mut self, count: u32) {
        if let Some((earned, _)) = &mut self.0 {
            *earned -= f64::from(count);
        }
    }

    /// Takes one, or says how long it is until one is earned.
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
        "wait, or raise the source's \"budget\"; a longer maxAge, or a Connect server, costs fewer calls";
    Failure::new(Class::Limited, cause, remedy).retry_after(wait)
}
