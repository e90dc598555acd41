//! What the manager is told: readiness, status, signs of life (sd_notify). Outside systemd all of it does nothing.

use std::os::fd::AsRawFd;
use std::time::Duration;

use libsystemd::daemon::{NotifyState, notify, notify_with_fds, watchdog_enabled};

fn tell(states: &[NotifyState]) {
    if let Err(error) = notify(false, states) {
        tracing::debug!("the service manager could not be told: {error}");
    }
}

/// Start-up is over; `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready]); // by itself: the manager drops what is too long as a whole
    self::status(status);
}

/// A new line for `systemctl status`.
pub fn status(status: &str) {
    let short = &status[..status.floor_char_boundary(500)];
    tell(&[NotifyState::Status(short.replace('\n', " "))]);
}

/// A reload has begun; [`ready`] ends it.
pub fn reloading() {
    let now = crate::host::clock::monotonic().as_micros();
    tell(&[NotifyState::Reloading, NotifyState::Other(format!("MONOTONIC_USEC={now}"))]);
}

/// Has the manager keep a descriptor under this name, for the next process of this service.
pub fn keep(name: &str, fd: &impl AsRawFd) {
    let states = [NotifyState::Fdstore, NotifyState::Fdname(name.to_owned())];
    if let Err(error) = notify_with_fds(false, &states, &[fd.as_raw_fd()]) {
        tracing::debug!("the service manager could not be given {name}: {error}");
    }
}

/// The service is on its way out.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping]);
    self::status(status);
}

/// How often the manager wants a sign of life, halved as its manual advises; none where it wants none.
pub fn watchdog_interval() -> Option<Duration> {
    watchdog_enabled(false).map(|interval| interval / 2)
}

/// A sign of life.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}
