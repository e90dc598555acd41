//! Limits how many operations run at once. Waiting operations run in the order of their deadlines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Hands out a limited number of turns.
#[derive(Debug)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// How many turns are free.
    free: usize,
    /// The waiting operations, by deadline, then by arrival.
    waiting: BTreeMap<Place, oneshot::Sender<Turn>>,
    arrivals: u64,
}

type Place = (Instant, u64);

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Mutex<State>>>);

/// The place of a waiting operation.
struct Waiting<'a> {
    turns: &'a Turns,
    place: Place,
}

impl Turns {
    /// Allows this number of turns at once.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: most, waiting: BTreeMap::new(), arrivals: 0 })))
    }

    /// Waits for a turn until the deadline.
    pub(super) async fn take(&self, deadline: Instant) -> Option<Turn> {
        let (place, turn) = {
            let mut state = lock(&self.0);
            if let Some(free) = state.free.checked_sub(1) {
                state.free = free;
                return Some(Turn(Some(Arc::clone(&self.0))));
            }
            let place = (deadline, state.arrivals);
            state.arrivals += 1;
            let (sender, turn) = oneshot::channel();
            state.waiting.insert(place, sender);
            (place, turn)
        };
        let _waiting = Waiting { turns: self, place };
        tokio::time::timeout_at(deadline, turn).await.ok()?.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.turns.0).waiting.remove(&self.place);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(state) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = lock(&state);
                let next = state.waiting.pop_first();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some((_, next)) = next else { return };
            match next.send(Self(Some(Arc::clone(&state)))) {
                Ok(()) => return,
                Err(mut turn) => turn.0 = None, // it no longer waits: the next one gets the turn
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_by_deadline() {
        let (turns, began) = (Arc::new(Turns::new(1)), Instant::now());
        let held = turns.take(began).await;
        assert!(held.is_some());
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut work = tokio::task::JoinSet::new();
        for (name, deadline) in [("b", 9), ("a", 5), ("too late", 1), ("c", 9), ("d", 10)] {
            let (turns, served) = (Arc::clone(&turns), Arc::clone(&served));
            work.spawn(async move {
                let turn = turns.take(began + Duration::from_secs(deadline)).await;
                served.lock().unwrap().push((name, turn.is_some()));
            });
        }
        sleep(Duration::from_secs(2)).await;
        drop(held);
        work.join_all().await;
        let expected = [("too late", false), ("a", true), ("b", true), ("c", true), ("d", true)];
        assert_eq!(*served.lock().unwrap(), expected);
        assert_eq!(lock(&turns.0).free, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_goes_leaves_its_place_and_its_turn() {
        let turns = Turns::new(1);
        let soon = || Instant::now() + Duration::from_secs(1);
        let turn = turns.take(soon()).await;
        assert!(turn.is_some());
        assert!(turns.take(soon()).await.is_none(), "the deadline ends the wait");
        assert!(lock(&turns.0).waiting.is_empty());
        {
            let mut waiting = std::pin::pin!(turns.take(soon()));
            let poll = std::future::poll_fn(|context| {
                std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())
            });
            assert!(poll.await);
            drop(turn); // given to one that is dropped before it takes it
        }
        assert_eq!(lock(&turns.0).free, 1);
        assert!(turns.take(soon()).await.is_some());
    }
}
