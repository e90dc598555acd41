//! Checks the limits of `systemd-creds.socket`, through which hardened units decrypt sealed credentials since
//! systemd 258.
//!
//! A unit with `PrivateDevices=`, `DeviceAllow=` or `DevicePolicy=` connects to it as root (systemd #37692).
//! With systemd's default limits, many such units at once fail (systemd #42460), and a few users can occupy
//! all connections. onecred installs a drop-in with higher limits; docs/security.md has the measurements.

mod host;

pub(in crate::cli) use host::is_hardened;
pub use host::{finding, finding_for};

use std::path::Path;

use serde::Serialize;

use crate::cli::common::reach::Reach;
use crate::cli::common::show;

/// The unit.
pub const SOCKET: &str = "systemd-creds.socket";
/// The address to which units connect.
const ADDRESS: &str = "/run/systemd/io.systemd.Credentials";
/// The unit that decrypts: an instance for each connection.
const TEMPLATE: &str = "systemd-creds@.service";
/// The program of these instances.
const PROGRAM: &str = "systemd-creds";
/// The first version of systemd that uses it.
pub const SINCE: u32 = 258;
/// The name of the drop-in.
const DROP_IN: &str = "10-onecred.conf";
/// The `MaxConnectionsPerSource=` of the drop-in.
const PER_USER: u32 = 256;
/// The `MaxConnections=` of the drop-in.
const TOTAL: u32 = 4096;
/// systemd's `PollLimitBurst=` and `PollLimitIntervalSec=` in seconds, for sockets with `Accept=yes`.
const POLL_LIMIT: (u32, f64) = (150, 2.0);
/// The minimum number of users that should be necessary to occupy all connections.
const FEW_USERS: u32 = 8;

/// The state of the socket in the service manager.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    /// The version of systemd.
    version: u32,
    /// `loaded`, `masked`, `not-found`…
    load: String,
    /// `active`, `inactive`, `failed`…
    active: String,
    /// The addresses of `ListenStream=` and similar settings.
    addresses: Vec<String>,
    /// Who accepts the connections at the address.
    reach: Option<Reach>,
    /// The service that decrypts.
    service: Service,
    /// `MaxConnectionsPerSource=`. A source is a user; 0 means no limit.
    per_user: u32,
    /// `MaxConnections=`.
    total: u32,
    /// The number of connections per interval at which the socket stops listening; `None` if there is no
    /// limit.
    trigger_limit: Option<u32>,
    /// The number of connections per interval in seconds that systemd accepts; `None` if there is no limit.
    poll_limit: Option<(u32, f64)>,
    /// The unit file.
    fragment: String,
    /// The loaded drop-ins.
    drop_ins: Vec<String>,
    /// Its files have changed since they were loaded.
    outdated: bool,
}

/// The service that decrypts, as loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Service {
    /// `loaded`, `masked`, `not-found`…
    load: String,
    /// The programs of `ExecStart=`.
    programs: Vec<String>,
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
    if let Some(message) =
        unreachable(state).or_else(|| misplaced(state)).or_else(|| no_service(&state.service))
    {
        return Some(Finding { level: Level::Error, message });
    }
    let what = limits(state)?;
    Some(Finding { level: Level::Warning, message: format!("{SOCKET} {what}; {}", remedy(state)) })
}

/// Why no unit can connect to it.
fn unreachable(state: &State) -> Option<String> {
    let (is, remedy) = match (state.load.as_str(), state.active.as_str()) {
        ("loaded", "active") => return None,
        ("masked", _) => {
            ("is masked", format!("run systemctl unmask {SOCKET}, then systemctl start {SOCKET}"))
        }
        ("not-found", _) => ("does not exist", "reinstall systemd".to_owned()),
        ("loaded", "failed") => ("has failed", format!("run systemctl start {SOCKET}")),
        ("loaded", _) => ("is not active", format!("run systemctl start {SOCKET}")),
        _ => ("cannot be loaded", format!("see systemctl status {SOCKET}")),
    };
    Some(format!("{SOCKET} {is}: {HARDENED} cannot start; {remedy}"))
}

/// Why an active socket does not accept the connections at its address.
fn misplaced(state: &State) -> Option<String> {
    if !state.addresses.iter().any(|address| address == ADDRESS) {
        return Some(format!(
            "{SOCKET} does not have its address {ADDRESS}: {HARDENED} cannot start; correct its ListenStream= (see systemctl cat {SOCKET}), \
             run systemctl daemon-reload, then systemctl restart {SOCKET}"
        ));
    }
    let what = match state.reach? {
        Reach::Listens => return None,
        Reach::Removed => "was removed",
        Reach::Replaced => "was replaced by something else",
        Reach::Foreign => "was replaced by the socket of another program",
        Reach::ProviderOnly | Reach::Stopped | Reach::Closed => "does not accept connections",
    };
    Some(format!(
        "{SOCKET} is active, but its socket {what} ({ADDRESS}): {HARDENED} cannot start; run systemctl restart {SOCKET}"
    ))
}

/// Why the service does not decrypt.
fn no_service(Service { load, programs }: &Service) -> Option<String> {
    let is_program = |path: &String| Path::new(path).file_name().is_some_and(|name| name == PROGRAM);
    let (is, remedy) = match load.as_str() {
        "loaded" if programs.iter().all(is_program) => return None,
        "loaded" => (
            format!("runs {} instead of {PROGRAM}", programs.join(", ")),
            format!(
                "remove that setting or unit file (see systemctl cat {TEMPLATE}), then run systemctl daemon-reload"
            ),
        ),
        "masked" => (
            "is masked".to_owned(),
            format!("run systemctl unmask {TEMPLATE}, then systemctl restart {SOCKET}"),
        ),
        "not-found" => ("does not exist".to_owned(), "reinstall systemd".to_owned()),
        _ => ("cannot be loaded".to_owned(), format!("see systemd-analyze verify {TEMPLATE}")),
    };
    Some(format!("{TEMPLATE} {is}: {HARDENED} cannot start; {remedy}"))
}

/// What is wrong with its limits.
fn limits(state: &State) -> Option<String> {
    let State { per_user, total, .. } = *state;
    let connections = match users_needed(state) {
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
    let trigger = state.trigger_limit.map(|limit| format!(
        "stops listening when a user connects more than {limit} times within seconds (TriggerLimitIntervalSec=)"
    ));
    let poll = slow(state).map(|(burst, seconds)| format!(
        "accepts only {} in {seconds} s (PollLimitBurst=, PollLimitIntervalSec=): {HARDENED} wait for each other, and can exceed TimeoutStartSec=",
        show::count(burst as usize, "connection")
    ));
    let all: Vec<String> = connections.into_iter().chain(trigger).chain(poll).collect();
    (!all.is_empty()).then(|| all.join("; it also "))
}

/// The limit of accepted connections, if it is lower than systemd's own.
fn slow(state: &State) -> Option<(u32, f64)> {
    let rate = |(burst, seconds): (u32, f64)| f64::from(burst) / seconds;
    state.poll_limit.filter(|limit| rate(*limit) < rate(POLL_LIMIT))
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
    let mut others: Vec<&str> =
        state.drop_ins.iter().filter(|path| !is_ours(path)).map(String::as_str).collect();
    let has_ours = state.drop_ins.iter().any(|path| is_ours(&path));
    if others.is_empty() && has_ours {
        others.push(&state.fragment);
    }
    let poll = match slow(state) {
        Some(_) => ", PollLimitBurst=150 and PollLimitIntervalSec=2s",
        None => "",
    };
    match (state.outdated, others.as_slice()) {
        (true, _) => "its files have changed: run systemctl daemon-reload".to_owned(),
        (false, [_, ..]) => format!(
            "set MaxConnectionsPerSource={PER_USER}, MaxConnections={TOTAL} and TriggerLimitIntervalSec=0{poll} in {}, which overrides onecred's drop-in, or remove them there; then run systemctl daemon-reload",
            others.join(" or ")
        ),
        (false, []) => format!(
            "onecred's drop-in {SOCKET}.d/{DROP_IN} is missing or masked: remove a link of this name in /etc/systemd/system/{SOCKET}.d, or install onecred again (make install or the package); then run systemctl daemon-reload"
        ),
    }
}

#[cfg(test)]
mod tests;
