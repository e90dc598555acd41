//! Checks the limits of `systemd-creds.socket`, through which hardened units decrypt sealed credentials since
//! systemd 258.
//!
//! A unit with `PrivateDevices=`, `DeviceAllow=` or `DevicePolicy=` connects to it as root (systemd #37692).
//! With systemd's default limits, many such units at once fail (systemd #42460), and a few users can occupy
//! all connections. onecred installs a drop-in with higher limits; docs/security.md has the measurements.

mod host;

pub use host::{finding, finding_for};

use std::fmt::Write;

use serde::Serialize;

/// The unit.
pub const SOCKET: &str = "systemd-creds.socket";
/// The first version of systemd that uses it.
pub const SINCE: u32 = 258;
/// The name of the drop-in.
const DROP_IN: &str = "10-onecred.conf";
/// The `MaxConnectionsPerSource=` of the drop-in.
const PER_USER: u32 = 256;
/// The `MaxConnections=` of the drop-in.
const TOTAL: u32 = 4096;
/// The minimum number of users that should be necessary to occupy all connections.
const FEW_USERS: u32 = 8;

/// The state of the socket in the service manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// The version of systemd.
    version: u32,
    /// `loaded`, `masked`, `not-found`…
    load: String,
    /// `active`, `inactive`, `failed`…
    active: String,
    /// `MaxConnectionsPerSource=`. A source is a user; 0 means no limit.
    per_user: u32,
    /// `MaxConnections=`.
    total: u32,
    /// The number of connections per interval at which the socket stops listening; `None` if there is no
    /// limit.
    trigger_limit: Option<u32>,
    /// The loaded drop-ins.
    drop_ins: Vec<String>,
    /// Its files have changed since they were loaded.
    outdated: bool,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Units may fail to start.
    Warning,
    /// Units fail to start.
    Error,
}

/// What is wrong with the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub level: Level,
    /// Cause and remedy.
    pub message: String,
}

/// The units whose credentials pass through the socket.
const HARDENED: &str = "units with PrivateDevices=, DeviceAllow= or DevicePolicy= and sealed credentials";

/// What is wrong with the socket.
fn judge(state: &State) -> Option<Finding> {
    if state.version < SINCE {
        return None;
    }
    if state.load != "loaded" || state.active != "active" {
        return Some(Finding { level: Level::Error, message: unreachable(state) });
    }
    let what = limits(state)?;
    Some(Finding { level: Level::Warning, message: format!("{SOCKET} {what}; {}", remedy(state)) })
}

/// Why no unit can connect to it.
fn unreachable(state: &State) -> String {
    let (is, remedy) = match (state.load.as_str(), state.active.as_str()) {
        ("masked", _) => {
            ("is masked", format!("run systemctl unmask {SOCKET}, then systemctl start {SOCKET}"))
        }
        ("not-found", _) => ("does not exist", "reinstall systemd".to_owned()),
        ("loaded", "failed") => ("has failed", format!("run systemctl start {SOCKET}")),
        ("loaded", _) => ("is not active", format!("run systemctl start {SOCKET}")),
        _ => ("cannot be loaded", format!("see systemctl status {SOCKET}")),
    };
    format!("{SOCKET} {is}: {HARDENED} cannot start; {remedy}")
}

/// What is wrong with its limits.
fn limits(state: &State) -> Option<String> {
    let State { per_user, total, .. } = *state;
    let mut what = match users_needed(state) {
        _ if per_user == 0 => Some(format!(
            "has no limit for each user (MaxConnectionsPerSource=0): one user can hold all {total} connections and stop {HARDENED}"
        )),
        _ if per_user < PER_USER || total < TOTAL => Some(format!(
            "allows too few connections ({per_user} for each user, {total} in all): {HARDENED} can fail when many start at once, and {} can stop them all",
            users(users_needed(state))
        )),
        needed if needed < FEW_USERS => Some(format!(
            "allows {per_user} connections for each user and {total} in total: {} can hold all and block {HARDENED}",
            users(needed)
        )),
        _ => None,
    };
    if let Some(limit) = state.trigger_limit {
        let text = what.get_or_insert_default();
        let join = if text.is_empty() { "" } else { "; it also " };
        let _ = write!(
            text,
            "{join}stops listening when a user connects more than {limit} times within seconds (TriggerLimitIntervalSec=)"
        );
    }
    what
}

/// How many users can occupy all connections together.
fn users_needed(State { per_user, total, .. }: &State) -> u32 {
    if *per_user == 0 { 1 } else { total.div_ceil(*per_user) }
}

fn users(number: u32) -> String {
    format!("{number} user{}", if number == 1 { "" } else { "s" })
}

/// The remedy for its limits.
fn remedy(state: &State) -> String {
    let is_ours = |path: &&String| path.ends_with(&format!("/{DROP_IN}"));
    let others: Vec<&str> = state.drop_ins.iter().filter(|path| !is_ours(path)).map(String::as_str).collect();
    match (state.outdated, state.drop_ins.iter().any(|path| is_ours(&path)), others.as_slice()) {
        (true, ..) => "its files have changed: run systemctl daemon-reload".to_owned(),
        (false, _, [_, ..]) => format!(
            "set MaxConnectionsPerSource={PER_USER}, MaxConnections={TOTAL} and TriggerLimitIntervalSec=0 in {}, which overrides onecred's drop-in, or remove them there; then run systemctl daemon-reload",
            others.join(" or ")
        ),
        _ => format!(
            "onecred's drop-in {SOCKET}.d/{DROP_IN} is missing or masked: remove a link of this name in /etc/systemd/system/{SOCKET}.d, or install onecred again (make install or the package); then run systemctl daemon-reload"
        ),
    }
}

#[cfg(test)]
mod tests;
