//! The path of a request: attest, authorise, look up, wait, seal, reply, log. A request that need not wait is
//! answered without a separate task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::reply::{Connection, Delivery};
use crate::config::Audit;
use crate::domain::policy::Deliverable;
use crate::host::clock::BootTime;
use crate::provider::base::asker::Asker;
use crate::provider::base::limits::Form;
use crate::provider::base::peer::Peer;
use crate::provider::base::refusal::Refusal;
use crate::provider::context::Context;
use crate::provider::fetch::assemble::{self, Assembled, Job, LookUp, Part};
use crate::provider::fetch::start::Fit as _;
use crate::provider::observe::counters::STRANGER;
use crate::provider::publish::Handle;
use crate::provider::request::attestation::{Attestation, Stranger};
use crate::provider::request::request_log::{Asked, Report};
use crate::provider::request::sealed_pace::SealedPace;
use crate::provider::request::send_budget::{Room, Taken};

/// A wait that is longer than this is logged in the journal of the unit.
pub(super) const PATIENT_FOR: Duration = Duration::from_secs(2);

/// Answers requests.
pub struct Handler {
    pub(super) context: Arc<Context>,
    /// Logs what happened to requests.
    pub log: Report,
    attestation: Attestation,
    send_budget: Room,
    pub(super) pace: SealedPace,
    /// Becomes true when waiting requests must be refused.
    stop: watch::Sender<bool>,
}

/// A request of a unit that may have the credential.
#[derive(Debug)]
struct Request {
    peer: Peer,
    job: Job,
    form: Form,
    /// When it arrived. The sum of all waits ends at its deadline.
    began: Instant,
}

impl Request {
    fn deadline(&self) -> Instant {
        self.began + self.job.patience()
    }
}

/// What is missing to send an available value.
#[derive(Debug, Clone, Copy)]
enum Lack {
    /// Memory for a long value.
    Memory { size: usize },
    /// A slot for a sealed answer.
    Slot,
}

impl Handler {
    /// A handler that accepts peers according to `attestation`.
    pub fn new(context: Arc<Context>, attestation: Attestation) -> Self {
        Self {
            context,
            log: Report::default(),
            attestation,
            send_budget: Room::default(),
            pace: SealedPace::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Refuses all requests that are waiting for their value.
    pub fn refuse_waiting(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until [`Self::refuse_waiting`] is called.
    pub(super) async fn stopped(&self) {
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Handles a connection that was just accepted.
    pub(super) fn handle(self: &Arc<Self>, connection: Connection, form: Form) {
        let arrived = BootTime::now();
        let peer = match self.attest(&connection) {
            Ok(peer) => peer,
            Err(reason) => return connection.refuse(&reason),
        };
        self.pace.asks_again(peer.process);
        if let Some(handle) = Handle::of(&peer.claim).filter(|_| form == Form::Plain) {
            return self.publish_for(connection, peer, handle, arrived);
        }
        let what = match self.authorise(&peer) {
            Ok(what) => what,
            Err(refusal) => return self.refuse(connection, &peer, None, arrived, &refusal),
        };
        let asker = Asker::Start(peer.claim.unit.clone());
        let job = Job { what, process: peer.process, arrived, asker };
        let request = Request { peer, job, form, began: Instant::now() };
        match self.look_up(&request) {
            Some(result) => self.answer(connection, request, result, None),
            None => drop(tokio::spawn(Arc::clone(self).answer_later(connection, request, None))),
        }
    }

    fn attest(&self, connection: &Connection) -> Result<Peer, String> {
        let identified =
            connection.socket().ok_or(Stranger::Gone).and_then(|socket| self.attestation.identify(&socket));
        identified.map_err(|stranger| {
            self.context.counters.refused(None, STRANGER);
            self.log.not_heard(&stranger)
        })
    }

    fn authorise(&self, peer: &Peer) -> Result<Deliverable, Refusal> {
        let active = self.context.config.get();
        if let Some(error) = &active.error {
            return Err(Refusal::Unconfigured(error.clone()));
        }
        active.settings.policy.judge(&peer.claim.unit, &peer.claim.credential).map_err(Refusal::Denied)
    }

    /// The answer, if it is available without waiting.
    fn look_up(&self, Request { job, form, .. }: &Request) -> Option<Result<Assembled, Refusal>> {
        if *form == Form::Sealed {
            return None; // another thread must look at the key first, whose disk may hang
        }
        assemble::look_up(&self.context.broker, job).known()
    }

    /// Waits for what is missing to send an available value, or for the value, then answers.
    async fn answer_later(self: Arc<Self>, connection: Connection, mut request: Request, lack: Option<Lack>) {
        let mut taken = None;
        let result = loop {
            let got = tokio::select! {
                biased;
                result = self.wait_for_all(&request, lack, &mut taken) => result,
                // this frees its place, because the peer does not read an answer
                () = gone(&connection) => return,
                () = self.stopped() => Err(Refusal::Stopping),
            };
            // the configuration may have changed during the wait; the current one decides
            match self.authorise(&request.peer) {
                Ok(what) if what == request.job.what => break got,
                Ok(what) => request.job.what = what,
                Err(refusal) => break Err(refusal),
            }
        };
        self.answer(connection, request, result, taken);
    }

    async fn wait_for_all(
        &self,
        request: &Request,
        lack: Option<Lack>,
        taken: &mut Option<Taken>,
    ) -> Result<Assembled, Refusal> {
        match lack {
            Some(Lack::Memory { size }) if taken.is_none() => {
                // one that has waited for a slot may be beyond its deadline
                let until = request.deadline().max(Instant::now() + PATIENT_FOR);
                let wait = timeout_at(until, self.send_budget.wait(size)).await;
                *taken = Some(wait.map_err(|_elapsed| Refusal::Crowded { size })?);
            }
            Some(Lack::Slot) => {
                let mut slot = std::pin::pin!(self.pace.wait(request.peer.process));
                if timeout_at(request.deadline(), &mut slot).await.is_err() {
                    self.context.counters.waiting();
                    self.log.waiting_for_decryption(asked(request));
                    slot.await;
                }
            }
            Some(Lack::Memory { .. }) | None => {}
        }
        if lack.is_some() && request.form == Form::Sealed {
            self.wait_for_key(request).await;
        }
        if lack.is_some()
            && let Some(result) = assemble::look_up(&self.context.broker, &request.job).known()
        {
            return result;
        }
        self.wait(request).await
    }

    /// Waits for the value, and at the same time for the key that encrypts it.
    async fn wait(&self, request: &Request) -> Result<Assembled, Refusal> {
        let value = self.wait_for_value(request);
        if request.form == Form::Plain {
            return value.await;
        }
        let key = async {
            self.wait_for_key(request).await;
            Ok(())
        };
        tokio::try_join!(value, key).map(|(value, ())| value)
    }

    async fn wait_for_value(&self, request: &Request) -> Result<Assembled, Refusal> {
        let broker = &self.context.broker;
        let mut work = std::pin::pin!(assemble::get_since(broker, &request.job, request.began));
        if let Ok(result) = timeout(PATIENT_FOR, &mut work).await {
            return result;
        }
        self.context.counters.waiting();
        if let LookUp::Pending(missing) = assemble::look_up(broker, &request.job) {
            let cause = broker.last_failure(&missing.wanted.source);
            self.log.waiting(asked(request), &missing.wanted, cause.as_ref(), missing.has_older);
        }
        work.await
    }

    /// Waits within the deadline until values can be encrypted, or it is known that they cannot. Encryption
    /// then returns the reason.
    async fn wait_for_key(&self, request: &Request) {
        let sealer = &self.context.sealer;
        let mut settled = std::pin::pin!(sealer.settled());
        let patient = (Instant::now() + PATIENT_FOR).min(request.deadline());
        if timeout_at(patient, &mut settled).await.is_err() && Instant::now() < request.deadline() {
            self.context.counters.waiting();
            self.log.waiting_for_key(asked(request), &sealer.not_settled());
            let _ = timeout_at(request.deadline(), settled).await;
        }
    }

    /// Encrypts and sends a value, or refuses the request. Waits if something is missing to send the value.
    fn answer(
        self: &Arc<Self>,
        connection: Connection,
        request: Request,
        result: Result<Assembled, Refusal>,
        taken: Option<Taken>,
    ) {
        let Request { peer, job, form, .. } = &request;
        let (context, asker) = (&self.context, (peer.process, &peer.claim));
        let fit = result.and_then(|it| context.fit(&context.unit_totals, asker, it, &job.what, *form));
        let Assembled { value, stale, parts } = match fit {
            Ok(assembled) => assembled,
            Err(refusal) => return self.refuse(connection, peer, Some(&job.what), job.arrived, &refusal),
        };
        let size = value.len();
        let later = |connection, request, lack| {
            drop(tokio::spawn(Arc::clone(self).answer_later(connection, request, Some(lack))));
        };
        if *form == Form::Sealed && !self.pace.try_enter(peer.process) {
            return later(connection, request, Lack::Slot);
        }
        let Some(taken) = self.send_budget.take(size, taken) else {
            return later(connection, request, Lack::Memory { size });
        };
        if !stale.is_empty() {
            context.counters.stale();
        }
        for (wanted, cause) in &stale {
            self.log.stale(asked(&request), wanted, cause);
        }
        match connection.answer_at_once(&value) {
            Ok(delivery) => self.delivered(&request, delivery, &parts, None),
            Err((connection, sent)) => {
                let handler = Arc::clone(self);
                tokio::spawn(async move {
                    let delivery = connection.answer_rest(value, sent).await;
                    drop(taken);
                    handler.delivered(&request, delivery, &parts, Some(size));
                });
            }
        }
    }

    /// Counts and logs the outcome of an answer. `size` is that of a long value, which may have arrived in
    /// part.
    fn delivered(&self, request: &Request, delivery: Delivery, parts: &[Part], size: Option<usize>) {
        let claim = &request.peer.claim;
        match (delivery, size) {
            (Delivery::Whole, _) => {
                tracing::debug!("credential {} for {}: served", claim.credential, claim.unit);
                self.context.restarts.delivered(&claim.unit, parts);
                self.granted(request);
            }
            (Delivery::HungUp { sent }, size) => {
                tracing::debug!(
                    "credential {} for {}: the client closed the connection",
                    claim.credential,
                    claim.unit
                );
                if let Some(size) = size {
                    self.log.hung_up(asked(request), sent, size);
                }
            }
        }
    }

    /// Counts a grant; logs it only if the configuration requires that.
    fn granted(&self, request: &Request) {
        let (context, what) = (&self.context, &request.job.what);
        if request.form == Form::Sealed {
            context.recovery.answered_sealed(&request.peer);
        }
        context.counters.answered(what.label(), request.job.arrived);
        if context.config.get().settings.audit == Audit::All {
            self.log.granted(asked(request), what.references());
        }
    }

    pub(super) fn refuse(
        &self,
        connection: Connection,
        peer: &Peer,
        what: Option<&Deliverable>,
        arrived: BootTime,
        refusal: &Refusal,
    ) {
        let secret = what.map(Deliverable::label).or_else(|| refusal.secret());
        self.context.counters.refused(secret, refusal.kind());
        self.context.recovery.note(&peer.claim, refusal);
        let active = self.context.config.get();
        let named = || active.secret(refusal.secret()?).map(|secret| secret.wanted.reference.to_string());
        let reference = refusal.reference().map(ToString::to_string);
        let reference = reference.or_else(|| what.map(Deliverable::references)).or_else(named);
        let reason = self.log.refused(Asked { peer, secret, arrived }, refusal, reference);
        connection.refuse(&reason);
    }
}

fn asked(Request { peer, job, .. }: &Request) -> Asked<'_> {
    Asked { peer, secret: Some(job.what.label()), arrived: job.arrived }
}

/// Waits until the peer has hung up. Checks once a second, because nothing needs to know it sooner.
pub(super) async fn gone(connection: &Connection) {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        look.tick().await;
        if connection.hung_up() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
