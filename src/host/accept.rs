//! Handles failures of accept(2) on a listening socket.

use std::io;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep};

/// The pause before the next attempt if the process has run out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);
/// The minimum time between two log lines about such a failure.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Tracks the failures of one listening socket.
#[derive(Debug)]
pub(crate) struct Failures {
    /// The unit that the process runs as.
    unit: &'static str,
    logged: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// The peer closed this connection; others can still be accepted.
    Gone,
    /// The listening socket itself is unusable.
    Broken,
    /// A resource has run out, or an operation is not permitted. The connection stays in the listen queue.
    /// Contains the remedy.
    Exhausted(String),
}

impl Failures {
    pub(crate) fn of(unit: &'static str) -> Self {
        Self { unit, logged: None }
    }

    /// Waits until accepting may be tried again. Returns an error if the socket itself is broken.
    pub(crate) async fn wait_out(&mut self, error: io::Error) -> io::Result<()> {
        match meaning(&error, self.unit) {
            Meaning::Gone => {}
            Meaning::Broken => return Err(error),
            Meaning::Exhausted(remedy) => {
                if self.is_due(Instant::now()) {
                    tracing::error!("connections wait, since they cannot be accepted: {error}; {remedy}");
                }
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Whether this failure is logged. The failures that follow within [`LOGGED_EVERY`] are not.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.logged.is_none_or(|logged| now.duration_since(logged) >= LOGGED_EVERY);
        if is_due {
            self.logged = Some(now);
        }
        is_due
    }
}

fn meaning(error: &io::Error, unit: &str) -> Meaning {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNABORTED | Errno::EINTR) => Meaning::Gone,
        Some(Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP) => Meaning::Broken,
        Some(Errno::EMFILE) => Meaning::Exhausted(format!(
            "raise LimitNOFILE=: systemctl edit {unit}; to see what is open: ls -l /proc/$(systemctl show -P MainPID {unit})/fd"
        )),
        Some(Errno::ENFILE) => Meaning::Exhausted(
            "raise the limit of the system: sysctl fs.file-max; see: sysctl fs.file-nr".to_owned(),
        ),
        Some(Errno::ENOMEM | Errno::ENOBUFS) => {
            Meaning::Exhausted(format!("free memory; see: systemctl status {unit}"))
        }
        _ => Meaning::Exhausted(format!("see: systemctl status {unit}; journalctl -k")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_means() {
        for (errno, expected) in [
            (Errno::ECONNABORTED, Ok(())),
            (Errno::EINTR, Ok(())),
            (Errno::EMFILE, Err(Some("LimitNOFILE="))),
            (Errno::ENFILE, Err(Some("fs.file-max"))),
            (Errno::ENOMEM, Err(Some("memory"))),
            (Errno::EPERM, Err(Some("journalctl -k"))),
            (Errno::EBADF, Err(None)),
            (Errno::EINVAL, Err(None)),
        ] {
            match (meaning(&errno.into(), "onecred.service"), expected) {
                (Meaning::Gone, Ok(())) | (Meaning::Broken, Err(None)) => {}
                (Meaning::Exhausted(remedy), Err(Some(words))) => {
                    assert!(remedy.contains(words), "{errno}: {remedy}");
                }
                (meaning, _) => panic!("{errno}: {meaning:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_logged_at_once_and_then_seldom() {
        let (mut failures, began) = (Failures::of("onecred.service"), Instant::now());
        for (seconds, is_due) in [(0, true), (1, false), (59, false), (60, true), (119, false), (200, true)] {
            assert_eq!(failures.is_due(began + Duration::from_secs(seconds)), is_due, "{seconds}");
        }
        assert!(failures.wait_out(Errno::EMFILE.into()).await.is_ok());
        assert_eq!(began.elapsed(), PAUSE);
        assert!(failures.wait_out(Errno::EBADF.into()).await.is_err());
    }
}
