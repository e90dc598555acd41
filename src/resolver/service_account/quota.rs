//! The quota: every call is counted, by hour and day; a budget is kept; checks stop before it is used up, and so leave the rest to what units can't start without.

use std::sync::Arc;
use std::time::Duration;

use super::super::CallLimit;
use super::book::Book;
use super::ledger::{Budget, Ledger};
use crate::host::clock::{self, BootTime};
use crate::host::pause::after_failures;
use crate::ipc::{Asker, Class, Failure, QuotaStatus, Spender, Spent};
use crate::resolver::payer::{self, Cause};
use crate::resolver::shares;

/// The pause after a first "rate limited", and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// What a login costs: four requests, and the keys at the first use of them.
pub(super) const LOGIN: u32 = 5;

/// The quota of one source.
pub(in crate::resolver) struct Quota {
    budget: Budget,
    book: Arc<Book>,
    page: String,
    limit: CallLimit,
}

impl Quota {
    /// The quota that is written on this page of the book.
    pub(super) fn new(budget: Budget, book: Arc<Book>, page: String) -> Self {
        Self { budget, book, page, limit: CallLimit::default() }
    }

    /// The same within a limit.
    pub(super) fn within(self, limit: CallLimit) -> Self {
        Self { limit, ..self }
    }

    fn ledger<T>(&self, turn: impl FnOnce(&mut Ledger, Budget, BootTime) -> T) -> T {
        self.book.page(&self.page, |ledger| turn(ledger, self.budget, BootTime::now()))
    }

    /// Pays for a call of this many requests, or says why it can't be made and until when. The time of payment goes to [`answered`](Self::answered).
    pub(super) fn pay(&self, requests: u32) -> Result<BootTime, Failure> {
        self.limit.take(requests)?;
        let cause = payer::paid();
        self.ledger(|ledger, budget, now| ledger.pay(requests, cause, budget, now).map(|()| now))
    }

    /// Whether a login could be paid for, and the call that it is made for.
    pub(super) fn affords_login(&self) -> Result<(), Failure> {
        self.ledger(|ledger, budget, now| ledger.admit(LOGIN + 1, budget, now))
    }

    /// Pays for a login; it leaves something for the call that it is made for.
    pub(super) fn pay_login(&self) -> Result<(), Failure> {
        self.limit.take(LOGIN)?;
        self.ledger(|ledger, budget, now| {
            ledger.admit(LOGIN + 1, budget, now)?;
            ledger.pay(LOGIN, Cause::default(), budget, now)
        })
    }

    /// Gives back what was paid for calls that never came to 1Password.
    pub(super) fn give_back(&self, calls: u32) {
        let cause = payer::present();
        self.ledger(|ledger, _, _| ledger.give_back(calls, cause));
    }

    /// Lets another login come after one that failed, or whose worker did, or says how long that has to wait.
    pub(super) fn retry_login(&self) -> Result<(), Duration> {
        self.ledger(|ledger, budget, now| ledger.retries.take(budget.retries(), now))
    }

    /// Lets a check through, or says when the next one may come. Its calls are paid for as they are made.
    pub(super) fn admit_check(&self, asker: Asker) -> Result<(), Failure> {
        let cause = Cause { asker, is_check: true, is_first: true };
        self.ledger(|ledger, budget, now| ledger.admit_check(cause, budget, now))
    }

    /// What was spent, and may be.
    pub(super) fn spent(&self) -> Spent {
        self.ledger(|ledger, budget, now| ledger.spent_of(budget, now))
    }

    /// The consumers that have spent most.
    pub(in crate::resolver) fn spenders(&self) -> Vec<Spender> {
        self.ledger(|ledger, _, now| ledger.shares.top(shares::SHOWN, now))
    }

    /// How it is, for whoever asks.
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

    /// 1Password has answered a call that was paid for at this time, so it does not limit; unless it has said so since.
    pub(super) fn answered(&self, paid: BootTime) {
        self.ledger(|ledger, _, _| {
            if ledger.since.is_none_or(|since| since < paid) {
                (ledger.limited, ledger.since, ledger.until) = (0, None, None);
            }
        });
    }

    /// What 1Password has said no with: after a "rate limited" nothing is asked for the time that it names, or for a growing one.
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
