//! Answers ordering handles such as `onecred-file@NAME.service`, which start when their files are published.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::handler::{Handler, PATIENT_FOR, gone};
use super::reply::Connection;
use super::request_log::Asked;
use crate::domain::secret::SecretValue;
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::provider::base::peer::Peer;
use crate::provider::base::refusal::Refusal;
use crate::provider::fetch::assemble::PendingPart;
use crate::provider::publish::Handle;

/// How long a refusal waits until the units that require the handle are known.
const TELLING: Duration = Duration::from_secs(1);

impl Handler {
    /// Publishes the files of a handle, then lets it start.
    pub(super) fn publish_for(
        self: &Arc<Self>,
        connection: Connection,
        peer: Peer,
        handle: Handle,
        arrived: BootTime,
    ) {
        let handler = Arc::clone(self);
        tokio::spawn(async move {
            let result = tokio::select! {
                biased;
                result = handler.published(&peer, &handle, arrived) => result,
                // this frees its place, because the peer does not read an answer
                () = gone(&connection) => return,
                () = handler.stopped() => Err(Refusal::Stopping),
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
                Err(refusal) => {
                    // first: once the handle has failed, systemd forgets units that were not started for it
                    let telling = handler.context.publisher.tell_consumers(&peer.claim.unit, &refusal);
                    let _ = timeout(TELLING, telling).await;
                    handler.refuse(connection, &peer, None, arrived, &refusal);
                }
            }
        });
    }

    async fn published(&self, peer: &Peer, handle: &Handle, arrived: BootTime) -> Result<String, Refusal> {
        let mut work = std::pin::pin!(async {
            match handle {
                Handle::One(name) => {
                    let paths = self.context.publisher.publish(name).await?;
                    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                    Ok(format!("published {}", paths.join(", ")))
                }
                Handle::All => self.all_published(peer).await,
            }
        });
        match timeout(PATIENT_FOR, &mut work).await {
            Ok(result) => result,
            Err(_elapsed) => {
                for PendingPart { wanted, has_older } in self.context.publisher.waits_for(handle) {
                    let asked = Asked { peer, secret: Some(&wanted.label), arrived };
                    let cause = self.context.broker.last_failure(&wanted.source);
                    self.log.waiting(asked, &wanted, cause.as_ref(), has_older);
                }
                work.await
            }
        }
    }

    async fn all_published(&self, peer: &Peer) -> Result<String, Refusal> {
        let (count, refusals) = self.context.publisher.publish_all().await?;
        let unit = peer.claim.unit.as_str();
        for (name, refusal) in &refusals {
            tracing::warn!(
                message_id = message_id::UNPUBLISHED,
                onecred_secret = name.as_str(),
                object_systemd_unit = unit,
                onecred_unit = unit,
                onecred_result = refusal.kind(),
                "{name} is not published: {}",
                refusal.outright(name.as_str())
            );
        }
        if refusals.is_empty() {
            return Ok(format!("published all files: {count}"));
        }
        let ends = refusals.iter().filter_map(|(_, refusal)| refusal.ends()).min();
        let names = refusals.into_iter().map(|(name, _)| name.to_string()).collect();
        Err(Refusal::SomeUnpublished { names, ends })
    }
}
