//! The state of onecred's sockets. Without them units do not get credentials, and systemd does not start
//! onecred.

use serde::Serialize;
use zbus::Connection;
use zbus::proxy::CacheProperties;

use crate::host::systemd::manager::{ManagerProxy, UnitProxy};

/// The plain socket is first: the others are started with it.
const SOCKETS: [&str; 3] = ["onecred.socket", "onecred-sealed.socket", "onecred-resolver.socket"];

/// A socket according to systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Socket {
    /// Its unit.
    pub(in crate::cli) unit: String,
    /// `active`, `inactive`, `failed`…
    pub(in crate::cli) active_state: String,
    /// `enabled`, `disabled`, `masked`…; empty if systemd has no unit file for it.
    pub(in crate::cli) unit_file_state: String,
}

impl Socket {
    /// Whether it accepts connections now.
    pub(in crate::cli) fn listens(&self) -> bool {
        matches!(self.active_state.as_str(), "active" | "activating" | "reloading")
    }

    /// What is wrong with it, and the remedy.
    fn problem(&self) -> Option<String> {
        let Self { unit, active_state, unit_file_state } = self;
        let enabled = match unit_file_state.as_str() {
            "masked" | "masked-runtime" => {
                return Some(format!("{unit} is masked; unmask it: systemctl unmask {unit}"));
            }
            // the others are started with it, whether enabled or not
            "disabled" => *unit != SOCKETS[0],
            _ => true,
        };
        // while onecred runs, systemd refuses to start another of its sockets separately
        let start = match unit.as_str() {
            "onecred-sealed.socket" => "systemctl restart onecred.socket".to_owned(),
            _ => format!("systemctl start {unit}"),
        };
        match (self.listens(), enabled) {
            (true, true) => None,
            (true, false) => Some(format!(
                "{unit} is not enabled, so units get no credentials after the next boot; enable it: systemctl enable {unit}"
            )),
            (false, false) => {
                Some(format!("{unit} is not active and not enabled; start it: systemctl enable --now {unit}"))
            }
            (false, true) if active_state == "failed" => {
                Some(format!("{unit} has failed; see: systemctl status {unit}; then: {start}"))
            }
            (false, true) => Some(format!("{unit} is not active; start it: {start}")),
        }
    }
}

/// The problems of the sockets.
pub(in crate::cli) fn problems(sockets: &[Socket]) -> Vec<String> {
    sockets.iter().filter_map(Socket::problem).collect()
}

/// Why systemd would not start onecred for a D-Bus call, and the remedy.
pub(in crate::cli) fn keep_it_down(sockets: &[Socket]) -> Option<String> {
    let plain = sockets.iter().find(|socket| socket.unit == SOCKETS[0] && !socket.listens())?;
    Some(format!("onecred does not run, and a call does not start it: {}", plain.problem()?))
}

/// The state of all sockets. Empty if systemd does not answer.
pub(in crate::cli) async fn all(connection: &Connection) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for unit in SOCKETS {
        sockets.extend(one(connection, unit).await.ok());
    }
    sockets
}

async fn one(connection: &Connection, unit: &str) -> zbus::Result<Socket> {
    let path = ManagerProxy::new(connection).await?.load_unit(unit).await?;
    let object =
        UnitProxy::builder(connection).path(path).cache_properties(CacheProperties::No).build().await?;
    Ok(Socket {
        unit: unit.to_owned(),
        active_state: object.active_state().await?,
        unit_file_state: object.unit_file_state().await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(unit: &str, active_state: &str, unit_file_state: &str) -> Socket {
        let [unit, active_state, unit_file_state] = [unit, active_state, unit_file_state].map(str::to_owned);
        Socket { unit, active_state, unit_file_state }
    }

    #[test]
    fn what_is_wrong_with_a_socket() {
        let table = [
            ("onecred.socket", "active", "enabled", ""),
            ("onecred.socket", "active", "enabled-runtime", ""),
            ("onecred.socket", "activating", "linked", ""), // NixOS
            ("onecred.socket", "reloading", "enabled", ""),
            ("onecred.socket", "active", "disabled", "not enabled, so"),
            (
                "onecred.socket",
                "inactive",
                "enabled",
                "is not active; start it: systemctl start onecred.socket",
            ),
            ("onecred.socket", "inactive", "disabled", "systemctl enable --now onecred.socket"),
            ("onecred.socket", "failed", "enabled", "has failed; see: systemctl status onecred.socket"),
            ("onecred.socket", "failed", "disabled", "systemctl enable --now onecred.socket"),
            ("onecred.socket", "inactive", "masked", "systemctl unmask onecred.socket"),
            ("onecred.socket", "active", "masked-runtime", "systemctl unmask onecred.socket"),
            ("onecred.socket", "inactive", "", "is not active"),
            ("onecred-sealed.socket", "active", "disabled", ""),
            ("onecred-sealed.socket", "inactive", "disabled", "systemctl restart onecred.socket"),
            ("onecred-resolver.socket", "active", "disabled", ""),
            ("onecred-resolver.socket", "inactive", "enabled", "systemctl start onecred-resolver.socket"),
        ];
        for (unit, active, file, says) in table {
            let problem = socket(unit, active, file).problem().unwrap_or_default();
            assert!(
                problem.contains(says) && says.is_empty() == problem.is_empty(),
                "{unit} {active} {file}: {problem}"
            );
        }
    }

    #[test]
    fn the_plain_socket_alone_keeps_onecred_down() {
        let fine = || socket("onecred.socket", "active", "enabled");
        let stopped = || socket("onecred.socket", "inactive", "disabled");
        let sealed = || socket("onecred-sealed.socket", "inactive", "disabled");
        assert_eq!(keep_it_down(&[fine(), sealed()]), None);
        assert_eq!(keep_it_down(&[]), None, "systemd does not say");
        let until_the_boot = socket("onecred.socket", "active", "disabled");
        assert_eq!(keep_it_down(&[until_the_boot]), None, "it listens");
        let why = keep_it_down(&[stopped(), sealed()]).unwrap();
        assert!(why.ends_with("start it: systemctl enable --now onecred.socket"), "{why}");
        assert_eq!(problems(&[stopped(), sealed()]).len(), 2);
    }
}
