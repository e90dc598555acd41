//! The resolver's side of the protocol: answers the question of each connection with a [`Resolve`].

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Serialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use super::client::{FetchedMeta, ValueMeta};
use super::packet::{self, MAX_META, Packet};
use super::{Checked, Class, Declarations, Failure, Fetched, Question, Resolve};
use crate::domain::secret::SecretValue;
use crate::host::accept::Failures;
use crate::host::sys;

/// The maximum number of questions that are processed at the same time; others wait in the listen queue.
const AT_ONCE: usize = 512;

/// Serves questions from a listening SOCK_SEQPACKET socket until the future is dropped. Accepts only
/// processes of root and `allowed_uid`.
pub async fn serve(listener: OwnedFd, resolver: Arc<dyn Resolve>, allowed_uid: u32) -> io::Result<()> {
    let listener = sys::register(listener)?;
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut failures = Failures::of("onecred-resolver.service");
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
        let socket = accept(&listener, &mut failures).await?;
        let uid = getsockopt(&socket, PeerCredentials)?.uid();
        if !may_ask(uid, allowed_uid) {
            tracing::warn!(
                uid,
                "onecred-resolver: closed a connection from user {uid}: only root and user {allowed_uid} may connect"
            );
            continue;
        }
        let resolver = Arc::clone(&resolver);
        tokio::spawn(async move {
            if let Err(error) = converse(socket, &*resolver).await {
                tracing::warn!("onecred-resolver: a question could not be answered: {error}");
            }
            drop(permit);
        });
    }
}

fn may_ask(uid: u32, allowed_uid: u32) -> bool {
    uid == 0 || uid == allowed_uid
}

async fn accept(listener: &AsyncFd<OwnedFd>, failures: &mut Failures) -> io::Result<OwnedFd> {
    loop {
        let mut guard = listener.readable().await?;
        match guard.try_io(|listener| sys::accept(listener.get_ref())) {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => failures.wait_out(error).await?,
            Err(_would_block) => {}
        }
    }
}

async fn converse(socket: OwnedFd, resolver: &dyn Resolve) -> io::Result<()> {
    let socket = sys::register(socket)?;
    let Some(packet) = packet::receive(&socket).await? else { return Ok(()) };
    let question: Question = serde_json::from_slice(&packet::read_meta(packet.meta, MAX_META)?)?;
    let answer = match question {
        Question::Fetch(fetch) => match until_closed(&socket, resolver.fetch(fetch)).await {
            Some(result) => pack(result)?,
            None => return Ok(()),
        },
        Question::Probe(probe) => {
            let token = packet.values.map(packet::read_values).transpose()?;
            match until_closed(&socket, resolver.probe(probe, token)).await {
                Some(result) => Packet { meta: metadata(&result)?, values: None },
                None => return Ok(()),
            }
        }
        Question::Status => match until_closed(&socket, resolver.status(Declarations::new())).await {
            Some(result) => Packet { meta: metadata(&result)?, values: None },
            None => return Ok(()),
        },
        Question::StatusOf(sources) => match until_closed(&socket, resolver.status(sources)).await {
            Some(result) => Packet { meta: metadata(&result)?, values: None },
            None => return Ok(()),
        },
        Question::Check(check) => match until_closed(&socket, resolver.check(check)).await {
            Some(result) => Packet { meta: metadata(&result.map(Checked::sanitized))?, values: None },
            None => return Ok(()),
        },
    };
    packet::send(&socket, &answer).await
}

/// Computes an answer until the peer closes the connection.
async fn until_closed<T>(socket: &AsyncFd<OwnedFd>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = work => Some(result),
        // the peer has closed the connection, or violates the protocol with a second question
        _ = packet::receive(socket) => None,
    }
}

/// The metadata of an answer. Failures are shortened to the lengths that the client accepts.
fn metadata<T: Serialize>(answer: &Result<T, Failure>) -> io::Result<OwnedFd> {
    let cut = answer.as_ref().map_err(|failure| failure.clone().sanitized());
    packet::sealed("onecred-answer", [serde_json::to_vec(&cut)?.as_slice()].into_iter())
}

pub(super) fn pack(result: Result<Fetched, Failure>) -> io::Result<Packet> {
    let fetched = match result {
        Ok(fetched) => fetched,
        Err(failure) => return Ok(Packet { meta: metadata::<FetchedMeta>(&Err(failure))?, values: None }),
    };
    let (mut fields, mut values) = (Vec::new(), Vec::new());
    for field in fetched.fields {
        let too_large = |size: usize| {
            let cause = format!("the value has {size} bytes, and the limit is {}", SecretValue::MAX);
            Failure::new(Class::TooLarge, cause, "keep large data elsewhere and only its key here")
        };
        fields.push(match field {
            Ok(field) if field.value.len() > SecretValue::MAX => Err(too_large(field.value.len())),
            Ok(field) => {
                let meta = ValueMeta { len: field.value.len(), expires: field.expires };
                values.push(field.value);
                Ok(meta)
            }
            Err(failure) => Err(failure.sanitized()),
        });
    }
    let meta = FetchedMeta {
        id: fetched.id,
        version: fetched.version,
        vault_version: fetched.vault_version,
        fields,
    };
    // exposed: the values are passed to the provider
    let values = packet::sealed("onecred-values", values.iter().map(SecretValue::expose))?;
    Ok(Packet { meta: metadata(&Ok(meta))?, values: Some(values) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_provider_may_ask() {
        for (uid, allowed_uid, may) in
            [(0, 990, true), (990, 990, true), (0, 0, true), (989, 990, false), (65534, 0, false)]
        {
            assert_eq!(may_ask(uid, allowed_uid), may, "user {uid}, allowed {allowed_uid}");
        }
    }
}
