//! Assembles what is served or published: a single value, or a template filled in with several values that
//! one process requests.
//!
//! All parts are requested at the same time, each with its own deadline. The first failure ends the assembly,
//! so a template is never filled in partly.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::broker::{self, Broker, Order, Ready};
use crate::domain::policy::Deliverable;
use crate::domain::secret::{SecretValue, Wanted};
use crate::domain::template::{Filling, Unfit};
use crate::host::clock::BootTime;
use crate::ipc::Failure;
use crate::provider::base::asker::Asker;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;
use crate::provider::store::Digest;

/// What to assemble, and for whom.
#[derive(Debug, Clone)]
pub struct Job {
    /// The secret or template.
    pub what: Deliverable,
    /// The process that asks. All values that it receives from one item come from one generation of the item.
    pub process: ProcessId,
    /// When the request arrived.
    pub arrived: BootTime,
    /// On whose behalf it is assembled.
    pub asker: Asker,
}

/// The result.
#[derive(Debug)]
pub struct Assembled {
    /// The complete value.
    pub value: SecretValue,
    /// The parts that are older than allowed, with the reason.
    pub stale: Vec<(Arc<Wanted>, Failure)>,
    /// The parts.
    pub parts: Vec<Part>,
}

/// A part of the result, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its identity; see [`Wanted::identity`].
    pub name: String,
    /// The digest of its value.
    pub digest: Option<Digest>,
    /// The version of its item.
    pub version: u64,
}

impl Job {
    fn order(&self, wanted: &Arc<Wanted>) -> Order {
        let (process, arrived, asker) = (self.process, self.arrived, self.asker.clone());
        Order { wanted: Arc::clone(wanted), process, arrived, asker }
    }

    /// How long the unit may be kept waiting for it.
    pub fn patience(&self) -> Duration {
        self.what.parts().iter().map(|wanted| wanted.deadline).min().unwrap_or_default()
    }
}

/// The result of a look-up without waiting.
#[derive(Debug)]
pub enum LookUp {
    /// The complete value, or why it cannot be assembled.
    Known(Result<Assembled, Refusal>),
    /// The first part that must be waited for.
    Pending(PendingPart),
}

/// A part that must be waited for.
#[derive(Debug)]
pub struct PendingPart {
    /// The part.
    pub wanted: Arc<Wanted>,
    /// Whether an older value is served if its source does not answer.
    pub has_older: bool,
}

impl LookUp {
    /// The answer, if it is known.
    pub fn known(self) -> Option<Result<Assembled, Refusal>> {
        match self {
            Self::Known(result) => Some(result),
            Self::Pending(_) => None,
        }
    }
}

/// Looks up all parts, and assembles them if none must be waited for.
pub fn look_up(broker: &Broker, job: &Job) -> LookUp {
    let look_up = |wanted: &Arc<Wanted>| match broker.look_up(&job.order(wanted)) {
        broker::LookUp::Ready(ready) => Ok(ready),
        broker::LookUp::Pending(pending) => {
            Err(PendingPart { wanted: Arc::clone(wanted), has_older: pending.older.is_some() })
        }
    };
    let result = match &job.what {
        Deliverable::Secret(wanted) => look_up(wanted).map(|ready| one(wanted, ready)),
        Deliverable::Template(filling) => {
            let ready: Result<Vec<_>, _> = filling.parts.iter().map(look_up).collect();
            ready.map(|ready| filled(filling, ready))
        }
    };
    result.map_or_else(LookUp::Pending, LookUp::Known)
}

/// Assembles the value within the deadline of each part.
pub async fn get(broker: &Arc<Broker>, job: &Job) -> Result<Assembled, Refusal> {
    get_since(broker, job, Instant::now()).await
}

/// Like [`get`], but with deadlines that count from `began`, which may be in the past.
pub async fn get_since(broker: &Arc<Broker>, job: &Job, began: Instant) -> Result<Assembled, Refusal> {
    let filling = match &job.what {
        Deliverable::Secret(wanted) => {
            let ready = broker.get_by(&job.order(wanted), began + wanted.deadline).await;
            return one(wanted, ready.map_err(|failure| failed(wanted, failure))?);
        }
        Deliverable::Template(filling) => filling,
    };
    let mut parts = JoinSet::new();
    for (index, wanted) in filling.parts.iter().enumerate() {
        let (broker, order, deadline) = (Arc::clone(broker), job.order(wanted), began + wanted.deadline);
        parts.spawn(async move { (index, broker.get_by(&order, deadline).await) });
    }
    let mut ready: Vec<_> = filling.parts.iter().map(|_| None).collect();
    while let Some(ended) = parts.join_next().await {
        let Ok((index, got)) = ended else { return Err(Refusal::Stopping) };
        ready[index] = Some(got.map_err(|failure| within(filling, failed(&filling.parts[index], failure)))?);
    }
    filled(filling, ready.into_iter().flatten().collect())
}

fn one(wanted: &Arc<Wanted>, mut ready: Ready) -> Result<Assembled, Refusal> {
    let stale = ready.stale.take().map(|failure| (Arc::clone(wanted), failure));
    let (value, field) = (read(wanted, &ready)?, &wanted.reference.field);
    let (digest, version) = (ready.snapshot.digest(field), ready.snapshot.version_of(field));
    let parts = vec![Part { name: wanted.identity(), digest, version }];
    Ok(Assembled { value, stale: stale.into_iter().collect(), parts })
}

fn filled(filling: &Arc<Filling>, ready: Vec<Ready>) -> Result<Assembled, Refusal> {
    let (mut stale, mut parts) = (Vec::new(), Vec::with_capacity(ready.len()));
    let mut values = Vec::with_capacity(ready.len());
    for (wanted, part) in filling.parts.iter().zip(ready) {
        let part = one(wanted, part).map_err(|refusal| within(filling, refusal))?;
        stale.extend(part.stale);
        parts.extend(part.parts);
        values.push(part.value);
    }
    let value = filling.template.fill(&values).map_err(|Unfit { part, why }| {
        let reference = filling.parts[part].reference.clone();
        within(filling, Refusal::Unfit { reference, why })
    })?;
    Ok(Assembled { value, stale, parts })
}

fn read(wanted: &Wanted, ready: &Ready) -> Result<SecretValue, Refusal> {
    let value = ready.read()?;
    let value = if wanted.trim { value.trimmed() } else { value };
    if value.is_empty() && !wanted.allow_empty {
        return Err(Refusal::Empty(wanted.reference.clone()));
    }
    Ok(value)
}

fn failed(wanted: &Wanted, failure: Failure) -> Refusal {
    Refusal::Failed { reference: wanted.reference.clone(), failure }
}

fn within(filling: &Filling, refusal: Refusal) -> Refusal {
    Refusal::Part { template: filling.name.clone(), refusal: Box::new(refusal) }
}
