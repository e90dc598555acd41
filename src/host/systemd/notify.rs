//! Notifications to the service manager (sd_notify): readiness, status and watchdog. Without systemd they
//! have no effect.

use std::os::fd::AsRawFd;
use std::time::Duration;

use libsystemd::daemon::{NotifyState, notify, notify_with_fds, watchdog_enabled};

fn tell(states: &[NotifyState]) {
    if let Err(error) = notify(false, states) {
        tracing::debug!("the service manager could not be notified: {error}");
    }
}

/// Reports the end of start-up. `systemctl status` shows `status`.
pub fn ready(status: &str) {
    // in a separate message: the manager drops a message that is too long as a whole
    tell(&[NotifyState::Ready]);
    self::status(status);
}

/// Sets the line that `systemctl status` shows.
pub fn status(status: &str) {
    let short = &status[..status.floor_char_boundary(500)];
    tell(&[NotifyState::Status(short.replace('\n', " "))]);
}

/// Reports the start of a reload; [`ready`] reports its end.
pub fn reloading() {
    let now = crate::host::clock::monotonic().as_micros();
    tell(&[NotifyState::Reloading, NotifyState::Other(format!("MONOTONIC_USEC={now}"))]);
}

/// Stores a descriptor with the manager under this name, for the next process of this service (FDSTORE).
pub fn keep(name: &str, fd: &impl AsRawFd) {
    let states = [NotifyState::Fdstore, NotifyState::Fdname(name.to_owned())];
    if let Err(error) = notify_with_fds(false, &states, &[fd.as_raw_fd()]) {
        tracing::debug!("the service manager could not store {name}: {error}");
    }
}

/// Reports that the service is stopping.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping]);
    self::status(status);
}

/// Extends the timeout of a start or stop to this long from now.
pub fn extend_timeout(time: Duration) {
    tell(&[NotifyState::Other(format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()))]);
}

/// The watchdog interval, halved as sd_watchdog_enabled(3) advises; `None` without a watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    watchdog_enabled(false).map(|interval| interval / 2)
}

/// Notifies the watchdog.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}
