//! Whether what the store has of a field may be served, has to be confirmed first, or has to be fetched. Pure.

use std::time::Duration;

use crate::domain::reference::FieldRef;
use crate::domain::secret::MaxAge;
use crate::host::clock::BootTime;
use crate::ipc::Failure;

use crate::provider::store::{Entry, Slot};

/// What to do for a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Serve the value at this offset, of this many bytes.
    Serve {
        /// Where it begins in the snapshot's file.
        offset: u64,
        /// Its length in bytes.
        len: usize,
        /// Whether it is older than it should be, for want of a source to confirm it.
        stale: bool,
    },
    /// Refuse: it was looked up, and this came of it.
    Refuse(Failure),
    /// Ask whether the source's items have changed.
    Check,
    /// Fetch the item.
    Fetch,
}

/// When a request is judged.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Now.
    pub now: BootTime,
    /// When the request came: whatever was confirmed since then is fresh by any rule.
    pub arrived: BootTime,
    /// Whether the source could lately not be asked: then a value is served as it is, for a while.
    pub troubled: bool,
    /// Set if the field failed for a lasting reason, and is not fetched again yet.
    pub absence: Option<Absence<'a>>,
}

/// A field that failed for a lasting reason: the item lacks it, for example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence<'a> {
    /// How long ago it was fetched last.
    pub ago: Duration,
    /// How long it is not fetched from now, unless the item is known to have changed.
    pub left: Duration,
    /// The command that has it fetched at once.
    pub at_once: &'a str,
}

impl Absence<'_> {
    /// The failure, and when the field is fetched again.
    pub fn explain(&self, failure: &Failure) -> Failure {
        let mut failure = failure.clone().retry_after(self.left);
        let (ago, left) = (self.ago.as_secs(), self.left.as_secs() + 1);
        failure.remedy.push_str(&format!(
            " (seen {ago} s ago; onecred looks again in {left} s, or at once: {})",
            self.at_once
        ));
        failure
    }
}

/// Judges what there is of a field.
pub fn judge(slot: Option<&Slot>, field: &FieldRef, max_age: MaxAge, moment: Moment<'_>) -> Step {
    let Some(slot) = slot.filter(|slot| !slot.changed) else { return Step::Fetch };
    let just_confirmed = slot.confirmed >= moment.arrived;
    let fresh = just_confirmed
        || match max_age {
            MaxAge::Session => true,
            MaxAge::Always => false,
            MaxAge::Age(limit) => slot.confirmed.age(moment.now) <= limit,
        };
    let Some(entry) = slot.snapshot.entry(field) else {
        // a fetch trusts the IDs that the snapshot has, so they are looked at first, once they are old (a one-time password is only fetched)
        return if fresh || moment.troubled { Step::Fetch } else { Step::Check };
    };
    match entry {
        Entry::Value { offset, len, .. } if fresh || moment.troubled => {
            Step::Serve { offset: *offset, len: *len, stale: !fresh }
        }
        Entry::Value { .. } => Step::Check,
        Entry::Failed(failure) if just_confirmed => Step::Refuse(failure.clone()),
        Entry::Failed(failure) => match moment.absence {
            Some(absence) => Step::Refuse(absence.explain(failure)),
            // it may have been corrected since, and not by a new version of the item alone
            None => Step::Fetch,
        },
    }
}

#[cfg(test)]
mod tests;
