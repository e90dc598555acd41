//! Moves the keeper into a scope unit, so that what kills all processes of onecred.service leaves it to refuse the open connections.
//!
//! This takes a request to the service manager, which is not waited for before the provider is ready: the manager may be reloading. Until it succeeds the
//! keeper is in the service's control group, where `KillMode=process` protects it from a normal stop.

use std::fs;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::time::sleep;

use crate::host::pause::Growing;
use crate::host::systemd::private;
use crate::provider::base::keeper_state::{Keeper, KeeperState};

/// The pauses after failed attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];
/// After this many failed attempts `onecred status` says so.
const PATIENT_FOR: u32 = 5;
/// The interval and number of checks whether the manager has moved the keeper. It does so after it replies.
const LOOKS: (Duration, u32) = (Duration::from_millis(20), 250);

/// Moves the keeper, and tries again until that succeeds.
pub async fn enter(keeper: Pid, state: &KeeperState) {
    let (mut pauses, mut failures) = (Growing::doubling(PAUSES[0], PAUSES[1]), 0);
    loop {
        match try_to_enter(keeper).await {
            Ok(()) => {
                state.set(Keeper::Fine);
                tracing::debug!("the keeper is in {}", name(keeper));
                return;
            }
            Err(why) => {
                failures += 1;
                if failures == PATIENT_FOR {
                    tracing::warn!("the keeper can't be moved into a scope unit; onecred tries again: {why}");
                }
                if failures >= PATIENT_FOR {
                    state.set(Keeper::InService(why));
                }
            }
        }
        if state.get() == Keeper::Gone {
            return;
        }
        sleep(pauses.pause()).await;
    }
}

async fn try_to_enter(keeper: Pid) -> Result<(), String> {
    let pid = u32::try_from(keeper.as_raw()).map_err(|error| error.to_string())?;
    if is_in_scope(keeper) {
        return Ok(());
    }
    // the PID is the keeper's even after its end: it is this process's child, which nothing waits for
    let started = private::start_scope(&name(keeper), "Keeper of onecred's open connections", pid).await;
    started.map_err(|error| error.to_string())?;
    for _ in 0..LOOKS.1 {
        if is_in_scope(keeper) {
            return Ok(());
        }
        sleep(LOOKS.0).await;
    }
    Err(format!("systemd accepted {} and did not move process {keeper} there", name(keeper)))
}

/// The scope's name. It has the PID, because the keeper of an earlier provider may still refuse connections.
fn name(keeper: Pid) -> String {
    format!("onecred-keeper-{keeper}.scope")
}

fn is_in_scope(keeper: Pid) -> bool {
    let cgroups = fs::read_to_string(format!("/proc/{keeper}/cgroup")).unwrap_or_default();
    ends_in(&cgroups, &name(keeper))
}

/// Whether a process is in a unit's control group, by its /proc/PID/cgroup.
fn ends_in(cgroups: &str, unit: &str) -> bool {
    cgroups.lines().any(|line| line.strip_suffix(unit).is_some_and(|parent| parent.ends_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_recognised_by_the_control_group() {
        let name = name(Pid::from_raw(7));
        assert_eq!(name, "onecred-keeper-7.scope");
        for (cgroups, is_in) in [
            ("0::/system.slice/onecred-keeper-7.scope\n", true),
            ("0::/system.slice/onecred.service\n", false),
            ("0::/system.slice/onecred-keeper-77.scope\n", false),
            ("0::/system.slice/x-onecred-keeper-7.scope\n", false),
            ("", false),
        ] {
            assert_eq!(ends_in(cgroups, &name), is_in, "{cgroups:?}");
        }
    }
}
