//! Predicts onecred's answers by asking the provider, which knows its configuration, its store and the host
//! key.

use std::collections::{BTreeMap, HashMap};

use zbus::OwnedVariant;

use super::facts::{CredentialLine, LeadsTo, Machine, PredictedAnswer, Prediction, Unit};
use crate::cli::bus::{Fault, ManagerProxy};
use crate::domain::name::UnitName;

/// A request of a line to onecred.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineRequest {
    /// The credential's ID.
    pub(super) id: String,
    /// Whether it is made at the sealed socket.
    pub(super) sealed: bool,
}

impl LineRequest {
    /// The request of a line that leads to one of onecred's sockets.
    pub(super) fn of(line: &CredentialLine, machine: Machine) -> Self {
        Self { id: line.asked_id(machine), sealed: line.leads_to == LeadsTo::SealedSocket }
    }

    /// All requests that the start of a unit makes.
    pub(super) fn all(machine: Machine, unit: &Unit) -> Vec<Self> {
        unit.lines.iter().filter(|line| line.is_ours()).map(|line| Self::of(line, machine)).collect()
    }
}

/// Whether to look up in 1Password what is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// No.
    Look,
    /// Yes, as for a start, except for values that a unit that starts before the network would never get.
    LookUp {
        /// Whether the unit starts before the network.
        unless_early: bool,
    },
}

/// The answers to all requests of a unit, and to one more.
pub(super) async fn predict(
    onecred: &ManagerProxy<'_>,
    unit: &UnitName,
    mut requests: Vec<LineRequest>,
    own: &LineRequest,
    asks: Asks,
) -> Result<BTreeMap<LineRequest, Prediction>, Fault> {
    if !requests.contains(own) {
        requests.push(own.clone());
    }
    let first = ask(onecred, unit, &requests, 0).await?;
    let Asks::LookUp { unless_early } = asks else { return Ok(first) };
    let open = |prediction: &Prediction| {
        let waits_for_itself = unless_early && prediction.needs_network && !prediction.fetched;
        prediction.allowed && prediction.answer == PredictedAnswer::Unknown && !waits_for_itself
    };
    if !first.values().any(open) {
        return Ok(first);
    }
    match ask(onecred, unit, &requests, 1).await {
        // a unit at boot has only what was in memory before
        Ok(mut second) => {
            for (request, prediction) in &mut second {
                prediction.fetched = first.get(request).is_some_and(|first| first.fetched);
                if let Some(first) = first.get(request).filter(|first| !open(first)) {
                    *prediction = first.clone();
                }
            }
            Ok(second)
        }
        Err(fault) if fault.is_not_authorized() => Ok(first),
        Err(fault) => Err(fault),
    }
}

/// Asks for predictions. Flags: 0 uses only what is in memory, 1 looks up the rest.
pub(super) async fn ask(
    onecred: &ManagerProxy<'_>,
    unit: &UnitName,
    requests: &[LineRequest],
    flags: u64,
) -> Result<BTreeMap<LineRequest, Prediction>, Fault> {
    let asked: Vec<(&str, bool)> =
        requests.iter().map(|request| (request.id.as_str(), request.sealed)).collect();
    let answers = onecred.predict(unit.as_str(), &asked, flags).await?;
    Ok(requests.iter().cloned().zip(answers.into_iter().map(of_dict)).collect())
}

fn of_dict(mut dict: HashMap<String, OwnedVariant>) -> Prediction {
    let mut flag =
        |key: &str| dict.remove(key).and_then(|value| bool::try_from(value).ok()).unwrap_or_default();
    let (allowed, fetched, needs_network) = (flag("Allowed"), flag("Fetched"), flag("NeedsNetwork"));
    let size =
        dict.remove("Size").and_then(|size| i64::try_from(size).ok()).and_then(|size| size.try_into().ok());
    let overrides = dict.remove("Overrides").and_then(|value| value.try_into().ok()).unwrap_or_default();
    let mut text =
        |key: &str| dict.remove(key).and_then(|value| String::try_from(value).ok()).unwrap_or_default();
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let answer = match text("Answer").as_str() {
        "value" => PredictedAnswer::Value(some(text("Stale"))),
        "refused" => PredictedAnswer::Refusal(text("ErrorName"), text("Error")),
        _ => PredictedAnswer::Unknown,
    };
    Prediction {
        allowed,
        name: text("Name"),
        reference: text("Reference"),
        reason: text("Reason"),
        target: some(text("Target")),
        answer,
        overrides,
        fetched,
        needs_network,
        size,
    }
}
