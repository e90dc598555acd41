//! Rules: patterns of units and credential IDs, and a reference with placeholders.

use super::super::at::At;
use super::super::written;
use super::Checker;
use super::units::least;
use crate::name::UnitName;
use crate::policy::{Glob, Rule, UnitPattern};
use crate::reference::ReferenceTemplate;
use crate::secret::Wanted;

impl Checker<'_> {
    /// A rule; none where something that it can't be without is wrong.
    pub(super) fn rule(&mut self, written: &At<written::Rule>) -> Option<Rule> {
        let units = written.units.as_ref().map(|units| self.unit_patterns(units));
        let credentials: Option<Vec<Glob>> = match &written.credentials {
            Some(entries) => Some(entries.iter().filter_map(|entry| self.credential_glob(entry)).collect()),
            None => Glob::parse("*").ok().map(|glob| vec![glob]),
        };
        for (key, list) in [("units", &written.units), ("credentials", &written.credentials)] {
            if list.as_ref().is_some_and(Vec::is_empty) && written.whole {
                self.problems.error(
                    written.place,
                    format!("the rule matches nothing: its {key:?} are empty"),
                    "add an entry, or remove the rule",
                );
            }
        }
        let reference = written
            .reference
            .as_ref()
            .and_then(|text| self.parsed(text.place, ReferenceTemplate::parse(text), ""));
        let source = self.source(written.source.as_ref(), Some(written.place));
        let max_age = self.max_age(written.max_age.as_ref());
        let deadline = self.deadline(written.deadline.as_ref());
        let (units, credentials, reference) = (units?, credentials?, reference?);
        self.rule_lengths(written, &units, &credentials);
        self.instances(written, &units, &reference);
        let declared_at = self.problems.line(written.place);
        let stand_in = reference.fill(&|_| "x".to_owned()).ok()?;
        let wanted = Wanted {
            label: format!("the rule at {declared_at}"),
            reference: stand_in,
            source: source?,
            max_age,
            deadline,
            allow_empty: false,
        };
        Some(Rule { units, credentials, reference, wanted, declared_at })
    }

    fn rule_lengths(&mut self, written: &At<written::Rule>, units: &[UnitPattern], credentials: &[Glob]) {
        let shortest = credentials.iter().min_by_key(|glob| least(glob.as_str()));
        let Some(shortest) = shortest else { return };
        for (pattern, entry) in units.iter().zip(written.units.iter().flatten()) {
            let bytes = least(pattern.glob().as_str());
            self.length(pattern.glob(), bytes, shortest.as_str(), least(shortest.as_str()), entry.place);
        }
    }

    /// `{instance}` with a unit that has none.
    fn instances(
        &mut self,
        written: &At<written::Rule>,
        units: &[UnitPattern],
        reference: &ReferenceTemplate,
    ) {
        if !reference.as_str().contains("{instance}") {
            return;
        }
        for (pattern, entry) in units.iter().zip(written.units.iter().flatten()) {
            let unit = pattern.glob().literal().and_then(|name| UnitName::parse(name).ok());
            if unit.is_some_and(|unit| unit.instance().is_none() && !unit.as_str().contains("@.")) {
                let what = format!("the reference holds {{instance}}, and {:?} has no instance", entry.value);
                self.problems.error(entry.place, what, "declare a secret of its own for this unit");
            }
        }
    }
}
