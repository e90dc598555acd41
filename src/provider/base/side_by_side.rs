//! Runs futures concurrently in one task, with a limit on their number.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Runs all futures, at most `most` at the same time. The results have the order of the futures.
pub(in crate::provider) async fn side_by_side<F: Future>(
    most: usize,
    work: impl IntoIterator<Item = F>,
) -> Vec<F::Output> {
    let mut waiting = work.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut done = Vec::new();
    poll_fn(|context| {
        loop {
            let free = most.max(1).saturating_sub(running.len());
            running.extend(waiting.by_ref().take(free).map(|(at, future)| (at, Box::pin(future))));
            if running.is_empty() {
                return Poll::Ready(());
            }
            let before = running.len();
            running.retain_mut(|(at, future)| match future.as_mut().poll(context) {
                Poll::Ready(result) => {
                    done.push((*at, result));
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bound_number_of_futures_runs_at_once() {
        for (most, work, takes) in [(1, 4, 4), (2, 4, 2), (8, 4, 1), (0, 2, 2), (3, 0, 0)] {
            let (now, peak, began) = (Cell::new(0_usize), Cell::new(0), Instant::now());
            let futures = (0..work).map(|number| {
                let (now, peak) = (&now, &peak);
                async move {
                    now.set(now.get() + 1);
                    peak.set(now.get().max(peak.get()));
                    sleep(Duration::from_secs(1)).await;
                    now.set(now.get() - 1);
                    number
                }
            });
            assert_eq!(side_by_side(most, futures).await, (0..work).collect::<Vec<_>>());
            assert_eq!((peak.get(), began.elapsed().as_secs()), (most.max(1).min(work), takes), "{most}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_long_delays_no_other() {
        let began = Instant::now();
        let work = [50, 1, 1, 1].map(|seconds| async move {
            sleep(Duration::from_secs(seconds)).await;
            began.elapsed().as_secs()
        });
        assert_eq!(side_by_side(2, work).await, [50, 1, 2, 3]);
    }
}
