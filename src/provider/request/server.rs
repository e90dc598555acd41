//! The path of a request: accept, attest, judge, look, answer or refuse. What can be answered at once is, without another task.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::reply::{Connection, Delivery, Place};
use super::sealer::{Form, Sealer};
use crate::config::{Audit, Paths};
use crate::domain::name::Claim;
use crate::domain::policy::Deliverable;
use crate::host::clock::BootTime;
use crate::host::sys;
use crate::provider::base::files::Standing;
use crate::provider::base::limits;
use crate::provider::base::peer::Peer;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::base::seal_error::Unsealed;
use crate::provider::base::unit_totals::UnitTotals;
use crate::provider::consumers::recovery::Recovery;
use crate::provider::consumers::restarts::{Due, Restarts};
use crate::provider::fetch::assemble::{self, Assembled, Job};
use crate::provider::fetch::broker::Broker;
use crate::provider::fetch::source_status::Statuses;
use crate::provider::observe::counters::{STRANGER, Tally};
use crate::provider::publish::{Handle, Publisher};
use crate::provider::request::attestation::{Attestation, Stranger};
use crate::provider::request::request_log::{Asked, Report};
use crate::provider::request::sealed_pace::SealedPace;
use crate::provider::request::send_budget::{Room, Taken};
use crate::provider::store::Kind;

/// After how long a wait is told of.
pub(crate) const PATIENT_FOR: Duration = Duration::from_secs(2);
/// The most connections that are accepted before others get a turn.
const AT_A_TIME: usize = 64;

/// Serves credentials.
pub struct Server {
    /// Gets values.
    pub broker: Arc<Broker>,
    /// Says what happened.
    pub report: Report,
    /// Publishes files.
    pub publisher: Arc<Publisher>,
    /// Tells units of changes.
    pub restarts: Restarts,
    /// Starts units again that were refused for a cause that has passed.
    pub recovery: Arc<Recovery>,
    /// Counts it.
    pub tally: Arc<Tally>,
    /// How the sources are.
    pub statuses: Statuses,
    /// What each process setting up a unit's credentials was sent.
    pub unit_totals: UnitTotals,
    /// Where the configuration's files are.
    pub config: Paths,
    attestation: Attestation,
    sealer: Sealer,
    permits: Arc<Semaphore>,
    /// As many, for connections that wait for their value.
    waiting: Arc<Semaphore>,
    most: u32,
    room: Room,
    pub(super) pace: SealedPace,
    /// Becomes true when those that still wait have to be refused.
    pub(crate) stop: watch::Sender<bool>,
}

impl Server {
    /// A server that has at most this many connections open at once.
    pub fn new(
        broker: Arc<Broker>,
        attestation: Attestation,
        sealer: Sealer,
        connections: usize,
        config: Paths,
    ) -> Self {
        let most = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        let permits = Arc::new(Semaphore::new(most as usize));
        let kind = if attestation.trusting { Kind::Anything } else { Kind::Memory };
        Self {
            publisher: Arc::new(Publisher::new(Arc::clone(&broker), kind)),
            restarts: Restarts::new(broker.store()),
            recovery: Arc::new(Recovery::new(broker.store())),
            broker,
            report: Report::default(),
            tally: Arc::default(),
            statuses: Statuses::default(),
            unit_totals: UnitTotals::default(),
            config,
            attestation,
            sealer,
            permits,
            waiting: Arc::new(Semaphore::new(most as usize)),
            most,
            room: Room::default(),
            pace: SealedPace::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Takes connections for as long as it is polled, and answers them in the form of this socket.
    pub async fn accept(self: &Arc<Self>, listener: OwnedFd, form: Form) -> std::io::Result<()> {
        let listener = sys::register(listener)?;
        self.accept_first(&listener, form);
        loop {
            let mut permit =
                Some(Arc::clone(&self.permits).acquire_owned().await.map_err(std::io::Error::other)?);
            let mut guard = listener.readable().await?;
            for _ in 0..AT_A_TIME {
                // none left: the rest waits in the listen queue, the one state that fails safe by itself
                let Some(permit) =
                    permit.take().or_else(|| Arc::clone(&self.permits).try_acquire_owned().ok())
                else {
                    break;
                };
                match guard.try_io(|listener| sys::accept(listener.get_ref())) {
                    Ok(Ok(socket)) => self.serve(socket, permit, form),
                    Ok(Err(error)) => sys::after_failed_accept(error).await?,
                    Err(_would_block) => break,
                }
            }
            drop(guard);
            tokio::task::yield_now().await;
        }
    }

    /// Answers those whose connections started the provider, before the event loop and other tasks have their turn. What fails here is seen again.
    fn accept_first(self: &Arc<Self>, listener: &AsyncFd<OwnedFd>, form: Form) {
        for _ in 0..AT_A_TIME {
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return };
            let Ok(socket) = sys::accept(listener.get_ref()) else { return };
            self.serve(socket, permit, form);
        }
    }

    /// How the active configuration relates to the files, which are read for this in another thread.
    pub async fn standing(&self) -> Standing {
        let (active, paths) = (self.broker.active(), self.config.clone());
        let looked = tokio::task::spawn_blocking(move || Standing::of(&active, &paths)).await;
        looked.unwrap_or_else(|error| Standing::Rejected(format!("the files could not be read: {error}")))
    }

    /// Waits until every connection is closed, or has taken a whole refusal.
    pub async fn idle(&self) {
        let _ = self.permits.acquire_many(self.most).await;
    }

    /// Waits until every connection has its value or is being refused, which the keeper can finish.
    pub async fn answered(&self) {
        let _ = self.waiting.acquire_many(self.most).await;
    }

    /// Refuses all that still wait for their value.
    pub fn refuse_waiting(&self) {
        self.stop.send_replace(true);
    }

    fn serve(self: &Arc<Self>, socket: OwnedFd, permit: OwnedSemaphorePermit, form: Form) {
        let arrived = BootTime::now();
        let place = Place::new(permit, Arc::clone(&self.waiting).try_acquire_owned().ok());
        let connection = Connection::new(socket, place);
        let peer = match self.attest(&connection) {
            Ok(peer) => peer,
            Err(reason) => return connection.refuse(&reason),
        };
        self.pace.asks_again(peer.process);
        if let Some(handle) = Handle::of(&peer.claim).filter(|_| form == Form::Plain) {
            return self.publish_for(connection, peer, handle, arrived);
        }
        let what = match self.judge(&peer) {
            Ok(what) => what,
            Err(refusal) => return self.refuse(connection, &peer, None, arrived, &refusal),
        };
        let job = Job { what, process: peer.process, arrived };
        let now = form == Form::Plain || self.sealer.is_settled();
        match now.then(|| assemble::at_once(&self.broker, &job)).flatten() {
            Some(result) => self.finish(connection, &peer, &job, form, result, None),
            None => {
                let server = Arc::clone(self);
                tokio::spawn(async move { server.serve_later(connection, peer, job, form, None).await });
            }
        }
    }

    fn attest(&self, connection: &Connection) -> Result<Peer, String> {
        let identified =
            connection.socket().ok_or(Stranger::Gone).and_then(|socket| self.attestation.identify(&socket));
        identified.map_err(|stranger| {
            self.tally.refused(None, STRANGER);
            self.report.not_heard(&stranger)
        })
    }

    fn judge(&self, peer: &Peer) -> Result<Deliverable, Refusal> {
        let active = self.broker.active();
        if let Some(error) = &active.error {
            return Err(Refusal::Unconfigured(error.clone()));
        }
        active.settings.policy.judge(&peer.claim.unit, &peer.claim.credential).map_err(Refusal::Denied)
    }

    /// Serves what takes a while. It first waits for what is lacking to send a value that was there already.
    async fn serve_later(
        self: Arc<Self>,
        connection: Connection,
        peer: Peer,
        job: Job,
        form: Form,
        lack: Option<Lack>,
    ) {
        let mut stop = self.stop.subscribe();
        let (mut job, mut room) = (job, None);
        let result = loop {
            let got = async {
                let left = job.patience().saturating_sub(job.arrived.age(BootTime::now()));
                match lack {
                    Some(Lack::Memory { size }) if room.is_none() => {
                        let wait = tokio::time::timeout(left, self.room.wait(size)).await;
                        room = Some(wait.map_err(|_elapsed| Refusal::Crowded { size })?);
                    }
                    Some(Lack::Slot) => self.pace.wait(peer.process, left).await,
                    Some(Lack::Memory { .. }) | None => {}
                }
                if lack.is_some()
                    && let Some(result) = assemble::at_once(&self.broker, &job)
                {
                    return result;
                }
                self.wait(&peer, &job, form).await
            };
            let got = tokio::select! {
                biased;
                result = got => result,
                () = gone(&connection) => return, // nobody is told, and its place is free
                _ = stop.wait_for(|stop| *stop) => Err(Refusal::Stopping),
            };
            // the configuration may have changed meanwhile: what counts is what is allowed now
            match self.judge(&peer) {
                Ok(what) if what == job.what => break got,
                Ok(what) => job = Job { what, ..job },
                Err(refusal) => break Err(refusal),
            }
        };
        self.finish(connection, &peer, &job, form, result, room);
    }

    async fn wait(&self, peer: &Peer, job: &Job, form: Form) -> Result<Assembled, Refusal> {
        if form == Form::Sealed {
            self.wait_for_key(peer, job).await;
        }
        let mut work = std::pin::pin!(assemble::get(&self.broker, job));
        if let Ok(result) = tokio::time::timeout(PATIENT_FOR, &mut work).await {
            return result;
        }
        self.tally.waiting();
        if let Some(wanted) = job.missing(&self.broker) {
            let cause = self.broker.last_failure(&wanted.source);
            self.report.waiting(asked(peer, job), wanted, cause.as_ref(), self.broker.has(wanted));
        }
        work.await
    }

    /// Why units are refused every secret at the sealed socket.
    pub fn sealing_error(&self) -> Option<Unsealed> {
        self.sealer.error()
    }

    /// Waits until values can be sealed, or it is known that they can't be, within the deadline. Sealing then says why not.
    async fn wait_for_key(&self, peer: &Peer, job: &Job) {
        let mut settled = std::pin::pin!(self.sealer.settled());
        if tokio::time::timeout(PATIENT_FOR, &mut settled).await.is_err() {
            self.tally.waiting();
            self.report.waiting_for_key(asked(peer, job), &self.sealer.not_settled());
            let _ = tokio::time::timeout(job.patience().saturating_sub(PATIENT_FOR), settled).await;
        }
    }

    fn finish(
        self: &Arc<Self>,
        connection: Connection,
        peer: &Peer,
        job: &Job,
        form: Form,
        result: Result<Assembled, Refusal>,
        room: Option<Taken>,
    ) {
        let fit = result.and_then(|assembled| self.fit(assembled, peer, job, form));
        let Assembled { value, stale } = match fit {
            Ok(assembled) => assembled,
            Err(refusal) => return self.refuse(connection, peer, Some(&job.what), job.arrived, &refusal),
        };
        let later = |connection, lack| {
            let (server, peer, job) = (Arc::clone(self), peer.clone(), job.clone());
            tokio::spawn(async move { server.serve_later(connection, peer, job, form, Some(lack)).await });
        };
        if form == Form::Sealed && !self.pace.try_enter(peer.process) {
            return later(connection, Lack::Slot);
        }
        let Some(room) = self.room.take(value.len(), room) else {
            return later(connection, Lack::Memory { size: value.len() });
        };
        if !stale.is_empty() {
            self.tally.stale();
        }
        for (wanted, cause) in &stale {
            self.report.stale(asked(peer, job), wanted, cause);
        }
        match connection.answer_at_once(&value) {
            Ok(delivery) => {
                if let Delivery::Whole = delivery {
                    self.granted(peer, job, form);
                }
                log(peer, delivery);
            }
            Err((connection, sent)) => {
                let (server, peer, len) = (Arc::clone(self), peer.clone(), value.len());
                let job = job.clone();
                tokio::spawn(async move {
                    let delivery = connection.answer_rest(value, sent).await;
                    drop(room);
                    log(&peer, delivery);
                    match delivery {
                        Delivery::Whole => server.granted(&peer, &job, form),
                        Delivery::HungUp { sent } => server.report.hung_up(asked(&peer, &job), sent, len),
                    }
                });
            }
        }
    }

    /// Grants are counted; each is a line only where the configuration wants that.
    fn granted(&self, peer: &Peer, job: &Job, form: Form) {
        if form == Form::Sealed {
            self.recovery.answered_sealed(peer);
        }
        self.tally.answered(job.what.label(), job.arrived);
        if self.broker.active().settings.audit == Audit::All {
            self.report.granted(asked(peer, job), job.what.references());
        }
    }

    /// A value as systemd can take it.
    fn fit(&self, it: Assembled, peer: &Peer, job: &Job, form: Form) -> Result<Assembled, Refusal> {
        let asker = (peer.process, &peer.claim);
        self.fit_beside(&self.unit_totals, asker, it, &job.what, form)
    }

    /// Restarts and reloads units when secrets change, for as long as it is polled.
    pub async fn tell_units(&self) {
        let fit = |totals: &UnitTotals, asker: (ProcessId, &Claim), value, what: &Deliverable, form| {
            self.fit_beside(totals, asker, value, what, form)
        };
        self.restarts.follow(&self.broker, &self.publisher, &fit).await;
    }

    /// Why what is due would be withheld, by what is in memory; empty where it would not be.
    pub async fn foresee(&self, due: &Due) -> zbus::Result<String> {
        let fit = |totals: &UnitTotals, asker: (ProcessId, &Claim), value, what: &Deliverable, form| {
            self.fit_beside(totals, asker, value, what, form)
        };
        self.restarts.foresee(&self.broker, &fit, due).await
    }

    /// The same, counted with what the same process was sent before.
    pub(crate) fn fit_beside(
        &self,
        totals: &UnitTotals,
        (process, claim): (ProcessId, &Claim),
        it: Assembled,
        what: &Deliverable,
        form: Form,
    ) -> Result<Assembled, Refusal> {
        let (size, id) = (it.value.len(), &claim.credential);
        let takes = limits::largest(form, id);
        let what = || match what {
            Deliverable::Secret(wanted) => wanted.reference.to_string(),
            Deliverable::Template(filling) => format!("template {}", filling.name),
        };
        if size > takes {
            return Err(Refusal::TooLarge { what: what(), size, takes });
        }
        // the plain size in either form: systemd counts what it decrypted
        let counted = totals.add(process, claim, size, BootTime::now());
        counted.map_err(|others| Refusal::TooLargeTogether { what: what(), size, others })?;
        match form {
            Form::Plain => Ok(it),
            Form::Sealed => {
                let value = self.sealer.seal(id, &it.value).map_err(Refusal::Unsealed)?;
                Ok(Assembled { value, ..it })
            }
        }
    }

    pub(crate) fn refuse(
        &self,
        connection: Connection,
        peer: &Peer,
        what: Option<&Deliverable>,
        arrived: BootTime,
        refusal: &Refusal,
    ) {
        let secret = what.map(Deliverable::label).or_else(|| refusal.secret());
        self.tally.refused(secret, refusal.kind());
        self.recovery.note(&peer.claim, refusal, &self.broker);
        let active = self.broker.active();
        let named = || active.secret(refusal.secret()?).map(|secret| secret.wanted.reference.to_string());
        let reference = refusal.reference().map(ToString::to_string);
        let reference = reference.or_else(|| what.map(Deliverable::references)).or_else(named);
        let reason = self.report.refused(Asked { peer, secret, arrived }, refusal, reference);
        connection.refuse(&reason);
    }
}

/// What is lacking to send a value that is there.
#[derive(Debug, Clone, Copy)]
enum Lack {
    /// Memory for a long value.
    Memory { size: usize },
    /// A slot for a sealed answer.
    Slot,
}

fn asked<'a>(peer: &'a Peer, job: &'a Job) -> Asked<'a> {
    Asked { peer, secret: Some(job.what.label()), arrived: job.arrived }
}

/// Waits until the peer has hung up. Looked at now and then: nobody is in a hurry to know.
pub(crate) async fn gone(connection: &Connection) {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        look.tick().await;
        if connection.hung_up() {
            return;
        }
    }
}

fn log(peer: &Peer, delivery: Delivery) {
    let claim = &peer.claim;
    match delivery {
        Delivery::Whole => tracing::debug!("credential {} for {}: served", claim.credential, claim.unit),
        Delivery::HungUp { .. } => {
            tracing::debug!("credential {} for {}: the caller hung up", claim.credential, claim.unit)
        }
    }
}
