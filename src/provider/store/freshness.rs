//! Decides whether the stored value of a field may be served, must be confirmed first, or must be fetched.
//! Pure.

use std::time::Duration;

use crate::domain::reference::FieldRef;
use crate::domain::secret::MaxAge;
use crate::host::clock::BootTime;
use crate::ipc::Failure;

use crate::provider::store::{Slot, StoredField};

/// What to do for a request.
#[derive(Debug, PartialEq, Eq)]
pub enum ServeDecision {
    /// Serve the value with this offset and length.
    Serve {
        /// Where it begins in the file of the snapshot.
        offset: u64,
        /// Its length in bytes.
        len: usize,
        /// Whether it is older than allowed, because no source can confirm it.
        stale: bool,
    },
    /// Refuse: the look-up had this result.
    Refuse(Failure),
    /// Check whether the items of the source have changed.
    Check,
    /// Fetch the item.
    Fetch,
}

/// The circumstances of a request.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The current time.
    pub now: BootTime,
    /// When the request arrived: a value that was confirmed later is always fresh.
    pub arrived: BootTime,
    /// Whether the source has an outage: then a value is served unchecked for a while.
    pub troubled: bool,
    /// Set if the field failed for a lasting reason, and is not fetched again yet.
    pub absence: Option<Absence<'a>>,
}

/// A field that failed for a lasting reason, for example because the item lacks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence<'a> {
    /// Why it has no value.
    pub failure: &'a Failure,
    /// The time since its last fetch.
    pub ago: Duration,
    /// The time until its next fetch, unless the item is known to have changed.
    pub left: Duration,
    /// The command that fetches it at once.
    pub at_once: &'a str,
}

impl Absence<'_> {
    /// The failure, with the time of the next fetch.
    pub fn explain(&self) -> Failure {
        let mut failure = self.failure.clone().retry_after(self.left);
        let (ago, left) = (self.ago.as_secs(), self.left.as_secs() + 1);
        failure.remedy.push_str(&format!(
            " (seen {ago} s ago; next look-up in {left} s; to look it up now: {})",
            self.at_once
        ));
        failure
    }
}

/// Decides by the stored data of a field.
pub fn judge(slot: Option<&Slot>, field: &FieldRef, max_age: MaxAge, moment: Moment<'_>) -> ServeDecision {
    let Some(slot) = slot.filter(|slot| !slot.changed) else { return ServeDecision::Fetch };
    let just_confirmed = slot.confirmed >= moment.arrived;
    let fresh = just_confirmed
        || match max_age {
            MaxAge::Session => true,
            MaxAge::Always => false,
            MaxAge::Age(limit) => slot.confirmed.age(moment.now) <= limit,
        };
    let Some(entry) = slot.snapshot.entry(field) else {
        if let Some(absence) = moment.absence {
            return ServeDecision::Refuse(absence.explain());
        }
        // a fetch trusts the IDs of the snapshot, so old ones are checked first (one-time passwords are only
        // fetched)
        return if fresh || moment.troubled { ServeDecision::Fetch } else { ServeDecision::Check };
    };
    match entry {
        StoredField::Value { offset, len, .. } if fresh || moment.troubled => {
            ServeDecision::Serve { offset: *offset, len: *len, stale: !fresh }
        }
        StoredField::Value { .. } => ServeDecision::Check,
        StoredField::Failed(failure) if just_confirmed => ServeDecision::Refuse(failure.clone()),
        StoredField::Failed(_) => match moment.absence {
            Some(absence) => ServeDecision::Refuse(absence.explain()),
            // it may have been corrected since, possibly without a new version of the item
            None => ServeDecision::Fetch,
        },
    }
}

#[cfg(test)]
mod tests;
