//! The provider's side of the protocol: implements [`Resolve`] over a socket, with one connection per question.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::bounded;
use super::packet::{self, MAX_VALUES, Packet};
use super::turns::Turns;
use super::{
    Check, Checked, Class, Declarations, Failure, Fetch, Fetched, FetchedValue, ItemId, Pending, Probe,
    Probed, Question, Resolve, Status,
};
use crate::domain::secret::SecretValue;
use crate::host::sys;

/// How much longer than the resolver's own limit to wait for an answer. The resolver gives up first and gives
/// the reason.
const MARGIN: Duration = Duration::from_secs(2);
/// The maximum number of fetches that the resolver has at once. It is below the number that the resolver works on,
/// so that its listen queue stays free. Other fetches wait here.
const FETCHES: usize = 256;
/// The pause before a full listen queue is tried again.
const QUEUE_FULL: Duration = Duration::from_millis(20);
/// The maximum size in bytes of an answer's metadata, without the failures. Each item or field in the
/// question may add the size of one failure.
const HEAD: u64 = 16 << 10;
const EACH: u64 = 8 << 10;
/// The maximum size in bytes of answers of any length: the status of sources, and the reach of a token.
const LISTED: u64 = 1 << 20;

/// The failure if the connection was closed without an answer: the resolver ended, or does not know the
/// question.
const ENDED: &str = "the resolver ended without an answer";

/// The metadata of an answer to a fetch: [`Fetched`] with the lengths of the values instead of the values.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FetchedMeta {
    pub(super) id: ItemId,
    pub(super) version: u64,
    pub(super) vault_version: Option<u64>,
    #[serde(deserialize_with = "bounded::vec")]
    pub(super) fields: Vec<Result<ValueMeta, Failure>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ValueMeta {
    pub(super) len: usize,
    pub(super) expires: Option<u64>,
}

/// The resolver behind its socket.
#[derive(Debug)]
pub struct SocketResolver {
    path: PathBuf,
    fetches: Turns,
}

impl SocketResolver {
    /// A resolver that listens at this path. Each question makes a new connection, so the resolver may be
    /// restarted at any time.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), fetches: Turns::new(FETCHES) }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        question: &Question,
        secret: Option<&SecretValue>,
        (patience, most): (Duration, u64),
    ) -> Result<(T, Option<OwnedFd>), Failure> {
        let talk = async {
            let socket = sys::register(connected(&self.path).await?)?;
            let question = serde_json::to_vec(question)?;
            let meta = packet::sealed("onecred-question", [question.as_slice()].into_iter())?;
            // exposed: the token to be tested is passed to the resolver, only in memory
            let values = secret.map(|secret| packet::sealed("onecred-token", [secret.expose()].into_iter()));
            packet::send(&socket, &Packet { meta, values: values.transpose()? }).await?;
            packet::receive(&socket).await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        let packet = within(patience + MARGIN, talk).await.map_err(|error| self.unreachable(&error))?;
        let meta = packet::read_meta(packet.meta, most).map_err(|error| nonsense(&error.to_string()))?;
        let answer: Result<T, Failure> =
            serde_json::from_slice(&meta).map_err(|error| nonsense(&error.to_string()))?;
        Ok((answer.map_err(Failure::sanitized)?, packet.values))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let cause = match error.kind() {
            io::ErrorKind::UnexpectedEof => ENDED.to_owned(),
            io::ErrorKind::TimedOut => "the resolver does not answer".to_owned(),
            io::ErrorKind::InvalidData => return nonsense(&error.to_string()),
            _ => format!("the resolver can't be reached at {}: {error}", self.path.display()),
        };
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "only root may ask it: run this as root",
            _ => "see: systemctl status onecred-resolver.socket onecred-resolver.service",
        };
        Failure::new(Class::Away, cause, remedy)
    }
}

async fn within<T>(limit: Duration, talk: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Connects, once there is a place in the listen queue.
async fn connected(path: &Path) -> io::Result<OwnedFd> {
    loop {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(QUEUE_FULL).await,
            result => return result,
        }
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // the peer credentials at the time of listen(2)
    let listener = getsockopt(&socket, sockopt::PeerCredentials)?.uid();
    if !is_trusted(listener, geteuid().as_raw()) {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("user {listener} listens there, but must be root or the user of this process"),
        ));
    }
    Ok(socket)
}

/// Whether to trust the listener. Questions may contain a token and answers contain values, so the resolver
/// must run as root or as this user.
fn is_trusted(listener: u32, own: u32) -> bool {
    listener == 0 || listener == own
}

fn crowded() -> Failure {
    let cause = format!("the resolver was busy with {FETCHES} other requests until the deadline");
    Failure::new(Class::Away, cause, "wait").of_item().retry_after(QUEUE_FULL)
}

/// The maximum size in bytes of the metadata of an answer about this many things.
pub(super) fn metadata_of(asked: usize) -> u64 {
    HEAD + EACH * u64::try_from(asked).unwrap_or(u64::MAX / EACH - HEAD)
}

fn nonsense(why: &str) -> Failure {
    let remedy = "both processes must have the same version: systemctl restart onecred-resolver.service onecred.service";
    Failure::new(Class::Malformed, format!("the resolver's answer is invalid: {why}"), remedy).sanitized()
}

impl Resolve for SocketResolver {
    fn fetch(&self, mut fetch: Fetch) -> Pending<'_, Fetched> {
        Box::pin(async move {
            let deadline = Instant::now() + fetch.patience;
            let _turn = self.fetches.take(deadline).await.ok_or_else(crowded)?;
            fetch.patience = deadline.saturating_duration_since(Instant::now());
            let (patience, asked) = (fetch.patience, fetch.fields.len());
            let limits = (patience, metadata_of(asked));
            let (meta, values): (FetchedMeta, _) = self.ask(&Question::Fetch(fetch), None, limits).await?;
            if meta.fields.len() != asked {
                return Err(nonsense(&format!("{} values for {asked} fields", meta.fields.len())));
            }
            unpack(meta, values).map_err(|error| nonsense(&error.to_string()))
        })
    }

    fn check(&self, check: Check) -> Pending<'_, Checked> {
        Box::pin(async move {
            let (patience, asked) = (check.patience, check.items.len());
            let limits = (patience, metadata_of(asked));
            let (checked, _): (Checked, _) = self.ask(&Question::Check(check), None, limits).await?;
            if checked.items.len() != asked {
                return Err(nonsense(&format!("{} states for {asked} items", checked.items.len())));
            }
            Ok(checked.sanitized())
        })
    }

    fn probe(&self, probe: Probe, token: Option<SecretValue>) -> Pending<'_, Probed> {
        Box::pin(async move {
            let limits = (probe.patience, LISTED);
            let (probed, _): (Probed, _) = self.ask(&Question::Probe(probe), token.as_ref(), limits).await?;
            Ok(probed.sanitized())
        })
    }

    fn status(&self, sources: Declarations) -> Pending<'_, Status> {
        Box::pin(async move {
            let limits = (Duration::ZERO, LISTED);
            let status = match self.ask::<Status>(&Question::StatusOf(sources), None, limits).await {
                // an older resolver, in the middle of an upgrade
                Err(failure) if failure.cause == ENDED => self.ask(&Question::Status, None, limits).await,
                answer => answer,
            };
            Ok(status?.0.sanitized())
        })
    }
}

/// Replaces the lengths by the values. The values must fill the memfd exactly.
pub(super) fn unpack(meta: FetchedMeta, values: Option<OwnedFd>) -> io::Result<Fetched> {
    let size = values.as_ref().map(|fd| packet::sealed_size(fd, MAX_VALUES)).transpose()?.unwrap_or(0);
    let announced =
        meta.fields.iter().flatten().try_fold(0u64, |sum, v| sum.checked_add(u64::try_from(v.len).ok()?));
    if announced != Some(size) || meta.fields.iter().flatten().any(|v| v.len > SecretValue::MAX) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the lengths of its values do not match the values",
        ));
    }
    if !is_id(&meta.id.vault) || !is_id(&meta.id.item) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the item's ID is not valid"));
    }
    let file = values.map(File::from);
    let (mut fields, mut offset) = (Vec::with_capacity(meta.fields.len()), 0);
    for field in meta.fields {
        fields.push(match field {
            Err(failure) => Err(failure.sanitized()),
            Ok(ValueMeta { len, expires }) => {
                let mut bytes = vec![0; len];
                if let Some(file) = &file {
                    file.read_exact_at(&mut bytes, offset)?;
                }
                offset += len as u64;
                Ok(FetchedValue { value: SecretValue::new(bytes), expires })
            }
        });
    }
    Ok(Fetched { id: meta.id, version: meta.version, vault_version: meta.vault_version, fields })
}

/// Whether a text can be a 1Password ID. IDs are stored and sent with every check.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests;
