//! Predicts what a unit would receive if it started now, by the same steps as a request: values are
//! assembled, then prepared for the socket and the unit.

use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::assemble::{self, Assembled, Job};
use super::broker::{Broker, Thoroughness};
use crate::domain::name::Claim;
use crate::domain::policy::Deliverable;
use crate::host::clock::BootTime;
use crate::ipc::Failure;
use crate::provider::base::asker::Asker;
use crate::provider::base::limits::Form;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::base::unit_totals::UnitTotals;

/// Prepares values for sockets.
pub trait Fit: Sync {
    /// Waits a little until it is known how values are prepared for a socket.
    fn ready(&self, form: Form) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Prepares a value for a socket, and counts it with what the same process received.
    fn fit(
        &self,
        totals: &UnitTotals,
        asker: (ProcessId, &Claim),
        it: Assembled,
        what: &Deliverable,
        form: Form,
    ) -> Result<Assembled, Refusal>;
}

/// A start: one process requests all credentials of the unit.
pub struct Start<'a> {
    /// Gets values.
    pub broker: &'a Arc<Broker>,
    /// Prepares them.
    pub fit: &'a dyn Fit,
    /// The process.
    pub process: ProcessId,
    /// What it received.
    pub totals: UnitTotals,
    /// On whose behalf values are looked up.
    pub asker: Asker,
}

/// The predicted answer.
#[derive(Debug, Default)]
pub struct Predicted {
    /// The value, with the reason if it is older than allowed, or a refusal. `None` if it is not known
    /// without a look-up.
    pub result: Option<Result<Option<Failure>, Refusal>>,
    /// The size of the value in bytes, as systemd counts it.
    pub size: Option<usize>,
}

impl<'a> Start<'a> {
    /// Begins a start. Call [`Broker::forget`] for its process at the end.
    pub fn new(broker: &'a Arc<Broker>, fit: &'a dyn Fit, asker: Asker) -> Self {
        Self { broker, fit, process: ProcessId::nobody(), totals: UnitTotals::default(), asker }
    }

    /// Answers one request. With `look_up`, missing values are first looked up once.
    pub async fn answer(&self, what: &Deliverable, claim: &Claim, form: Form, look_up: bool) -> Predicted {
        let (process, arrived, asker) = (self.process, BootTime::now(), self.asker.clone());
        let job = Job { what: what.clone(), process, arrived, asker };
        self.fit.ready(form).await;
        if let Some(answer) = self.at_once(&job, claim, form) {
            return answer;
        }
        if !look_up {
            return Predicted::default();
        }
        let failure = self::look_up(self.broker, what, &self.asker).await;
        let looked_up = self.at_once(&job, claim, form);
        looked_up.unwrap_or_else(|| Predicted { result: failure.map(Err), size: None })
    }

    fn at_once(&self, job: &Job, claim: &Claim, form: Form) -> Option<Predicted> {
        let result = assemble::look_up(self.broker, job).known()?;
        let size = result.as_ref().ok().map(|assembled| assembled.value.len());
        let fit = |value| self.fit.fit(&self.totals, (self.process, claim), value, &job.what, form);
        let stale = |it: Assembled| it.stale.into_iter().next().map(|(_, failure)| failure);
        Some(Predicted { result: Some(result.and_then(fit).map(stale)), size })
    }
}

/// Looks up all parts at the same time, each like a refresh. Returns the first failure.
pub async fn look_up(broker: &Arc<Broker>, what: &Deliverable, asker: &Asker) -> Option<Refusal> {
    let mut work = JoinSet::new();
    for (at, part) in what.parts().iter().enumerate() {
        let (broker, part, asker) = (Arc::clone(broker), Arc::clone(part), asker.clone());
        let asked = broker.ask(&part);
        work.spawn(async move { (at, broker.refresh(&part, Thoroughness::Versions, asked, &asker).await) });
    }
    let mut failures = Vec::new();
    while let Some(ended) = work.join_next().await {
        let Ok((at, result)) = ended else { return Some(Refusal::Stopping) };
        failures.extend(result.err().map(|failure| (at, failure)));
    }
    let (at, failure) = failures.into_iter().min_by_key(|(at, _)| *at)?;
    let refusal = Refusal::Failed { reference: what.parts()[at].reference.clone(), failure };
    Some(match what {
        Deliverable::Secret(_) => refusal,
        Deliverable::Template(filling) => {
            Refusal::Part { template: filling.name.clone(), refusal: Box::new(refusal) }
        }
    })
}
