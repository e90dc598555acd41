//! Checks whether a unit starts before onecred or the network. At boot nothing is in memory, so a unit that
//! needs 1Password waits for both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedVariant, Variant};

use super::facts::Early;
use crate::cli::creds_socket;
use crate::host::systemd::manager::{ManagerProxy, UnitProxy};

/// The units that answer requests. A unit that must start before them waits for itself.
const ONECRED: [&str; 5] = [
    "onecred.socket",
    "onecred-sealed.socket",
    "onecred-resolver.socket",
    "onecred.service",
    "onecred-resolver.service",
];
/// The socket through which systemd 258 and later decrypts the credentials of some units.
const DECRYPTION: [&str; 1] = [creds_socket::SOCKET];
/// Targets that wait for all sockets.
const AFTER_SOCKETS: [&str; 2] = ["sockets.target", "basic.target"];
/// Targets that wait for the network, or that the network waits for.
const NETWORK: [&str; 3] = ["network-pre.target", "network.target", "network-online.target"];
/// Units ordered after these have the network when they start.
const ONLINE: [&str; 2] = ["network.target", "network-online.target"];
/// The maximum number of units that are examined.
const MOST: usize = 2_000;

/// The units ordered after each unit.
pub(super) type Cache = BTreeMap<String, Vec<String>>;

/// Why a unit starts before onecred or the network, if it does.
pub(super) async fn early(
    manager: &ManagerProxy<'_>,
    connection: &Connection,
    known: &mut Cache,
    unit: &UnitProxy<'_>,
) -> Option<Early> {
    let first = unit.before().await.ok()?;
    let found = search(manager, connection, known, Search::new(&first, &ONECRED)).await;
    if found.is_some() {
        return found;
    }
    let after = unit.after().await.ok()?;
    if after.iter().any(|unit| ONLINE.contains(&unit.as_str())) {
        return None;
    }
    search(manager, connection, known, Search::new(&first, &NETWORK)).await
}

/// Why a unit starts before the socket through which systemd decrypts credentials, if it does.
pub(super) async fn before_decryption(
    manager: &ManagerProxy<'_>,
    connection: &Connection,
    known: &mut Cache,
    unit: &UnitProxy<'_>,
) -> Option<Early> {
    let first = unit.before().await.ok()?;
    search(manager, connection, known, Search::new(&first, &DECRYPTION)).await
}

/// Whether a unit starts after a socket of onecred, directly or through other units.
pub(super) async fn is_after(
    manager: &ManagerProxy<'_>,
    connection: &Connection,
    unit: &UnitProxy<'_>,
    socket: &str,
) -> bool {
    let is_goal = |name: &String| name == socket || AFTER_SOCKETS.contains(&name.as_str());
    let Ok(first) = unit.after().await else { return true };
    let (mut todo, mut seen) = (VecDeque::from([first]), BTreeSet::new());
    while let Some(names) = todo.pop_front() {
        if names.iter().any(is_goal) {
            return true;
        }
        for name in names {
            if seen.len() < MOST && seen.insert(name.clone()) {
                todo.extend(after(manager, connection, &name).await.ok());
            }
        }
    }
    false
}

async fn after(manager: &ManagerProxy<'_>, connection: &Connection, name: &str) -> zbus::Result<Vec<String>> {
    let path = manager.get_unit(name).await?;
    let unit =
        UnitProxy::builder(connection).path(path).cache_properties(CacheProperties::No).build().await?;
    unit.after().await
}

async fn search(
    manager: &ManagerProxy<'_>,
    connection: &Connection,
    known: &mut Cache,
    mut search: Search,
) -> Option<Early> {
    while let Some(name) = search.next() {
        if !known.contains_key(&name) {
            let before = before(manager, connection, &name).await.unwrap_or_default();
            known.insert(name.clone(), before);
        }
        search.follow(&name, &known[&name]);
    }
    search.found
}

async fn before(
    manager: &ManagerProxy<'_>,
    connection: &Connection,
    name: &str,
) -> zbus::Result<Vec<String>> {
    let path = manager.get_unit(name).await?; // a unit that is not loaded orders nothing
    let unit =
        UnitProxy::builder(connection).path(path).cache_properties(CacheProperties::No).build().await?;
    match unit.load_state().await?.as_str() {
        "not-found" | "masked" => Ok(Vec::new()), // no unit waits for a job that cannot exist
        _ => unit.before().await,
    }
}

/// A search through the units ordered after a unit, nearest first. Pure.
struct Search {
    /// The units to find.
    targets: &'static [&'static str],
    todo: VecDeque<(String, String)>,
    seen: BTreeSet<String>,
    found: Option<Early>,
    /// The neighbour of the first unit through which the current one was reached.
    through: BTreeMap<String, String>,
}

impl Search {
    fn new(first: &[String], targets: &'static [&'static str]) -> Self {
        let mut search = Self {
            targets,
            todo: VecDeque::new(),
            seen: BTreeSet::new(),
            found: None,
            through: BTreeMap::new(),
        };
        for name in first {
            if targets.contains(&name.as_str()) && search.found.is_none() {
                search.found = Some(Early::new(name, None));
            }
            search.add(name, name);
        }
        search
    }

    fn add(&mut self, name: &str, through: &str) {
        // everything is ordered before shutdown, and what is ordered after it does not start at boot
        let ends = matches!(name, "shutdown.target" | "umount.target" | "final.target");
        if !ends && self.seen.len() < MOST && self.seen.insert(name.to_owned()) {
            self.through.insert(name.to_owned(), through.to_owned());
            self.todo.push_back((name.to_owned(), through.to_owned()));
        }
    }

    fn next(&mut self) -> Option<String> {
        if self.found.is_some() {
            return None;
        }
        self.todo.pop_front().map(|(name, _)| name)
    }

    fn follow(&mut self, name: &str, before: &[String]) {
        let through = self.through.get(name).cloned().unwrap_or_default();
        for next in before {
            if self.targets.contains(&next.as_str()) {
                self.found = Some(Early::new(next, Some(through)));
                return;
            }
            self.add(next, &through);
        }
    }
}

impl Early {
    fn new(target: &str, through: Option<String>) -> Self {
        Self { target: target.to_owned(), through, holds_onecred: ONECRED.contains(&target) }
    }
}

/// Whether a property is a list that is not empty.
pub(super) fn is_nonempty_list(value: &OwnedVariant) -> bool {
    matches!(&**value, Variant::Array(array) if !array.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(targets: &'static [&'static str], first: &[&str], edges: &[(&str, &[&str])]) -> Option<Early> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut search = Search::new(&owned(first), targets);
        while let Some(name) = search.next() {
            let before = edges.iter().find(|(from, _)| *from == name).map(|(_, to)| owned(to));
            search.follow(&name, &before.unwrap_or_default());
        }
        search.found
    }

    #[test]
    fn what_is_ordered_before_the_network() {
        let early = |target: &str, through: Option<&str>| {
            Some(Early { target: target.into(), through: through.map(str::to_owned), holds_onecred: false })
        };
        let sysinit: &[(&str, &[&str])] = &[
            ("sysinit.target", &["basic.target", "shutdown.target"]),
            ("basic.target", &["NetworkManager.service", "app.service"]),
            ("NetworkManager.service", &["network.target"]),
            ("app.service", &["multi-user.target"]),
            ("shutdown.target", &["network.target"]),
            ("loop.service", &["loop.service", "other.service"]),
            ("other.service", &["loop.service"]),
        ];
        for (first, expected) in [
            (&["network-pre.target", "shutdown.target"][..], early("network-pre.target", None)),
            (&["network.target"], early("network.target", None)),
            (&["NetworkManager.service"], early("network.target", Some("NetworkManager.service"))),
            (&["sysinit.target"], early("network.target", Some("sysinit.target"))),
            (&["multi-user.target", "shutdown.target"], None),
            (&["loop.service"], None),
            (&[], None),
            (&["onecred.socket"], None),
        ] {
            assert_eq!(search(&NETWORK, first, sysinit), expected, "{first:?}");
        }
    }

    #[test]
    fn what_is_ordered_before_onecred() {
        let early = |target: &str, through: Option<&str>| {
            Some(Early { target: target.into(), through: through.map(str::to_owned), holds_onecred: true })
        };
        let edges: &[(&str, &[&str])] = &[
            ("systemd-sysusers.service", &["sysinit.target", "onecred-resolver.service"]),
            ("sysinit.target", &["network.target"]),
        ];
        for (first, expected) in [
            (&["onecred.socket", "shutdown.target"][..], early("onecred.socket", None)),
            (&["onecred-resolver.service"], early("onecred-resolver.service", None)),
            (
                &["systemd-sysusers.service"],
                early("onecred-resolver.service", Some("systemd-sysusers.service")),
            ),
            (&["sysinit.target"], None),
            (&["network.target"], None),
        ] {
            assert_eq!(search(&ONECRED, first, edges), expected, "{first:?}");
        }
    }
}
