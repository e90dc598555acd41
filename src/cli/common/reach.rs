//! Determines which program accepts the connections at a socket's path. A unit can be active although its
//! socket was removed or replaced, and the running provider serves a socket whose unit was stopped.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;

use serde::Serialize;

use crate::host::listeners::{Listeners, sockets_of};

/// Who accepts the connections at the path of a socket unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Reach {
    /// The service manager, as far as known.
    Listens,
    /// Only the running provider. This ends with it.
    ProviderOnly,
    /// None, because the unit is not active.
    Stopped,
    /// None, because the path does not exist.
    Removed,
    /// None, because something else than a socket has the path.
    Replaced,
    /// None: the socket at the path was closed.
    Closed,
    /// Another program.
    Foreign,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum At {
    /// Unknown: the kernel or the file system does not say.
    Unknown,
    /// Nothing.
    Nothing,
    /// Something else than a socket.
    NoSocket,
    /// A socket at which no program listens.
    Closed,
    /// A socket at which a program listens: whether it is the service manager, and whether it is the
    /// provider, if known.
    Listener {
        /// The service manager.
        manager: Option<bool>,
        /// The provider.
        provider: Option<bool>,
    },
}

/// Who accepts the connections. Pure.
pub(in crate::cli) fn reach(is_active: bool, at: At) -> Reach {
    match (is_active, at) {
        (true, At::Listener { manager: Some(false), provider: Some(true) }) => Reach::ProviderOnly,
        (true, At::Listener { manager: Some(false), provider: Some(false) }) => Reach::Foreign,
        (true, At::Unknown | At::Listener { .. }) => Reach::Listens,
        (true, At::Nothing) => Reach::Removed,
        (true, At::NoSocket) => Reach::Replaced,
        (true, At::Closed) => Reach::Closed,
        (false, At::Listener { provider: Some(true) | None, .. }) => Reach::ProviderOnly,
        (false, At::Listener { provider: Some(false), .. }) => Reach::Foreign,
        (false, At::Unknown | At::Nothing | At::NoSocket | At::Closed) => Reach::Stopped,
    }
}

/// The sockets that listen on this machine, and those of the service manager and the provider.
#[derive(Debug, Default)]
pub(in crate::cli) struct Listening {
    all: Option<Listeners>,
    of_manager: Option<BTreeSet<u64>>,
    of_provider: Option<BTreeSet<u64>>,
}

impl Listening {
    /// Asks the kernel. `provider` is the main process of the provider, or 0 if it does not run.
    pub(in crate::cli) fn read(provider: u32) -> Self {
        let of_provider = match provider {
            0 => Some(BTreeSet::new()),
            process => sockets_of(process).ok(),
        };
        Self { all: Listeners::read(), of_manager: sockets_of(1).ok(), of_provider }
    }

    /// What is at a path.
    pub(in crate::cli) fn at(&self, path: &str) -> At {
        match fs::metadata(path) {
            Ok(file) => self.at_file(&file),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                At::Nothing
            }
            Err(_) => At::Unknown,
        }
    }

    /// What is at the path of this file.
    pub(in crate::cli) fn at_file(&self, file: &Metadata) -> At {
        if !file.file_type().is_socket() {
            return At::NoSocket;
        }
        let Some(all) = &self.all else { return At::Unknown };
        let sockets = all.at(file);
        let has = |of: &Option<BTreeSet<u64>>| of.as_ref().map(|of| !of.is_disjoint(&sockets));
        match sockets.is_empty() {
            true => At::Closed,
            false => At::Listener { manager: has(&self.of_manager), provider: has(&self.of_provider) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_accepts_connections() {
        use Reach::{Closed, Foreign, Listens, ProviderOnly, Removed, Replaced, Stopped};
        let of = |manager, provider| At::Listener { manager, provider };
        let (yes, no) = (Some(true), Some(false));
        for (at, active, stopped) in [
            (At::Unknown, Listens, Stopped),
            (At::Nothing, Removed, Stopped),
            (At::NoSocket, Replaced, Stopped),
            (At::Closed, Closed, Stopped),
            (of(yes, no), Listens, Foreign), // another unit listens there
            (of(yes, yes), Listens, ProviderOnly),
            (of(no, yes), ProviderOnly, ProviderOnly),
            (of(no, no), Foreign, Foreign),
            // a user who cannot examine these processes
            (of(None, None), Listens, ProviderOnly),
            (of(None, no), Listens, Foreign), // the provider does not run
            (of(no, None), Listens, ProviderOnly),
        ] {
            assert_eq!((reach(true, at), reach(false, at)), (active, stopped), "{at:?}");
        }
    }

    #[test]
    fn what_is_at_a_path() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        fs::write(path("file"), "").unwrap();
        let known = Listening { all: Some(Listeners::default()), ..Listening::default() };
        for (name, expected) in [
            ("none", At::Nothing),
            ("file/x", At::Nothing),
            ("file", At::NoSocket),
            (".", At::NoSocket),
            ("socket", At::Closed),
        ] {
            assert_eq!(known.at(&path(name)), expected, "{name}");
        }
        assert_eq!(Listening::default().at(&path("socket")), At::Unknown);
        drop(listener);
    }
}
