//! Puts together what is served or published: one value, or a template filled in with several, all asked for by one process.
//!
//! All parts are asked for at once, each with its own deadline. The first one that can't be had ends it: nothing is ever half filled.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::broker::{Broker, Order, Ready};
use crate::domain::policy::Deliverable;
use crate::domain::secret::{SecretValue, Wanted};
use crate::domain::template::{Filling, Unfit};
use crate::host::clock::BootTime;
use crate::ipc::Failure;
use crate::provider::base::process_id::ProcessId;
use crate::provider::base::refusal::Refusal;

/// What is to be put together, and for whom.
#[derive(Debug, Clone)]
pub struct Job {
    /// What it is.
    pub what: Deliverable,
    /// The process that asks: its parts come from one generation of each item, as all else that it asks for.
    pub process: ProcessId,
    /// When it came.
    pub arrived: BootTime,
}

/// What was put together.
#[derive(Debug)]
pub struct Assembled {
    /// The whole value.
    pub value: SecretValue,
    /// The parts that are older than they should be, with the reason.
    pub stale: Vec<(Arc<Wanted>, Failure)>,
}

impl Job {
    fn order(&self, wanted: &Arc<Wanted>) -> Order {
        Order { wanted: Arc::clone(wanted), process: self.process, arrived: self.arrived }
    }

    /// How long the unit may be kept waiting for it.
    pub fn patience(&self) -> Duration {
        self.what.parts().iter().map(|wanted| wanted.deadline).min().unwrap_or_default()
    }

    /// The part that is waited for: the first that is not there.
    pub fn missing(&self, broker: &Broker) -> Option<&Arc<Wanted>> {
        self.what.parts().iter().find(|wanted| broker.at_once(&self.order(wanted)).is_none())
    }
}

/// Puts it together without a wait, if that can be: where every part is at hand.
pub fn at_once(broker: &Broker, job: &Job) -> Option<Result<Assembled, Refusal>> {
    match &job.what {
        Deliverable::Secret(wanted) => Some(one(wanted, broker.at_once(&job.order(wanted))?)),
        Deliverable::Template(filling) => {
            let ready = filling.parts.iter().map(|wanted| broker.at_once(&job.order(wanted)));
            Some(filled(filling, ready.collect::<Option<_>>()?))
        }
    }
}

/// Puts it together, within the deadline of each part.
pub async fn get(broker: &Arc<Broker>, job: &Job) -> Result<Assembled, Refusal> {
    let filling = match &job.what {
        Deliverable::Secret(wanted) => {
            let ready = broker.get(&job.order(wanted)).await;
            return one(wanted, ready.map_err(|failure| failed(wanted, failure))?);
        }
        Deliverable::Template(filling) => filling,
    };
    let mut parts = JoinSet::new();
    for (index, wanted) in filling.parts.iter().enumerate() {
        let (broker, order) = (Arc::clone(broker), job.order(wanted));
        parts.spawn(async move { (index, broker.get(&order).await) });
    }
    let mut ready: Vec<_> = filling.parts.iter().map(|_| None).collect();
    while let Some(ended) = parts.join_next().await {
        let Ok((index, got)) = ended else { return Err(Refusal::Stopping) };
        ready[index] = Some(got.map_err(|failure| within(filling, failed(&filling.parts[index], failure)))?);
    }
    filled(filling, ready.into_iter().flatten().collect())
}

/// Puts together what goes by a name in the configuration, for an asker of its own or one that is named.
pub async fn by_name(broker: &Arc<Broker>, name: &str, process: ProcessId) -> Result<Assembled, Refusal> {
    let what = broker.active().settings.policy.by_name(name).cloned();
    let what = what.ok_or_else(|| Refusal::NoSuchName(name.to_owned()))?;
    get(broker, &Job { what, process, arrived: BootTime::now() }).await
}

fn one(wanted: &Arc<Wanted>, mut ready: Ready) -> Result<Assembled, Refusal> {
    let stale = ready.stale.take().map(|failure| (Arc::clone(wanted), failure));
    Ok(Assembled { value: read(wanted, &ready)?, stale: stale.into_iter().collect() })
}

fn filled(filling: &Arc<Filling>, ready: Vec<Ready>) -> Result<Assembled, Refusal> {
    let mut stale = Vec::new();
    let mut values = Vec::with_capacity(ready.len());
    for (wanted, part) in filling.parts.iter().zip(ready) {
        let part = one(wanted, part).map_err(|refusal| within(filling, refusal))?;
        stale.extend(part.stale);
        values.push(part.value);
    }
    let value = filling.template.fill(&values).map_err(|Unfit { part, why }| {
        let reference = filling.parts[part].reference.clone();
        within(filling, Refusal::Unfit { reference, why })
    })?;
    Ok(Assembled { value, stale })
}

fn read(wanted: &Wanted, ready: &Ready) -> Result<SecretValue, Refusal> {
    let value = ready.read()?;
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
