//! Runs work in another thread on request, one run at a time, for files on disks that may hang.

use std::future::pending;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

/// Work that may block.
pub(crate) struct Background<T> {
    work: Arc<dyn Fn() -> T + Send + Sync>,
    running: Option<JoinHandle<T>>,
    /// Whether another run must follow, because it was requested during the current one.
    is_wanted: bool,
}

impl<T: Send + 'static> Background<T> {
    /// Does nothing until a run is requested.
    pub(crate) fn new(work: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { work: Arc::new(work), running: None, is_wanted: false }
    }

    /// Requests a run. Returns whether it begins now; otherwise it follows the current one.
    pub(crate) fn request(&mut self) -> bool {
        self.is_wanted = self.is_running();
        if !self.is_wanted {
            self.begin();
        }
        !self.is_wanted
    }

    /// Whether a run has begun whose result was not taken yet.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Waits for the result of the current run; forever if there is none. The next run begins if it was requested.
    pub(crate) async fn ended(&mut self) -> T {
        let Some(running) = &mut self.running else { return pending().await };
        let result = running.await;
        self.running = None;
        if std::mem::take(&mut self.is_wanted) {
            self.begin();
        }
        match result {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => pending().await, // the process ends
        }
    }

    fn begin(&mut self) {
        let work = Arc::clone(&self.work);
        self.running = Some(spawn_blocking(move || work()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_run_that_is_requested_during_another_one_follows_it() {
        let (begun, has_begun) = mpsc::channel();
        let (results, result) = mpsc::channel();
        let result = Mutex::new(result);
        let mut work = Background::new(move || {
            begun.send(()).unwrap();
            result.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap()
        });
        assert!(work.request(), "it begins at once, in another thread");
        has_begun.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(!work.request() && !work.request());
        assert!(has_begun.try_recv().is_err(), "one at a time");
        // a wait can be given up
        assert!(tokio::time::timeout(Duration::ZERO, work.ended()).await.is_err());
        results.send(1).unwrap();
        assert_eq!(work.ended().await, 1);
        assert!(work.is_running(), "both requests have one more run");
        results.send(2).unwrap();
        assert_eq!(work.ended().await, 2);
        assert!(!work.is_running());
        assert!(tokio::time::timeout(Duration::ZERO, work.ended()).await.is_err());
        results.send(3).unwrap();
        assert!(work.request());
        assert_eq!(work.ended().await, 3);
    }
}
