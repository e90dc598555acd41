//! Previews what a unit would receive if it asked now, from the store and without fetching.

use std::sync::Arc;

use crate::domain::name::CredentialId;
use crate::domain::policy::Deliverable;
use crate::domain::secret::Wanted;
use crate::domain::template::{Filling, Unfit};
use crate::host::clock::BootTime;
use crate::ipc::Class;
use crate::provider::base::asker::Asker;
use crate::provider::base::limits::Form;
use crate::provider::base::process_id::ProcessId;
use crate::provider::fetch::broker::{Broker, LookUp, Order};
use crate::provider::observe::secret_status::{Condition, SecretState, Unusable};

/// The expected answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The status. A template has the status of its worst part. It is failing if it cannot be filled in or is
    /// too large.
    pub state: SecretState,
    /// The size of the value in bytes, if known.
    pub size: Option<usize>,
    /// Why it would be refused.
    pub refusal: Option<Why>,
}

/// Why a request would be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The type of the refusal.
    pub kind: Kind,
    /// Cause and remedy.
    pub text: String,
}

/// The types of refusals that can be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The last look-up failed.
    Failed(Class),
    /// It is empty.
    Empty,
    /// It is too large.
    TooLarge,
    /// A value cannot be inserted at its place in the template.
    Unfit,
}

/// Previews a request under one of these IDs: the one with the smallest limit for the value.
pub fn of(broker: &Broker, what: &Deliverable, form: Form, ids: &[CredentialId]) -> Preview {
    match what {
        Deliverable::Secret(wanted) => of_secret(&broker.condition_for(wanted, ids), wanted, form),
        Deliverable::Template(filling) => {
            let parts: Vec<Preview> = filling
                .parts
                .iter()
                .map(|wanted| of_secret(&broker.condition(wanted), wanted, Form::Plain))
                .collect();
            let filled =
                parts.iter().all(|part| part.size.is_some()).then(|| fill(broker, filling)).flatten();
            of_template(filling, &parts, filled, form, ids)
        }
    }
}

fn of_secret(condition: &Condition, wanted: &Wanted, form: Form) -> Preview {
    let of_form = condition.sealed.filter(|_| form == Form::Sealed);
    let unusable = condition.unusable.or(of_form);
    // a failure of the source does not matter if a value is available
    let failed =
        condition.error.as_ref().filter(|_| condition.state == SecretState::Failing && unusable.is_none());
    let refusal = match (unusable, failed) {
        (Some(unusable), _) => Some(unusable.why(&wanted.reference.to_string())),
        (None, Some(failure)) => {
            Some(Why { kind: Kind::Failed(failure.class), text: format!("{}: {failure}", wanted.reference) })
        }
        (None, None) => None,
    };
    let state = if unusable.is_some() && condition.state != SecretState::Held {
        SecretState::Failing
    } else {
        condition.state
    };
    Preview { state, size: condition.size, refusal }
}

/// `filled` is the size of the filled-in template, or why it cannot be filled in; `None` if a part is missing
/// or unreadable.
fn of_template(
    filling: &Filling,
    parts: &[Preview],
    filled: Option<Result<usize, Unfit>>,
    form: Form,
    ids: &[CredentialId],
) -> Preview {
    let within = |why: Why| Why { text: format!("template {}: {}", filling.name, why.text), ..why };
    let size = filled.as_ref().and_then(|filled| filled.as_ref().ok()).copied();
    let of_whole = match filled {
        Some(Err(Unfit { part, why })) => Some(Why {
            kind: Kind::Unfit,
            text: format!(
                "{}: the value can't be used in this template: {why}; give it to the unit as a separate credential, which can contain any bytes",
                filling.parts[part].reference
            ),
        }),
        Some(Ok(size)) => too_large(size, form, ids).map(|unusable| unusable.why("the whole")),
        None => None,
    };
    let refusal = parts.iter().find_map(|part| part.refusal.clone()).or(of_whole).map(within);
    let state = match refusal {
        Some(_) => SecretState::Failing,
        None => parts
            .iter()
            .map(|part| part.state)
            .max_by_key(|state| badness(*state))
            .unwrap_or(SecretState::Fresh),
    };
    Preview { state, size, refusal }
}

/// What is wrong with a template's result of this size; `None` if no unit requests it. An empty result is
/// allowed, because the author of the template chose it.
pub fn too_large(size: usize, form: Form, ids: &[CredentialId]) -> Option<Unusable> {
    let longest = ids.iter().max_by_key(|id| id.as_str().len())?;
    Unusable::of(size, true, form, longest)
}

fn badness(state: SecretState) -> u8 {
    match state {
        SecretState::Fresh => 0,
        SecretState::Held => 1,
        SecretState::Stale => 2,
        SecretState::NeverFetched => 3,
        SecretState::Failing => 4,
    }
}

impl Unusable {
    fn why(self, what: &str) -> Why {
        let kind = match self {
            Self::Empty => Kind::Empty,
            Self::TooLarge { .. } => Kind::TooLarge,
        };
        Why { kind, text: format!("{what}: {self}") }
    }
}

fn fill(broker: &Broker, filling: &Arc<Filling>) -> Option<Result<usize, Unfit>> {
    let process = ProcessId::nobody();
    let value = |wanted: &Arc<Wanted>| {
        let (arrived, asker) = (BootTime::now(), Asker::Onecred);
        let order = Order { wanted: Arc::clone(wanted), process, arrived, asker };
        let ready = match broker.look_up(&order) {
            LookUp::Ready(ready) => ready,
            LookUp::Pending(pending) => pending.older?,
        };
        let value = ready.read().ok()?;
        Some(if wanted.trim { value.trimmed() } else { value })
    };
    let values: Option<Vec<_>> = filling.parts.iter().map(value).collect();
    broker.forget(process);
    Some(filling.template.fill(&values?).map(|whole| whole.len()))
}

#[cfg(test)]
mod tests;
