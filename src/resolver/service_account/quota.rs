//! The quota of a service account. It counts every call by hour and day and enforces a budget. Checks stop
//! before the budget is used up; the rest is reserved for secrets that units need to start.

use std::sync::Arc;
use std::time::Duration;

use super::super::CallLimit;
use super::book::Book;
use super::ledger::{Budget, Ledger};
use crate::host::clock::{self, BootTime};
use crate::host::pause::after_failures;
use crate::ipc::{Class, Failure, QuotaStatus, ShareOwner, Spender, Spent};
use crate::resolver::payer::{self, Cause};
use crate::resolver::shares;

/// The pause after the first "rate limited", and the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// The cost of a login in calls: four requests, plus one for the keys on first use.
pub(super) const LOGIN: u32 = 5;

/// The quota of one source.
pub(in crate::resolver) struct Quota {
    budget: Budget,
    book: Arc<Book>,
    page: String,
    limit: CallLimit,
}

impl Quota {
    /// A quota that is recorded on this page of the book.
    pub(super) fn new(budget: Budget, book: Arc<Book>, page: String) -> Self {
        Self { budget, book, page, limit: CallLimit::default() }
    }

    /// Adds a limit on the number of calls.
    pub(super) fn within(self, limit: CallLimit) -> Self {
        Self { limit, ..self }
    }

    fn ledger<T>(&self, turn: impl FnOnce(&mut Ledger, Budget, BootTime) -> T) -> T {
        self.book.page(&self.page, |ledger| turn(ledger, self.budget, BootTime::now()))
    }

    /// Pays for a call of this many requests, or returns why it may not be made and how long to wait. Pass
    /// the returned time to [`answered`](Self::answered).
    pub(super) fn pay(&self, requests: u32) -> Result<BootTime, Failure> {
        self.limit.take(requests)?;
        let cause = payer::paid();
        self.ledger(|ledger, budget, now| ledger.pay(requests, cause, budget, now).map(|()| now))
    }

    /// Whether the budget allows a login and the call that it is made for.
    pub(super) fn affords_login(&self) -> Result<(), Failure> {
        self.ledger(|ledger, budget, now| ledger.admit(LOGIN + 1, budget, now))
    }

    /// Pays for a login, if the budget also allows the call that it is made for.
    pub(super) fn pay_login(&self) -> Result<(), Failure> {
        self.limit.take(LOGIN)?;
        self.ledger(|ledger, budget, now| {
            ledger.admit(LOGIN + 1, budget, now)?;
            ledger.pay(LOGIN, Cause::default(), budget, now)
        })
    }

    /// Refunds calls that never reached 1Password.
    pub(super) fn give_back(&self, calls: u32) {
        let cause = payer::present();
        self.ledger(|ledger, _, _| ledger.give_back(calls, cause));
    }

    /// Allows another login after a login or its worker failed, or returns how long to wait.
    pub(super) fn retry_login(&self) -> Result<(), Duration> {
        self.ledger(|ledger, budget, now| ledger.retries.take(budget.retries(), now))
    }

    /// Admits a check, or returns when the next one is allowed. Its calls are paid for when they are made.
    pub(super) fn admit_check(&self, asker: ShareOwner) -> Result<(), Failure> {
        let cause = Cause { asker, is_check: true, is_first: true };
        self.ledger(|ledger, budget, now| ledger.admit_check(cause, budget, now))
    }

    /// The calls that were made, and the budget.
    pub(super) fn spent(&self) -> Spent {
        self.ledger(|ledger, budget, now| ledger.spent_of(budget, now))
    }

    /// The consumers with the most calls.
    pub(in crate::resolver) fn spenders(&self) -> Vec<Spender> {
        self.ledger(|ledger, _, now| ledger.shares.top(shares::SHOWN, now))
    }

    /// The state of the quota.
    pub(in crate::resolver) fn status(&self) -> QuotaStatus {
        let (spent, wait) = self
            .ledger(|ledger, budget, now| (ledger.spent_of(budget, now), ledger.admit(1, budget, now).err()));
        let wait = wait.map(|failure| failure.retry_after.unwrap_or_default().as_secs());
        QuotaStatus {
            spent,
            left: spent.budget.saturating_sub(spent.day),
            kept_back: self.budget.kept_back(),
            limited_until: wait.map(|wait| clock::unix().saturating_add(wait)),
        }
    }

    /// 1Password has answered a call that was paid for at this time. So it does not limit calls, unless it
    /// has said so since then.
    pub(super) fn answered(&self, paid: BootTime) {
        self.ledger(|ledger, _, _| {
            if ledger.since.is_none_or(|since| since < paid) {
                (ledger.limited, ledger.since, ledger.until) = (0, None, None);
            }
        });
    }

    /// Handles a refusal of 1Password: after "rate limited", no calls are made for the time that it demands,
    /// or for a growing time.
    pub(super) fn noticed(&self, failure: Failure) -> Failure {
        if failure.class != Class::Limited {
            return failure;
        }
        let named = failure.retry_after;
        failure.retry_after(self.ledger(|ledger, _, now| {
            let grown = after_failures(ledger.limited, FIRST_PAUSE, LONGEST_PAUSE);
            let until = now.after(named.unwrap_or(grown));
            ledger.limited = ledger.limited.saturating_add(1);
            ledger.since = Some(now);
            ledger.until = ledger.until.max(Some(until));
            ledger.until.map_or(grown, |until| now.age(until))
        }))
    }
}

#[cfg(test)]
mod tests;
