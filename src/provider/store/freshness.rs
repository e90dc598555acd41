//! Whether what the store has of a field may be served, has to be confirmed first, or has to be fetched. Pure.

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
pub struct Moment {
    /// Now.
    pub now: BootTime,
    /// When the request came: whatever was confirmed since then is fresh by any rule.
    pub arrived: BootTime,
    /// Whether the source could lately not be asked: then a value is served as it is, for a while.
    pub troubled: bool,
}

/// Judges what there is of a field.
pub fn judge(slot: Option<&Slot>, field: &FieldRef, max_age: MaxAge, moment: Moment) -> Step {
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
        // it may have been mended since, and not by a new version of the item alone
        Entry::Failed(_) => Step::Fetch,
    }
}

#[cfg(test)]
mod tests;
