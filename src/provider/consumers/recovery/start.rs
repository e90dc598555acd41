//! Starts a unit again: decides whether it may be started, and whether its failed state must be reset first.
//!
//! A reset removes the unit from `systemctl --failed`. It is needed only if the unit's start limit would
//! refuse the start, and is made after checking that the service manager can queue the start.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{FailedUnit, Recovery};
use crate::host::clock::{self, BootTime};
use crate::host::systemd::invocation;
use crate::host::systemd::manager::Properties;

/// The maximum number of units that are checked for one start.
const MOST_NEEDED: usize = 256;
/// The settings that make a unit depend on another.
const NEEDS: [&str; 3] = ["Requires", "Requisite", "BindsTo"];

/// How long a refused unit may take to fail.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Why a unit must be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For<'a> {
    /// It was refused a credential.
    Refused(&'a FailedUnit),
    /// systemd could not decrypt its credential.
    Undecrypted,
    /// A unit that it needs failed.
    Another,
}

/// The outcome of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartOutcome {
    /// It is queued.
    Started,
    /// The unit was stopped or started by someone else, or is masked.
    NotNeeded,
    /// The unit runs, because its own `Restart=` has started it.
    Returned,
    /// The unit has not stopped yet. Or another unit that it needs has failed, and a start would start that
    /// one too.
    Later,
}

/// What the service manager reports about a unit.
#[derive(Debug, Clone)]
struct Facts {
    /// `loaded`, `masked`…
    load: String,
    /// `failed`, `inactive`, `active`…
    active: String,
    /// The ID of its current or last invocation.
    invocation: String,
    /// How often its own `Restart=` has started it since someone else did.
    restarts: u32,
    /// Whether it may be started on request.
    can_start: bool,
    /// The interval of its start limit; zero without a limit.
    limit: Duration,
    /// When it last became inactive or failed, on the clock of `limit`.
    ended: Duration,
    /// The units that it needs, and those that inactive ones among them need.
    needs: Vec<Needed>,
}

/// A unit that another one needs.
#[derive(Debug, Clone)]
struct Needed {
    name: String,
    load: String,
    active: String,
    /// Its failure had a cause that has passed, and it is being started again.
    recovers: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Start {
        reset: bool,
    },
    NotNeeded,
    Returned,
    Later,
    /// The service manager would not queue the start.
    Impossible(String),
}

/// The times that a decision depends on.
#[derive(Debug, Clone, Copy)]
struct Now {
    boot: BootTime,
    monotonic: Duration,
}

fn decide(unit: &Facts, why: For, now: Now) -> Decision {
    if unit.load != "loaded" {
        return Decision::NotNeeded;
    }
    if let For::Refused(FailedUnit { invocation: Some(refused), since, .. }) = why {
        let is_ending = match unit.active.as_str() {
            "failed" | "inactive" => false,
            // a reload can also be refused, without stopping the unit
            "active" => since.age(now.boot) < ENDS_WITHIN,
            _ => true,
        };
        match (*refused == unit.invocation, unit.restarts) {
            (true, _) if is_ending => return Decision::Later,
            (true, _) => {}
            (false, 0) => return Decision::NotNeeded, // someone has started it since
            (false, _) => {
                return match unit.active.as_str() {
                    "active" => Decision::Returned,
                    "activating" | "deactivating" => Decision::Later,
                    _ => Decision::NotNeeded,
                };
            }
        }
    }
    let is_down = unit.active == "failed" || unit.active == "inactive" && why == For::Another;
    if !is_down {
        return Decision::NotNeeded;
    }
    if unit.needs.iter().any(|needed| needed.active == "failed" && !needed.recovers) {
        return Decision::Later;
    }
    if !unit.can_start {
        return Decision::Impossible("it cannot be started by request (RefuseManualStart=)".into());
    }
    let missing = unit.needs.iter().find(|needed| needed.load != "loaded" && needed.active != "active");
    if let Some(Needed { name, load, .. }) = missing {
        return Decision::Impossible(format!("it needs {name}, which is {load}"));
    }
    let is_limited = !unit.limit.is_zero() && now.monotonic <= unit.ended.saturating_add(unit.limit);
    Decision::Start { reset: unit.active == "failed" && is_limited }
}

impl Recovery {
    /// Starts a unit, if its state has not changed since it failed.
    pub(super) async fn start_again(
        &self,
        name: &str,
        why: For<'_>,
        mode: &str,
    ) -> zbus::Result<StartOutcome> {
        let facts = self.facts(name, why).await?;
        let now = Now { boot: BootTime::now(), monotonic: clock::monotonic() };
        let reset = match decide(&facts, why, now) {
            Decision::Start { reset } => reset,
            Decision::NotNeeded => return Ok(StartOutcome::NotNeeded),
            Decision::Returned => return Ok(StartOutcome::Returned),
            Decision::Later => return Ok(StartOutcome::Later),
            Decision::Impossible(reason) => return Err(zbus::Error::Failure(reason)),
        };
        let manager = self.link.manager().await?;
        if reset {
            manager.reset_failed_unit(name).await?;
        }
        manager.start_unit(name, mode).await?;
        Ok(StartOutcome::Started)
    }

    async fn facts(&self, name: &str, why: For<'_>) -> zbus::Result<Facts> {
        let unit = self.link.properties(name, "Unit").await?;
        let burst: u32 = unit.get("StartLimitBurst").await?;
        let interval = if burst == 0 { 0 } else { unit.get("StartLimitIntervalUSec").await? };
        Ok(Facts {
            load: unit.get("LoadState").await?,
            active: unit.get("ActiveState").await?,
            invocation: invocation::of_bytes(&unit.get::<Vec<u8>>("InvocationID").await?),
            restarts: self.restarts(name).await,
            can_start: unit.get("CanStart").await?,
            limit: Duration::from_micros(interval),
            ended: Duration::from_micros(unit.get("InactiveEnterTimestampMonotonic").await?),
            needs: self.needs_of(name, &unit, why).await?,
        })
    }

    /// How often the unit's own `Restart=` has started it since someone else did.
    pub(super) async fn restarts(&self, name: &str) -> u32 {
        let Ok(service) = self.link.properties(name, "Service").await else { return 0 };
        service.get("NRestarts").await.unwrap_or_default() // only services have Restart=
    }

    async fn needs_of(&self, name: &str, unit: &Properties, why: For<'_>) -> zbus::Result<Vec<Needed>> {
        let manager = self.link.manager().await?;
        let mut seen = BTreeSet::from([name.to_owned()]);
        let (mut next, mut all) = (needs(unit).await?, Vec::new());
        while !next.is_empty() && seen.len() < MOST_NEEDED {
            next.retain(|name| seen.insert(name.clone()));
            let names: Vec<&str> = next.iter().map(String::as_str).collect();
            let listed = manager.list_units_by_names(&names).await?;
            next.clear();
            for (name, _, load, active, _, _, _, job, ..) in listed {
                if active == "inactive" && load == "loaded" {
                    next.extend(needs(&self.link.properties(&name, "Unit").await?).await?);
                }
                let is_listed = self.units().get(&name).is_some() || self.sealed.is_to_be_restarted(&name);
                let recovers = job != 0 || why != For::Another && is_listed;
                all.push(Needed { name, load, active, recovers });
            }
        }
        Ok(all)
    }
}

/// The units that a unit depends on.
pub(super) async fn needs(unit: &Properties) -> zbus::Result<Vec<String>> {
    let mut all = Vec::new();
    for setting in NEEDS {
        all.extend(unit.get::<Vec<String>>(setting).await?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Duration = Duration::from_secs(100);
    const LIMIT: Duration = Duration::from_secs(10);

    fn unit(active: &str, needs: &[(&str, &str, bool)]) -> Facts {
        let needed = |(load, active, recovers): &(&str, &str, bool)| Needed {
            name: "other.service".into(),
            load: (*load).into(),
            active: (*active).into(),
            recovers: *recovers,
        };
        Facts {
            load: "loaded".into(),
            active: active.into(),
            invocation: "first".into(),
            restarts: 0,
            can_start: true,
            limit: LIMIT,
            ended: ENDED,
            needs: needs.iter().map(needed).collect(),
        }
    }

    fn at(monotonic: Duration) -> Now {
        Now { boot: BootTime::default(), monotonic }
    }

    fn start(reset: bool) -> Decision {
        Decision::Start { reset }
    }

    #[test]
    fn a_failure_is_reset_only_where_the_start_limit_could_refuse() {
        let second = Duration::from_secs(1);
        for (why, active, limit, now, expected) in [
            ("the limit still counts", "failed", LIMIT, ENDED + second, start(true)),
            ("at its very end", "failed", LIMIT, ENDED + LIMIT, start(true)),
            ("the limit has passed", "failed", LIMIT, ENDED + LIMIT + second, start(false)),
            ("there is no limit", "failed", Duration::ZERO, ENDED, start(false)),
            ("a limit that never passes", "failed", Duration::MAX, ENDED + second, start(true)),
            ("it has not failed", "inactive", LIMIT, ENDED + second, start(false)),
        ] {
            let facts = Facts { limit, ..unit(active, &[]) };
            assert_eq!(decide(&facts, For::Another, at(now)), expected, "{why}");
        }
    }

    #[test]
    fn only_what_is_down_is_started() {
        for (active, itself, another) in [
            ("failed", start(true), start(true)),
            ("inactive", Decision::NotNeeded, start(false)),
            ("active", Decision::NotNeeded, Decision::NotNeeded),
            ("activating", Decision::NotNeeded, Decision::NotNeeded),
        ] {
            assert_eq!(decide(&unit(active, &[]), For::Undecrypted, at(ENDED)), itself, "{active}");
            assert_eq!(decide(&unit(active, &[]), For::Another, at(ENDED)), another, "{active}");
        }
        let masked = Facts { load: "masked".into(), ..unit("failed", &[]) };
        assert_eq!(decide(&masked, For::Undecrypted, at(ENDED)), Decision::NotNeeded);
    }

    #[test]
    fn a_refused_unit_is_started_when_the_refused_invocation_has_ended() {
        let (soon, late) = (Duration::from_secs(1), ENDS_WITHIN);
        for (active, refused, age, expected) in [
            ("failed", "first", soon, start(true)),
            ("activating", "first", soon, Decision::Later),
            ("deactivating", "first", late, Decision::Later),
            // a Type=simple unit is active until its process notices the refusal
            ("active", "first", soon, Decision::Later),
            // a reload was refused
            ("active", "first", late, Decision::NotNeeded),
            ("inactive", "first", soon, Decision::NotNeeded),
            // someone has started it since
            ("failed", "zeroth", soon, Decision::NotNeeded),
            ("active", "zeroth", soon, Decision::NotNeeded),
            ("activating", "zeroth", soon, Decision::NotNeeded),
        ] {
            let refused = FailedUnit { invocation: Some(refused.into()), ..FailedUnit::default() };
            let now = Now { boot: BootTime::default().after(age), monotonic: ENDED };
            let decision = decide(&unit(active, &[]), For::Refused(&refused), now);
            assert_eq!(decision, expected, "{active}, {refused:?}, {age:?}");
        }
        let unknown = FailedUnit::default();
        assert_eq!(decide(&unit("failed", &[]), For::Refused(&unknown), at(ENDED)), start(true));
        assert_eq!(decide(&unit("active", &[]), For::Refused(&unknown), at(ENDED)), Decision::NotNeeded);
    }

    #[test]
    fn a_unit_that_its_own_restart_has_started_has_returned() {
        for (active, refused, restarts, expected) in [
            ("active", "zeroth", 3, Decision::Returned),
            ("activating", "zeroth", 3, Decision::Later),
            ("deactivating", "zeroth", 3, Decision::Later),
            ("failed", "zeroth", 3, Decision::NotNeeded),
            ("active", "zeroth", 0, Decision::NotNeeded),
            ("activating", "zeroth", 0, Decision::NotNeeded),
            ("failed", "first", 3, start(true)),
        ] {
            let facts = Facts { restarts, ..unit(active, &[]) };
            let refused = FailedUnit { invocation: Some(refused.into()), ..FailedUnit::default() };
            let decision = decide(&facts, For::Refused(&refused), at(ENDED));
            assert_eq!(decision, expected, "{active}, {refused:?}, {restarts} restarts");
        }
    }

    #[test]
    fn what_could_not_be_queued_keeps_its_failure() {
        let refuses = Facts { can_start: false, ..unit("failed", &[]) };
        let reason = |decision| match decision {
            Decision::Impossible(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason(decide(&refuses, For::Undecrypted, at(ENDED))).contains("RefuseManualStart="));
        for load in ["not-found", "masked", "bad-setting", "error"] {
            let facts = unit("failed", &[("loaded", "active", false), (load, "inactive", false)]);
            let reason = reason(decide(&facts, For::Undecrypted, at(ENDED)));
            assert_eq!(reason, format!("it needs other.service, which is {load}"));
        }
        // its unit file was removed while it ran
        let facts = unit("failed", &[("not-found", "active", false)]);
        assert_eq!(decide(&facts, For::Undecrypted, at(ENDED)), start(true));
    }

    #[test]
    fn a_start_pulls_in_nothing_that_failed_for_another_cause() {
        for (why, needed, expected) in [
            ("what it needs runs", ("loaded", "active", false), start(true)),
            ("what it needs is about to run", ("loaded", "activating", false), start(true)),
            ("what it needs was not started", ("loaded", "inactive", false), start(true)),
            ("what it needs is started again too", ("loaded", "failed", true), start(true)),
            ("what it needs failed by itself", ("loaded", "failed", false), Decision::Later),
            ("it also went", ("not-found", "failed", false), Decision::Later),
        ] {
            for active in ["failed", "inactive"] {
                let decision = decide(&unit(active, &[needed]), For::Another, at(ENDED));
                let expected = if active == "inactive" && expected == start(true) {
                    start(false)
                } else {
                    expected.clone()
                };
                assert_eq!(decision, expected, "{why}");
            }
        }
    }
}
