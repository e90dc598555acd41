//! What resolver and worker say to each other: packets of the wire's kind, with what is secret in memory files of their own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ipc::packet::{self, MAX_META, MAX_VALUES, Packet};

/// A question, by a number that its answer bears too: several are under way at once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) ask: Ask,
}

/// What a worker can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// To load the first of these libraries that exists. Comes before any secret.
    Load(Wanted),
    /// To log in, with the token that comes along.
    Login,
    /// To have the core do something.
    Call {
        /// The core's name for it.
        name: String,
        /// What the core wants to know.
        parameters: serde_json::Value,
    },
}

/// Which library is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Where it may be.
    pub(crate) paths: Vec<PathBuf>,
    /// The SHA-256 that it must have, if one is named.
    pub(crate) sha256: Option<String>,
    /// A user who may own it besides root.
    pub(crate) owner: Option<u32>,
}

impl Wanted {
    /// Whether a library is one of those.
    pub(crate) fn allows(&self, path: &Path, sha256: &str) -> bool {
        let is_digest = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
        let pinned = self.sha256.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(sha256));
        is_digest && pinned && self.paths.iter().any(|wanted| wanted == path)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) number: u64,
    pub(super) answer: Result<Told, Refused>,
}

/// What a worker answers; what the core has brought comes along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// The library is loaded, and is the core.
    Loaded {
        /// Which one.
        path: PathBuf,
        /// Its SHA-256, in hexadecimal.
        sha256: String,
    },
    /// It is done.
    Done,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refused {
    /// There is no library at any of the places.
    NoLibrary,
    /// A library is not loaded, for this reason.
    Library(String),
    /// The core says no.
    Core {
        /// Its name for that, if it has one.
        name: String,
        /// Its words.
        message: String,
    },
    /// The core panicked, or broke its ABI.
    Broken(String),
}

/// A packet of a message, and of what is secret about it.
pub(super) fn pack<T: Serialize>(message: &T, secret: Option<&[u8]>) -> io::Result<Packet> {
    let meta = packet::sealed("onecred-core", [serde_json::to_vec(message)?.as_slice()].into_iter())?;
    let values =
        secret.map(|bytes| packet::sealed("onecred-core-values", [bytes].into_iter())).transpose()?;
    Ok(Packet { meta, values })
}

/// The message of a packet, and what came along.
pub(super) fn unpack<T: for<'de> Deserialize<'de>>(packet: Packet) -> io::Result<(T, Zeroizing<Vec<u8>>)> {
    let message = serde_json::from_slice(&packet::read_meta(packet.meta, MAX_META)?)?;
    Ok((message, packet.values.map(contents).transpose()?.unwrap_or_default()))
}

fn contents(fd: OwnedFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = packet::sealed_size(&fd, MAX_VALUES)?;
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(size).map_err(io::Error::other)?]);
    File::from(fd).read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
