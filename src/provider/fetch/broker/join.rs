//! Joins a flight: a running check of a source or fetch of an item, or a new one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Broker, CHECK_LIMIT, FETCH_PATIENCE, no_answer};
use crate::domain::name::SourceName;
use crate::domain::reference::FieldRef;
use crate::host::clock::BootTime;
use crate::ipc::{Class, Failure};
use crate::provider::base::asker::Asker;
use crate::provider::base::item_key::ItemKey;

/// How many flights one request joins that fail because the share of their first asker is used up.
const MOST_FLIGHTS: u32 = 4;

impl Broker {
    /// Compares the source's items with 1Password. Afterwards there is something to serve, whatever the
    /// result: a failure is recorded as an outage, during which cached values are served unchecked.
    pub(crate) async fn checked(
        self: &Arc<Self>,
        source: &SourceName,
        deadline: Instant,
        asker: &Asker,
    ) -> Result<(), Failure> {
        let patience = Instant::now() + CHECK_LIMIT;
        let wire = self.wire(asker, None);
        let check = async {
            for _ in 0..MOST_FLIGHTS {
                let mut is_own = false;
                let flight = || {
                    is_own = true;
                    Arc::clone(self).check(source.clone(), wire)
                };
                match self.checks.join(source, flight).await {
                    Err(failure) if failure.is_of_asker && is_own => {
                        self.limit(source, asker, wire, &failure);
                        return Err(failure);
                    }
                    Err(failure) if failure.is_of_asker => {} // the share of another asker is used up
                    outcome => return outcome,
                }
            }
            Err(no_answer(source))
        };
        let print = self.config().print(source).to_owned();
        timeout_at(deadline.min(patience), check).await.unwrap_or_else(|_elapsed| {
            let failure = no_answer(source);
            // a request with a short deadline says nothing about the source
            if deadline >= patience && self.is_current(source, &print) {
                self.troubles.begin(source, &print, &failure);
            }
            Err(failure)
        })
    }

    /// Fetches the item with the wanted field: by the running flight, or if that began without the field, by
    /// the next one.
    pub(crate) async fn fetched(
        self: &Arc<Self>,
        key: &ItemKey,
        field: &FieldRef,
        asker: &Asker,
    ) -> Result<(), Failure> {
        let wire = self.wire(asker, Some((key, field)));
        if let Some(failure) = self.askers.limited(&key.source, wire, BootTime::now()) {
            return Err(failure);
        }
        for _ in 0..MOST_FLIGHTS {
            self.awaited().entry(key.clone()).or_default().insert(field.clone());
            let mut is_own = false;
            let flight = || {
                is_own = true;
                Arc::clone(self).fetch(key.clone(), FETCH_PATIENCE, (asker.clone(), wire))
            };
            match self.fetches.join(key, flight).await {
                Err(failure) if failure.is_of_asker && is_own => {
                    self.limit(&key.source, asker, wire, &failure);
                    return Err(failure);
                }
                Err(failure) if failure.is_of_asker => {} // the share of another asker is used up
                outcome => return outcome,
            }
        }
        let cause = format!("{}: it was requested first by others, whose share is used up", key.item);
        Err(Failure::new(Class::Away, cause, "wait").of_item().retry_after(Duration::from_millis(250)))
    }
}
