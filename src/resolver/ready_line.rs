//! The line that `systemctl status onecred-resolver` shows: the state of each source. It is kept current, but
//! updated at a limited rate.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::host::systemd::notify;
use crate::ipc::{SourceState, SourceStatus, Status};

/// The minimum time between two updates, so that a busy resolver does not keep the service manager busy.
const STANDS: Duration = Duration::from_secs(3);

/// The line that was sent last.
#[derive(Default)]
pub(super) struct Shown {
    line: String,
    told: Option<Instant>,
    /// Something may have changed since then.
    stale: bool,
}

impl Shown {
    /// Records a line that the caller is about to send.
    pub(super) fn take(&mut self, line: String) -> String {
        *self = Self { line: line.clone(), told: Some(Instant::now()), stale: false };
        line
    }

    /// Waits until something has changed and the line may be sent again.
    pub(super) async fn due(&mut self, changed: &Notify) {
        if !self.stale {
            changed.notified().await;
            self.stale = true; // remembered if this future is dropped
        }
        if let Some(told) = self.told {
            sleep_until(told + STANDS).await;
        }
    }

    /// Sends the line if it has changed.
    pub(super) fn refresh(&mut self, line: String) {
        self.stale = false;
        if line != self.line {
            notify::status(&self.take(line));
        }
    }
}

/// The state of the sources in one line.
pub(super) fn line(status: &Status) -> String {
    let sources: Vec<String> = status.sources.iter().map(source).collect();
    sources.join("; ")
}

fn source(source: &SourceStatus) -> String {
    let SourceStatus { name, kind, state, .. } = source;
    let mut text = format!("{name} ({kind}): {}", state.as_str());
    let Some(quota) = &source.quota else { return text };
    if let (SourceState::Limited, Some(until)) = (state, quota.limited_until) {
        text.push_str(&format!(" until {} UTC", time_of_day(until)));
    }
    text.push_str(&format!(", {} of {} calls today", quota.spent.day, quota.spent.budget));
    text
}

/// The time of day of a time in seconds since the Unix epoch.
fn time_of_day(unix: u64) -> String {
    format!("{:02}:{:02}", unix / 3_600 % 24, unix / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::SourceName;
    use crate::ipc::{Class, Failure, QuotaStatus, Spent};

    fn status(name: &str, kind: &str, state: SourceState, quota: Option<QuotaStatus>) -> SourceStatus {
        SourceStatus {
            name: SourceName::parse(name).unwrap(),
            print: String::new(),
            kind: kind.into(),
            state,
            last_failure: Some(Failure::new(Class::Away, "not part of the line", "")),
            last_success: None,
            calls: [("ok".into(), 3)].into(),
            quota,
            spenders: Vec::new(),
            core: None,
        }
    }

    #[test]
    fn a_short_line() {
        let quota = |limited_until| QuotaStatus {
            spent: Spent { hour: 1, day: 12, budget: 800 },
            left: 788,
            kept_back: 200,
            limited_until,
        };
        let sources = vec![
            status("a", "service-account", SourceState::Ready, Some(quota(None))),
            status("b", "service-account", SourceState::Limited, Some(quota(Some(1_700_000_000)))),
            status("c", "connect", SourceState::NoToken, None),
        ];
        assert_eq!(
            line(&Status { sources }),
            "a (service-account): ready, 12 of 800 calls today; b (service-account): limited until 22:13 UTC, \
             12 of 800 calls today; c (connect): no token"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_stands_for_a_moment() {
        let (mut shown, changed) = (Shown::default(), Notify::new());
        let begun = Instant::now();
        for turn in 0..3 {
            changed.notify_one();
            let _ = tokio::time::timeout(Duration::from_secs(1), shown.due(&changed)).await;
            shown.due(&changed).await; // it was dropped once, and is still due
            assert_eq!(begun.elapsed(), STANDS * turn);
            shown.take(turn.to_string());
        }
    }
}
