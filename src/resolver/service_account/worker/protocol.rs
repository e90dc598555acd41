//! The protocol between resolver and worker: the packets of [`crate::ipc`], with secrets in separate memfds.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ipc::packet::{self, MAX_META, MAX_VALUES, Packet};

/// A question. Its number is repeated in the answer, because several questions are pending at the same time.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WorkerRequest {
    pub(super) number: u64,
    pub(super) ask: Ask,
}

/// A question to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Load the first of these libraries that exists. Sent before any secret.
    Load(Wanted),
    /// Log in with the attached token.
    Login,
    /// Call the SDK core.
    Call {
        /// The core's name of the call.
        name: String,
        /// The parameters of the call.
        parameters: serde_json::Value,
    },
}

/// The library to load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// The possible paths.
    pub(crate) paths: Vec<PathBuf>,
    /// The SHA-256 that it must have, if one is pinned.
    pub(crate) sha256: Option<String>,
    /// A user who may own it besides root.
    pub(crate) owner: Option<u32>,
}

impl Wanted {
    /// Whether a library is among these.
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

/// An answer of a worker. Bytes from the SDK core are attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// The library is loaded, and is the SDK core.
    Loaded {
        /// Its path.
        path: PathBuf,
        /// Its SHA-256 in hexadecimal.
        sha256: String,
    },
    /// The question was carried out.
    Done,
}

/// Why a question was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refused {
    /// None of the paths has a library.
    NoLibrary,
    /// A library was not loaded, for this reason.
    Library(String),
    /// The SDK core reported an error.
    Core {
        /// The name of the error, if it has one.
        name: String,
        /// The message.
        message: String,
    },
    /// The SDK core panicked or violated its ABI.
    Broken(String),
}

/// Packs a message and its secret.
pub(super) fn pack<T: Serialize>(message: &T, secret: Option<&[u8]>) -> io::Result<Packet> {
    let meta = packet::sealed("onecred-core", [serde_json::to_vec(message)?.as_slice()].into_iter())?;
    let values =
        secret.map(|bytes| packet::sealed("onecred-core-values", [bytes].into_iter())).transpose()?;
    Ok(Packet { meta, values })
}

/// Unpacks a message and its secret.
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
