//! The state of onecred's sockets. Without them units do not get credentials, and systemd does not start
//! onecred.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

use serde::Serialize;
use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedVariant, fdo};

use super::reach::{Listening, Reach, reach};
use crate::host::systemd::manager::{ManagerProxy, UnitProxy};

/// The socket that delivers unencrypted values.
pub(in crate::cli) const PLAIN: &str = "/run/onecred/credential.sock";
/// The socket that delivers encrypted values.
pub(in crate::cli) const SEALED: &str = "/run/onecred/sealed.sock";
/// The socket between the provider and the resolver.
pub(in crate::cli) const RESOLVER: &str = "/run/onecred/resolver.sock";

/// Units and their paths. The plain socket is first: the others are started with it.
const SOCKETS: [(&str, &str); 3] =
    [("onecred.socket", PLAIN), ("onecred-sealed.socket", SEALED), ("onecred-resolver.socket", RESOLVER)];

/// A socket according to systemd and the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Socket {
    /// Its unit.
    pub(in crate::cli) unit: String,
    /// `active`, `inactive`, `failed`…
    pub(in crate::cli) active_state: String,
    /// `enabled`, `disabled`, `masked`…; empty if systemd has no unit file for it.
    pub(in crate::cli) unit_file_state: String,
    /// Who accepts the connections at its path.
    pub(in crate::cli) reach: Reach,
    /// The addresses of `ListenStream=` and similar settings, as loaded.
    #[serde(skip)]
    pub(in crate::cli) addresses: Vec<String>,
}

impl Socket {
    /// Whether its unit is active.
    fn is_active(&self) -> bool {
        matches!(self.active_state.as_str(), "active" | "activating" | "reloading")
    }

    /// Whether connections to its path are accepted, also after onecred has ended.
    pub(in crate::cli) fn listens(&self) -> bool {
        self.is_active() && self.reach == Reach::Listens
    }

    /// Its path.
    fn path(&self) -> &'static str {
        SOCKETS.iter().find(|(unit, _)| *unit == self.unit).map_or(PLAIN, |(_, path)| path)
    }

    /// Whether its settings contain its path.
    fn has_its_path(&self) -> bool {
        // a unit that systemd could not load has no addresses
        let is_path = |address: &String| address == self.path();
        self.addresses.is_empty() || self.addresses.iter().any(is_path)
    }

    /// What is wrong with it, and the remedy.
    fn problem(&self) -> Option<String> {
        let Self { unit, active_state, unit_file_state, .. } = self;
        let enabled = match unit_file_state.as_str() {
            "masked" | "masked-runtime" => {
                return Some(format!("{unit} is masked; unmask it: systemctl unmask {unit}"));
            }
            // the others are started with it, whether enabled or not
            "disabled" => *unit != SOCKETS[0].0,
            _ => true,
        };
        if self.is_active()
            && let Some(problem) = self.misplaced()
        {
            return Some(problem);
        }
        // while onecred runs, systemd refuses to start another of its sockets separately
        let start = match unit.as_str() {
            "onecred-sealed.socket" => "systemctl restart onecred.socket".to_owned(),
            _ => format!("systemctl start {unit}"),
        };
        match (self.is_active(), enabled) {
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

    /// Why an active unit does not accept the connections at its path.
    fn misplaced(&self) -> Option<String> {
        let (unit, path) = (&self.unit, self.path());
        let restart = match unit.as_str() {
            // the sealed socket is restarted with the plain one
            "onecred-resolver.socket" => "systemctl restart onecred-resolver.socket",
            _ => "systemctl restart onecred.socket",
        };
        if !self.has_its_path() {
            return Some(format!(
                "{unit} does not have its address {path}, because a drop-in or another unit file changes it; \
                 correct that (see: systemctl cat {unit}), then: systemctl daemon-reload; {restart}"
            ));
        }
        let what = match self.reach {
            Reach::Listens | Reach::Stopped => return None,
            Reach::ProviderOnly => {
                "does not accept connections since its settings changed, only the running onecred does"
            }
            Reach::Removed => "is active, but its socket was removed",
            Reach::Replaced => "is active, but its socket was replaced by something else",
            Reach::Closed => "is active, but does not accept connections",
            Reach::Foreign => "is active, but its socket was replaced by that of another program",
        };
        Some(format!("{unit} {what} ({path}); create it again: {restart}"))
    }
}

/// The problems of the sockets.
pub(in crate::cli) fn problems(sockets: &[Socket]) -> Vec<String> {
    sockets.iter().filter_map(Socket::problem).collect()
}

/// Why systemd would not start onecred for a D-Bus call, and the remedy.
pub(in crate::cli) fn keep_it_down(sockets: &[Socket]) -> Option<String> {
    let plain = sockets.iter().find(|socket| socket.unit == SOCKETS[0].0 && !socket.is_active())?;
    Some(format!("onecred does not run, and a call does not start it: {}", plain.problem()?))
}

/// One of onecred's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Which {
    /// The socket that delivers unencrypted values.
    Plain,
    /// The socket that delivers encrypted values.
    Sealed,
    /// The socket between the provider and the resolver.
    Resolver,
}

/// The sockets on this machine.
#[derive(Debug, Default)]
pub(in crate::cli) struct Sockets {
    all: Vec<Socket>,
    listening: Listening,
}

impl Sockets {
    /// Reads the state of all sockets. A socket that systemd does not report is missing.
    pub(in crate::cli) async fn read(connection: &Connection) -> Self {
        let provider = main_process(connection).await.unwrap_or_default();
        let mut all = Vec::new();
        for (unit, _) in SOCKETS {
            all.extend(one(connection, unit).await.ok());
        }
        let listening = Listening::read(provider);
        for socket in &mut all {
            socket.reach = reach(socket.is_active(), listening.at(socket.path()));
        }
        Self { all, listening }
    }

    /// Which socket of onecred has this file, and who accepts the connections there.
    pub(in crate::cli) fn of_file(&self, file: &Metadata) -> Option<(Which, Reach)> {
        let is_it =
            |path: &str| fs::metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (file.dev(), file.ino()));
        let which = [Which::Plain, Which::Sealed, Which::Resolver];
        SOCKETS.iter().zip(which).find_map(|((unit, path), which)| {
            let socket = self.all.iter().find(|socket| socket.unit == *unit);
            let addresses = socket.iter().flat_map(|socket| &socket.addresses);
            let found = is_it(path) || addresses.map(String::as_str).any(is_it);
            let is_active = socket.is_some_and(Socket::is_active);
            found.then(|| (which, reach(is_active, self.listening.at_file(file))))
        })
    }
}

/// The state of all sockets. Empty if systemd does not answer.
pub(in crate::cli) async fn all(connection: &Connection) -> Vec<Socket> {
    Sockets::read(connection).await.all
}

async fn one(connection: &Connection, unit: &str) -> zbus::Result<Socket> {
    let path = ManagerProxy::new(connection).await?.load_unit(unit).await?;
    let object = UnitProxy::builder(connection)
        .path(path.clone())
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    Ok(Socket {
        unit: unit.to_owned(),
        active_state: object.active_state().await?,
        unit_file_state: object.unit_file_state().await?,
        reach: Reach::Stopped,
        addresses: addresses(property(connection, path.as_str(), "Socket", "Listen").await.ok()),
    })
}

/// The paths of the `Listen` property of a socket unit.
pub(in crate::cli) fn addresses(listen: Option<OwnedVariant>) -> Vec<String> {
    let pairs: Vec<(String, String)> = listen.and_then(|value| value.try_into().ok()).unwrap_or_default();
    pairs.into_iter().map(|(_, address)| address).collect()
}

async fn main_process(connection: &Connection) -> zbus::Result<u32> {
    let path = ManagerProxy::new(connection).await?.load_unit("onecred.service").await?;
    property(connection, path.as_str(), "Service", "MainPID").await?.try_into()
}

async fn property(
    connection: &Connection,
    path: &str,
    interface: &str,
    name: &str,
) -> zbus::Result<OwnedVariant> {
    let interface = InterfaceName::try_from(format!("org.freedesktop.systemd1.{interface}"))?;
    let proxy = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1");
    Ok(proxy.path(path.to_owned()).build().await?.get(interface, name).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(unit: &str, active_state: &str, unit_file_state: &str) -> Socket {
        let reach = if active_state == "inactive" || active_state == "failed" {
            Reach::Stopped
        } else {
            Reach::Listens
        };
        let [unit, active_state, unit_file_state] = [unit, active_state, unit_file_state].map(str::to_owned);
        Socket { unit, active_state, unit_file_state, reach, addresses: Vec::new() }
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
    fn an_active_unit_whose_socket_is_elsewhere() {
        let restart = "systemctl restart onecred.socket";
        let resolver = "systemctl restart onecred-resolver.socket";
        for (unit, reach, addresses, says, then) in [
            ("onecred.socket", Reach::Listens, &[PLAIN][..], "", ""),
            ("onecred.socket", Reach::Listens, &["/run/x", PLAIN], "", ""),
            (
                "onecred.socket",
                Reach::Listens,
                &["/run/x"],
                "does not have its address /run/onecred/credential.sock",
                restart,
            ),
            (
                "onecred-sealed.socket",
                Reach::ProviderOnly,
                &["/run/x"],
                "does not have its address /run/onecred/sealed.sock",
                restart,
            ),
            ("onecred-sealed.socket", Reach::ProviderOnly, &[SEALED], "only the running onecred", restart),
            (
                "onecred-sealed.socket",
                Reach::Removed,
                &[SEALED],
                "was removed (/run/onecred/sealed.sock)",
                restart,
            ),
            ("onecred.socket", Reach::Replaced, &[PLAIN], "was replaced by something else", restart),
            ("onecred.socket", Reach::Closed, &[PLAIN], "does not accept connections", restart),
            ("onecred-resolver.socket", Reach::Foreign, &[RESOLVER], "that of another program", resolver),
        ] {
            let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
            let socket = Socket { reach, addresses, ..socket(unit, "active", "enabled") };
            let problem = socket.problem().unwrap_or_default();
            assert!(problem.contains(says) && problem.ends_with(then), "{unit} {reach:?}: {problem}");
            assert_eq!(says.is_empty(), problem.is_empty(), "{problem}");
            assert_eq!(socket.listens(), reach == Reach::Listens);
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
