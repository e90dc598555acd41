//! Answers ordering handles such as `onecred-file@NAME.service`, which start once what they stand for is published.

use std::sync::Arc;

use super::reply::Connection;
use super::request_log::Asked;
use super::server::{PATIENT_FOR, Server, gone};
use crate::domain::secret::SecretValue;
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::provider::base::peer::Peer;
use crate::provider::base::refusal::Refusal;
use crate::provider::publish::Handle;

impl Server {
    /// Publishes what a handle stands for, then lets it start.
    pub(super) fn publish_for(
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
        let passes = refusals.iter().any(|(_, refusal)| refusal.passes());
        let names = refusals.into_iter().map(|(name, _)| name.to_string()).collect();
        Err(Refusal::SomeUnpublished { names, passes })
    }
}
