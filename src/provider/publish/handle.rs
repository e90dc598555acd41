//! The ordering handles: `onecred-file@NAME.service` and `onecred-publish.service` ask for a credential like any unit, and get it when what they
//! stand for is published. So units that read files can order themselves after them, and a refusal is in the handle's own journal.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::base::peer::Peer;
use super::Publisher;
use super::accounts::Accounts;
use super::demand::unpublished;
use super::plan::File;
use crate::domain::name::{Claim, unescape};
use crate::domain::policy::Deliverable;
use crate::domain::secret::SecretValue;
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::provider::base::refusal::Refusal;
use crate::provider::request::reply::Connection;
use crate::provider::request::request_log::Asked;
use crate::provider::request::server::{PATIENT_FOR, Server, gone};

/// The ID under which handles ask.
const CREDENTIAL: &str = "file";

/// What is to be published before a unit goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handle {
    /// The file of one secret or template.
    One(String),
    /// All files.
    All,
}

impl Handle {
    /// The handle that a claim is of, if it is of one.
    pub fn of(claim: &Claim) -> Option<Self> {
        if claim.credential.as_str() != CREDENTIAL {
            return None;
        }
        if claim.unit.as_str() == "onecred-publish.service" {
            return Some(Self::All);
        }
        let instance = claim.unit.instance().filter(|_| claim.unit.prefix() == "onecred-file")?;
        claim.unit.as_str().ends_with(".service").then_some(())?;
        // names have no slash, so a dash is a dash, also where nobody has escaped it
        let name = unescape(&instance.replace('-', r"\x2d"));
        Some(Self::One(name.unwrap_or_else(|| instance.to_owned())))
    }
}

/// A file that a handle waits for.
#[derive(Debug)]
pub struct Awaited {
    /// The secret's or template's name.
    pub name: String,
    /// What is in it.
    pub content: Deliverable,
    /// Where it is.
    pub path: PathBuf,
    /// Why it could not be written, whatever its value is.
    pub unwritable: Option<Refusal>,
}

impl Publisher {
    /// The files that a handle waits for; an error if it stands for none that is configured.
    pub async fn awaited(&self, handle: &Handle) -> Result<Vec<Awaited>, Refusal> {
        let plan = self.configured()?;
        let files: Vec<&File> = match handle {
            Handle::One(name) => plan.named(name).collect(),
            Handle::All => plan.files.iter().collect(),
        };
        if let (Handle::One(name), []) = (handle, files.as_slice()) {
            return Err(Refusal::NoFile(name.clone()));
        }
        let accounts = Accounts::of(files.iter().map(|file| &file.target)).await;
        let awaited = |file: &File| {
            let owner = accounts.owner(&file.target).map(drop);
            let fault = owner.and_then(|()| self.writer().opens(&file.root)).err();
            Awaited {
                name: file.name.to_string(),
                content: file.content.clone(),
                path: file.target.path.clone(),
                unwritable: fault.map(unpublished(file)),
            }
        };
        Ok(files.into_iter().map(awaited).collect())
    }
}

impl Server {
    /// Publishes what a handle stands for, then lets it start.
    pub(in crate::provider) fn publish_for(
        self: &Arc<Self>,
        connection: Connection,
        peer: Peer,
        handle: Handle,
        arrived: BootTime,
    ) {
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let mut stop = server.stop.subscribe();
            let result = tokio::select! {
                biased;
                result = server.published(&peer, &handle, arrived) => result,
                () = gone(&connection) => return, // nobody is told, and its place is free
                _ = stop.wait_for(|stop| *stop) => Err(Refusal::Stopping),
            };
            match result {
                Ok(said) => {
                    let unit = peer.claim.unit.as_str();
                    tracing::info!(object_systemd_unit = unit, onecred_unit = unit, "{said}");
                    let answer = SecretValue::new(format!("{said}\n").into_bytes());
                    if let Err((connection, sent)) = connection.answer_at_once(&answer) {
                        connection.answer_rest(answer, sent).await;
                    }
                }
                Err(refusal) => server.refuse(connection, &peer, None, arrived, &refusal),
            }
        });
    }

    async fn published(&self, peer: &Peer, handle: &Handle, arrived: BootTime) -> Result<String, Refusal> {
        let mut work = std::pin::pin!(async {
            match handle {
                Handle::One(name) => {
                    let paths = self.publisher.publish(name).await?;
                    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                    Ok(format!("published {}", paths.join(", ")))
                }
                Handle::All => self.all_published(peer).await,
            }
        });
        match tokio::time::timeout(PATIENT_FOR, &mut work).await {
            Ok(result) => result,
            Err(_elapsed) => {
                for wanted in self.publisher.waits_for(handle) {
                    let asked = Asked { peer, secret: Some(&wanted.label), arrived };
                    let cause = self.broker.last_failure(&wanted.source);
                    self.report.waiting(asked, &wanted, cause.as_ref(), self.broker.has(&wanted));
                }
                work.await
            }
        }
    }

    async fn all_published(&self, peer: &Peer) -> Result<String, Refusal> {
        let (count, refusals) = self.publisher.publish_all().await?;
        let unit = peer.claim.unit.as_str();
        for (file, refusal) in &refusals {
            tracing::warn!(
                message_id = message_id::UNPUBLISHED,
                onecred_secret = file.name.as_str(),
                object_systemd_unit = unit,
                onecred_unit = unit,
                onecred_result = refusal.kind(),
                "{} is not published: {}",
                file.name,
                refusal.outright(file.name.as_str())
            );
        }
        if refusals.is_empty() {
            return Ok(format!("published all files: {count}"));
        }
        let passes = refusals.iter().any(|(_, refusal)| refusal.passes());
        let names = refusals.into_iter().map(|(file, _)| file.name.to_string()).collect();
        Err(Refusal::SomeUnpublished { names, passes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<Handle> {
        Handle::of(&Claim::parse(address.as_bytes()).unwrap())
    }

    #[test]
    fn units_that_are_handles() {
        let one = |name: &str| Some(Handle::One(name.to_owned()));
        assert_eq!(of("0f/unit/onecred-file@db-password.service/file"), one("db-password"));
        assert_eq!(of(r"0f/unit/onecred-file@db\x2dpassword.service/file"), one("db-password"));
        assert_eq!(of("0f/unit/onecred-file@a@b.service/file"), one("a@b"));
        assert_eq!(of("0f/unit/onecred-publish.service/file"), Some(Handle::All));
        assert_eq!(of("0f/unit/onecred-file@a.service/other"), None);
        assert_eq!(of("0f/unit/onecred-file.service/file"), None);
        assert_eq!(of("0f/unit/onecred-file@a.socket/file"), None);
        assert_eq!(of("0f/unit/app.service/file"), None);
    }
}
