//! Limits how often an unprivileged caller on D-Bus may cause calls for one secret.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::host::clock::BootTime;
use crate::host::pauses::Pauses;
use crate::ipc::{Class, Failure};
use crate::provider::base::asker::Asker;

/// The minimum time between two requests for one secret by one unit or user.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// The maximum number of requests that are remembered.
const MOST: usize = 10_000;

/// The last requests by caller and secret.
pub struct BusPace(Mutex<Pauses<(Asker, String), ()>>);

impl Default for BusPace {
    fn default() -> Self {
        Self(Mutex::new(Pauses::new(INTERVAL, INTERVAL, MOST)))
    }
}

impl BusPace {
    /// Admits a request, or returns when the next one is allowed. Requests of administrators are always admitted.
    pub fn admit(&self, asker: &Asker, name: &str) -> Result<(), Failure> {
        if !asker.is_unprivileged() {
            return Ok(());
        }
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (order, now) = ((asker.clone(), name.to_owned()), BootTime::now());
        let Some(paused) = orders.present(&order, now) else {
            orders.note(&order, (), now);
            return Ok(());
        };
        let cause = format!(
            "{name} was looked up on D-Bus {} s ago for {}, and the minimum interval is {} s",
            paused.ago.as_secs(),
            asker.consumer().unwrap_or_default(),
            INTERVAL.as_secs()
        );
        let remedy = "wait; to follow changes, subscribe to the signal Changed";
        Err(Failure::new(Class::Limited, cause, remedy).retry_after(paused.left))
    }
}

/// The time from which a confirmation is recent enough for a caller on D-Bus, whatever the secret's `maxAge`.
/// So a caller in a loop causes one check per interval.
pub fn arrived(asker: &Asker, now: BootTime) -> BootTime {
    match asker.is_unprivileged() {
        true => now.before(INTERVAL),
        false => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::UnitName;
    use crate::host::clock::simulated::pass;

    #[test]
    fn one_order_in_an_interval_for_each_secret_and_caller() {
        let pace = BusPace::default();
        let unit = Asker::BusUnit(UnitName::parse("app.service").unwrap());
        assert!(pace.admit(&unit, "db").is_ok());
        pass(Duration::from_secs(10));
        let failure = pace.admit(&unit, "db").unwrap_err();
        assert_eq!(
            (failure.class, failure.retry_after.map(|left| left.as_secs())),
            (Class::Limited, Some(19))
        );
        assert!(failure.cause.contains("db was looked up on D-Bus 10 s ago for app.service"), "{failure}");
        assert!(pace.admit(&unit, "api").is_ok() && pace.admit(&Asker::BusUser(1000), "db").is_ok());
        assert!((0..3).all(|_| pace.admit(&Asker::Admin, "db").is_ok()));
        pass(INTERVAL);
        assert!(pace.admit(&unit, "db").is_ok() && pace.admit(&unit, "db").is_err());
    }

    #[test]
    fn what_was_confirmed_within_an_interval_is_recent_enough_on_the_bus() {
        let now = BootTime::default().after(Duration::from_secs(100));
        assert_eq!(arrived(&Asker::BusUser(1), now).age(now), INTERVAL);
        assert_eq!(arrived(&Asker::Admin, now), now);
        let early = BootTime::default().after(Duration::from_secs(5));
        assert_eq!(arrived(&Asker::BusUser(1), early), BootTime::default());
    }
}
