//! Single flight: callers that ask for the same key share one running operation and its result.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::ipc::{Class, Failure};

/// How a flight ended; `None` while it runs.
type Landing = Option<Result<(), Failure>>;

/// The running flights.
#[derive(Debug)]
pub struct Flights<K>(Arc<Mutex<HashMap<K, watch::Receiver<Landing>>>>);

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone + Send + 'static> Flights<K> {
    /// Waits for the flight of this key. Starts it with `work` if none is running. It continues if the caller
    /// that started it is dropped.
    pub async fn join<F>(&self, key: &K, work: impl FnOnce() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut landing = self.board(key, work);
        match landing.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or_else(|| Err(crashed())),
            Err(_) => Err(crashed()),
        }
    }

    fn board<F>(&self, key: &K, work: impl FnOnce() -> F) -> watch::Receiver<Landing>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = flights.get(key) {
            return landing.clone();
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key.clone(), receiver.clone());
        let entry = Listed { flights: Arc::clone(&self.0), key: key.clone() };
        let work = work();
        tokio::spawn(async move {
            let result = work.await;
            // later callers start another flight, because this result may be older than their question
            drop(entry);
            let _ = sender.send(Some(result));
        });
        receiver
    }
}

fn crashed() -> Failure {
    Failure::new(Class::Away, "the fetch failed inside onecred", "see: journalctl -u onecred")
}

/// The entry of a flight, which is removed even if the flight panics.
struct Listed<K: Eq + Hash> {
    flights: Arc<Mutex<HashMap<K, watch::Receiver<Landing>>>>,
    key: K,
}

impl<K: Eq + Hash> Drop for Listed<K> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn many_askers_make_one_flight() {
        let flights = Flights::default();
        let flown = Arc::new(AtomicU32::new(0));
        let ask = || {
            let flown = Arc::clone(&flown);
            flights.join(&"item", move || async move {
                tokio::task::yield_now().await;
                flown.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        };
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(flown.load(Ordering::Relaxed), 1);
        ask().await.unwrap();
        assert_eq!(flown.load(Ordering::Relaxed), 2, "a later asker gets a later answer");
    }

    #[tokio::test]
    async fn a_flight_that_panics_is_a_failure_and_leaves_its_place() {
        let flights = Flights::default();
        let broken = flights.join(&1, || async { panic!("on purpose") }).await;
        assert_eq!(broken.unwrap_err().class, Class::Away);
        assert!(flights.join(&1, || async { Ok(()) }).await.is_ok());
    }
}
