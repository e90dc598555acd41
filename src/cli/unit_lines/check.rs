//! Checks the credential lines of all units: those that systemd has loaded, and those that the configuration
//! names.

use std::collections::BTreeSet;

use zbus::Connection;

use super::facts::{CredentialLine, Directive, LoadState, Machine, PredictedAnswer, Prediction, Unit};
use super::gather::Systemd;
use super::names;
use super::prediction::{self, LineRequest};
use super::verdict::{self, Effect, Purpose};
use crate::cli::bus::{Fault, ManagerProxy};
use crate::config::Settings;
use crate::domain::name::{CredentialId, UnitName};
use crate::domain::policy::Policy;

/// The findings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Findings {
    /// What prevents units from getting their credentials.
    pub(in crate::cli) problems: Vec<String>,
    /// Probable mistakes.
    pub(in crate::cli) warnings: Vec<String>,
}

/// The units on a machine that are related to onecred.
#[derive(Debug)]
pub(in crate::cli) struct Gathered {
    machine: Machine,
    units: Vec<Unit>,
    warnings: Vec<String>,
}

/// Gathers the facts about all units that are related to onecred.
pub(in crate::cli) async fn gather_all(
    connection: &Connection,
    settings: &Settings,
) -> zbus::Result<Gathered> {
    let mut systemd = Systemd::new(connection).await?;
    let known = systemd.known_names().await?;
    let mut warnings = names::warnings(settings, &known);
    let grants = Grants(&settings.policy);
    let mut units = Vec::new();
    let mut seen = BTreeSet::new();
    let types = ["*.service", "*.socket", "*.mount", "*.swap"];
    for listed in systemd.manager.list_units_by_patterns(&[], &types).await? {
        let (name, path) = (UnitName::parse(&listed.0), listed.6);
        let Ok(name) = name else { continue };
        if listed.2 == "not-found" || !(grants.any(&name) || systemd.has_lines(&name, &path).await?) {
            continue;
        }
        if let Some(unit) = systemd.loaded(&name, &path).await? {
            seen.insert(unit.name.clone());
            units.push(unit);
        }
    }
    for (name, place) in names::to_load(settings, &known) {
        let unit = systemd.unit(&name).await?;
        if let (Some(alias), Some(place)) = (&unit.alias, place) {
            warnings.push(format!(
                "{place}: {alias} is an alias of {}, the name that systemd uses; write {:?}",
                unit.name,
                unit.name.as_str()
            ));
        }
        if !matches!(unit.state, LoadState::NotFound(_)) && seen.insert(unit.name.clone()) {
            units.push(unit);
        }
    }
    Ok(Gathered { machine: systemd.machine, units, warnings })
}

/// Judges the units. `failing` are secrets that are known to fail, which are reported once instead of for
/// each unit.
pub(in crate::cli) async fn check(
    gathered: Gathered,
    settings: &Settings,
    onecred: &ManagerProxy<'_>,
    failing: &BTreeSet<String>,
) -> Result<Findings, Fault> {
    let Gathered { machine, units, warnings } = gathered;
    let mut findings = Findings { problems: Vec::new(), warnings };
    findings.warnings.extend(units.iter().flat_map(verdict::provider_only).collect::<BTreeSet<_>>());
    for unit in &units {
        let requests = LineRequest::all(machine, unit);
        let mut predictions = Default::default();
        if !requests.is_empty() && verdict::judge_unit(machine, unit).is_none() {
            predictions = prediction::ask(onecred, &unit.name, &requests, 0).await?;
            // a credential of a rule was not looked up yet
            let open = |it: &Prediction| it.allowed && !it.fetched && it.answer == PredictedAnswer::Unknown;
            let rest: Vec<LineRequest> =
                predictions.iter().filter(|(_, it)| open(it)).map(|(request, _)| request.clone()).collect();
            if !rest.is_empty() {
                predictions.extend(prediction::ask(onecred, &unit.name, &rest, 1).await?);
            }
        }
        let of_line = |line: &CredentialLine| {
            predictions.get(&LineRequest::of(line, machine)).filter(|_| line.is_ours()).cloned()
        };
        let of_unit = judge_all(machine, unit, &Grants(&settings.policy), &of_line, failing);
        findings.problems.extend(of_unit.problems);
        findings.warnings.extend(of_unit.warnings);
    }
    Ok(findings)
}

/// What the configuration grants to units.
struct Grants<'a>(&'a Policy);

impl Grants<'_> {
    /// Whether it grants a unit anything.
    fn any(&self, unit: &UnitName) -> bool {
        self.0.gives_any(unit)
    }

    /// Whether it grants a unit a credential with this ID.
    fn has(&self, unit: &UnitName, id: &str) -> bool {
        CredentialId::parse(id).is_ok_and(|id| self.0.judge(unit, &id).is_ok())
    }

    /// The paths of published secrets.
    fn published(&self) -> BTreeSet<&str> {
        let targets = self.0.secrets().filter_map(|secret| secret.target.as_ref());
        targets.filter_map(|target| target.path.to_str()).collect()
    }

    /// The credentials of a unit that it names.
    fn named(&self, unit: &UnitName) -> Vec<CredentialId> {
        self.0.named(unit)
    }
}

/// Judges all lines of a unit. Pure.
fn judge_all(
    machine: Machine,
    unit: &Unit,
    grants: &Grants<'_>,
    of_line: &dyn Fn(&CredentialLine) -> Option<Prediction>,
    failing: &BTreeSet<String>,
) -> Findings {
    let name = &unit.name;
    let named = grants.named(name);
    let published = grants.published();
    let mut found = Findings::default();
    let relevant: Vec<&CredentialLine> = unit
        .lines
        .iter()
        .filter(|line| line.means_onecred() || grants.has(name, &line.asked_id(machine)))
        // a published file has the same value
        .filter(|line| line.directive == Directive::Encrypted || !published.contains(line.path.as_str()))
        .collect();
    if let Some(verdict) = verdict::judge_unit(machine, unit) {
        let what = verdict.problem.unwrap_or_default();
        match relevant.first() {
            Some(line) => found.problems.push(format!("{name}: {line}: {what}")),
            None if named.is_empty() => {}
            None if matches!(unit.state, LoadState::Broken(..)) => found.problems.push(what),
            None => found.warnings.push(format!("{name} cannot get its credentials: {what}")),
        }
        return found;
    }
    let ours = || unit.lines.iter().filter(|line| line.is_ours());
    for line in &unit.lines {
        // a line that is not for onecred matters if it prevents a unit with an onecred credential from
        // starting
        let purpose = if relevant.contains(&line) { Purpose::Asks } else { Purpose::Beside };
        // a published file may be written right before the unit starts
        let is_published = line.directive == Directive::Plain && published.contains(line.path.as_str());
        if purpose == Purpose::Beside && (is_published || ours().next().is_none()) {
            continue;
        }
        let prediction = of_line(line);
        let verdict = verdict::judge_line(machine, unit, line, prediction.as_ref(), purpose);
        if purpose == Purpose::Beside && !matches!(verdict.effect, Effect::Fails | Effect::Unknown) {
            continue;
        }
        let reported = prediction.is_some_and(|it| {
            matches!(it.answer, PredictedAnswer::Refusal(..)) && it.allowed && failing.contains(&it.name)
        });
        let Some(problem) = verdict.problem.filter(|_| !reported) else { continue };
        match verdict.effect {
            Effect::Gets => {}
            // the problem in 1Password is reported for the secret
            Effect::Unknown if line.is_ours() => {}
            Effect::Unknown => found.warnings.push(format!("{name}: {line}: {problem}")),
            _ => found.problems.push(format!("{name}: {line}: {problem}")),
        }
    }
    if ours().next().is_some() {
        let whole =
            verdict::judge_whole(machine, unit, of_line).into_iter().chain(verdict::environment(unit));
        for verdict in whole {
            let Some(problem) = verdict.problem.map(|problem| format!("{name}: {problem}")) else { continue };
            let list =
                if verdict.effect == Effect::Unknown { &mut found.warnings } else { &mut found.problems };
            list.push(problem);
        }
        let allowed = || ours().filter_map(of_line).filter(|prediction| prediction.allowed);
        let is_allowed = allowed().next().is_some();
        let needs_network = allowed().any(|prediction| prediction.needs_network);
        found.problems.extend(
            verdict::early(unit, needs_network).filter(|_| is_allowed).map(|what| format!("at boot {what}")),
        );
    }
    let unordered = verdict::unordered(unit).filter(|_| unit.early.is_none());
    found.warnings.extend(unordered.map(|what| format!("at boot {what}")));
    found.problems.extend(verdict::before_decryption(unit).map(|what| format!("at boot {what}")));
    let has_line = |id: &str| unit.lines.iter().any(|line| line.id == id || line.asked_id(machine) == id);
    for ignored in unit.ignored.iter().filter(|ignored| !has_line(&ignored.id)) {
        if ignored.text.contains("/run/onecred") || grants.has(name, &ignored.id) {
            found.problems.push(format!("{name}: {}", verdict::ignored_text(ignored)));
        }
    }
    for id in named.iter().filter(|id| !has_line(id.as_str())) {
        if unit.ignored.iter().all(|ignored| ignored.id != id.as_str()) {
            let why = verdict::no_line(unit, id).problem.unwrap_or_default();
            found.warnings.push(format!("{name} does not load {id}: {why}"));
        }
    }
    found
}

#[cfg(test)]
mod tests;
