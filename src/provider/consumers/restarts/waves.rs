//! Waves: some units are restarted first, and the others only if the first ones are still active after a
//! time. Pure.

use std::time::Duration;

use super::pending::{Activity, UnitReading};

/// A unit of the first wave.
#[derive(Debug)]
pub(super) struct First {
    pub(super) unit: String,
    pub(super) found: UnitReading,
    /// Whether an action is still due for it.
    pub(super) due: bool,
}

/// Why the other units must wait; `None` if they need not. `carried_out` is when the actions of the first
/// wave were carried out, `now` the current time, both in microseconds on CLOCK_MONOTONIC.
pub(super) fn held(first: &[First], after: Duration, carried_out: u64, now: u64) -> Option<String> {
    if first.is_empty() {
        return Some("no unit of its wave is active".to_owned());
    }
    for First { unit, found, due } in first {
        let state = match found {
            UnitReading::Known(state) => state,
            UnitReading::Unknown(error) => {
                return Some(format!("the state of {unit} in its wave is unknown: {error}"));
            }
        };
        if *due || state.activity == Activity::Busy {
            return Some(format!("{unit} comes first"));
        }
        if state.activity == Activity::Ended {
            return Some(format!("{unit}, which came first, is not active"));
        }
        let since = state.active_since.max(carried_out);
        if Duration::from_micros(now.saturating_sub(since)) < after {
            return Some(format!("{unit}, which came first, has to stay active for {}", text(after)));
        }
    }
    None
}

/// A duration in the format of the configuration.
fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("{}h", seconds / 3600),
        (_, 0) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::UnitState;
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn unit(name: &str, activity: Activity, active_since: u64, due: bool) -> First {
        let active_since = active_since * SECOND;
        let state =
            UnitState { activity, job: false, invocation: "1".into(), started: active_since, active_since };
        First { unit: name.into(), found: UnitReading::Known(state), due }
    }

    #[test]
    fn the_others_wait_until_the_first_were_active_for_long_enough() {
        let (active, busy, ended) = (Activity::Active, Activity::Busy, Activity::Ended);
        let silent =
            || First { unit: "a".into(), found: UnitReading::Unknown("no answer".into()), due: false };
        for (case, first, now, expected) in [
            ("none is active", vec![], 900, Some("no unit of its wave")),
            ("it is to be restarted", vec![unit("a", active, 10, true)], 900, Some("a comes first")),
            ("it starts", vec![unit("a", busy, 10, false)], 900, Some("a comes first")),
            (
                "it failed",
                vec![unit("a", ended, 100, false)],
                900,
                Some("a, which came first, is not active"),
            ),
            ("it was just restarted", vec![unit("a", active, 120, false)], 719, Some("stay active for 10m")),
            ("it was active for long enough", vec![unit("a", active, 120, false)], 720, None),
            (
                "it crashed, and was started again",
                vec![unit("a", active, 500, false)],
                720,
                Some("stay active"),
            ),
            ("it was reloaded", vec![unit("a", active, 10, false)], 699, Some("stay active")),
            ("it was reloaded long ago", vec![unit("a", active, 10, false)], 700, None),
            ("nothing is known", vec![silent()], 900, Some("the state of a")),
            (
                "one of two failed",
                vec![unit("a", active, 10, false), unit("b", ended, 10, false)],
                900,
                Some("b, which"),
            ),
        ] {
            let reason = held(&first, Duration::from_secs(600), 100 * SECOND, now * SECOND);
            assert_eq!(reason.is_some(), expected.is_some(), "{case}: {reason:?}");
            assert!(reason.unwrap_or_default().contains(expected.unwrap_or_default()), "{case}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for (seconds, expected) in [(7200, "2h"), (600, "10m"), (90, "90s"), (1, "1s")] {
            assert_eq!(text(Duration::from_secs(seconds)), expected);
        }
    }
}
