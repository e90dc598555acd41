//! Examines how units request credentials, and the outcome: `explain` for one unit, `check --live` for all.
//!
//! [`gather`] collects [`facts`] from systemd and the file system, onecred predicts its answers, and
//! [`verdict`] judges.

mod check;
mod environment;
mod facts;
mod gather;
mod names;
mod ordering;
mod prediction;
mod stores;
mod unit_files;
mod verdict;

use zbus::Connection;

use super::bus::{Fault, ManagerProxy};
use crate::cli::bus::Bus;
use crate::cli::creds_socket::{Finding, Level};
use crate::config::Settings;
use crate::domain::name::{CredentialId, UnitName};
use facts::{CredentialLine, LoadState, Unit};
use gather::Systemd;
use prediction::{Asks, LineRequest};

pub(super) use check::{Gathered, check, gather_all};
pub(super) use facts::{PLAIN, PredictedAnswer, Prediction, SEALED};
pub(super) use verdict::{Effect, Judgement};

/// What is known of a unit and one of its credentials.
#[derive(Debug)]
pub(super) struct Explained {
    /// The canonical name of the unit.
    pub(super) unit: UnitName,
    /// The predicted answer of onecred.
    pub(super) prediction: Prediction,
    /// The outcome.
    pub(super) judgement: Judgement,
}

impl Explained {
    /// Adds a problem of the socket through which the unit's credentials are decrypted.
    pub(super) fn add(&mut self, Finding { level, message }: Finding) {
        match level {
            Level::Warning => self.judgement.notes.push(message),
            Level::Error => {
                self.judgement.effect = Effect::Fails;
                self.judgement.problems.push(message);
            }
        }
    }
}

/// Explains what a unit gets. Looks up in 1Password what is not in memory, as for a start of the unit.
pub(super) async fn explain(
    connection: &Connection,
    onecred: &ManagerProxy<'_>,
    name: &UnitName,
    id: &CredentialId,
) -> Result<Explained, Fault> {
    let (systemd, unit) = match read(connection, name).await {
        Ok(read) => read,
        Err(error) => return without_systemd(onecred, name, id, &error).await,
    };
    let machine = systemd.machine;
    let requests = LineRequest::all(machine, &unit);
    let own = unit.line(id, machine).filter(|line| line.is_ours()).map(|line| LineRequest::of(line, machine));
    let own = own.unwrap_or_else(|| LineRequest { id: id.to_string(), sealed: false });
    let starts = verdict::judge_unit(machine, &unit).is_none();
    let look_up = match (starts, unit.line(id, machine)) {
        (true, Some(_)) => Asks::LookUp { unless_early: unit.early.is_some() },
        _ => Asks::Look,
    };
    let predictions = prediction::predict(onecred, &unit.name, requests, &own, look_up).await?;
    let mut prediction = predictions.get(&own).cloned().unwrap_or_default();
    let of_line = |line: &CredentialLine| {
        predictions.get(&LineRequest::of(line, machine)).filter(|_| line.is_ours()).cloned()
    };
    let judgement = verdict::judge(machine, &unit, id, &prediction, &of_line);
    if !starts && !prediction.allowed && !matches!(unit.state, LoadState::NotFound(_)) {
        prediction.reason.clear(); // advice on granting it is useless for a unit that cannot ask
    }
    Ok(Explained { unit: unit.name, prediction, judgement })
}

async fn read<'c>(connection: &'c Connection, name: &UnitName) -> zbus::Result<(Systemd<'c>, Unit)> {
    let mut systemd = Systemd::new(connection).await?;
    let mut unit = systemd.unit(name).await?;
    if unit.state == LoadState::NotFound(None) {
        let known = systemd.known_names().await?;
        unit.state = LoadState::NotFound(known.nearest(name).map(str::to_owned));
    }
    Ok((systemd, unit))
}

/// The explanation without systemd's answers.
async fn without_systemd(
    onecred: &ManagerProxy<'_>,
    name: &UnitName,
    id: &CredentialId,
    error: &zbus::Error,
) -> Result<Explained, Fault> {
    let own = LineRequest { id: id.to_string(), sealed: false };
    let predictions = prediction::predict(onecred, name, Vec::new(), &own, Asks::Look).await?;
    let judgement = Judgement {
        effect: Effect::Unknown,
        asks: "unknown".to_owned(),
        problems: vec![format!(
            "systemd cannot be asked how {name} loads it: {error}; see: systemctl status dbus"
        )],
        notes: Vec::new(),
    };
    let prediction = predictions.get(&own).cloned().unwrap_or_default();
    Ok(Explained { unit: name.clone(), prediction, judgement })
}

impl Bus {
    /// What a unit gets for one of its credentials, and what prevents that.
    pub(in crate::cli) async fn explain(
        &self,
        unit: &UnitName,
        id: &CredentialId,
    ) -> Result<Explained, Fault> {
        explain(self.connection(), &self.manager().await?, unit, id).await
    }

    /// The units that are related to onecred, according to systemd.
    pub(in crate::cli) async fn units(&self, settings: &Settings) -> zbus::Result<Gathered> {
        gather_all(self.connection(), settings).await
    }
}
