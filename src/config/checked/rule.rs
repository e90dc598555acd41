//! Rules: patterns of units and credential IDs, and a reference with placeholders.

use super::super::at::At;
use super::super::written;
use super::Checker;
use super::units::least;
use crate::domain::policy::{Glob, Rule};
use crate::domain::reference::ReferenceTemplate;
use crate::domain::secret::Wanted;
use crate::domain::unit_pattern::UnitPattern;

impl Checker<'_> {
    /// A rule; `None` if a required part of it is invalid.
    pub(super) fn rule(&mut self, written: &At<written::Rule>) -> Option<Rule> {
        let credentials = self.credentials(written)?;
        let shortest = credentials.iter().min_by_key(|glob| least(glob.as_str()));
        let reference = written.reference.as_ref().and_then(|text| {
            let template = self.parsed(text.place, ReferenceTemplate::parse(text), "")?;
            self.can_match(text.place, text).then_some(template)
        });
        let mut units = Vec::new();
        for entry in written.units.iter().flatten() {
            let Some(unit) = self.unit_alone(entry) else { continue };
            if let Some(id) = shortest {
                self.length(
                    unit.glob(),
                    least(unit.glob().as_str()),
                    id.as_str(),
                    least(id.as_str()),
                    entry.place,
                );
            }
            if let Some(reference) = &reference {
                self.placeholders(entry, &unit, reference);
            }
            units.push(unit);
        }
        for (key, list) in [("units", &written.units), ("credentials", &written.credentials)] {
            if list.as_ref().is_some_and(Vec::is_empty) && written.whole {
                let what = format!("the rule matches nothing: its {key:?} are empty");
                self.problems.error(written.place, what, "add an entry, or remove the rule");
            }
        }
        let source = self.source(written.source.as_ref(), Some(written.place));
        let max_age = self.max_age(written.max_age.as_ref());
        let deadline = self.deadline(written.deadline.as_ref());
        let declared_at = self.problems.line(written.place);
        let (label, reference) = (format!("the rule at {declared_at}"), reference?);
        let stand_in = reference.fill(&|_| "x".to_owned()).ok()?;
        let wanted = Wanted {
            label,
            reference: stand_in,
            source: source?,
            max_age,
            deadline,
            allow_empty: false,
            trim: false,
        };
        Some(Rule { units, credentials, reference, wanted, declared_at })
    }

    fn credentials(&mut self, written: &At<written::Rule>) -> Option<Vec<Glob>> {
        match &written.credentials {
            Some(entries) => Some(entries.iter().filter_map(|entry| self.credential_glob(entry)).collect()),
            None => Some(vec![Glob::parse("*").ok()?]),
        }
    }

    /// Placeholders that are always empty for a unit of the rule.
    fn placeholders(&mut self, entry: &At<String>, unit: &UnitPattern, reference: &ReferenceTemplate) {
        let has = |placeholder| reference.as_str().contains(placeholder);
        let instances = unit.glob().as_str().contains('@');
        if has("{instance}") && unit.glob().literal().is_some() && !instances {
            let what = format!("the reference holds {{instance}}, and {:?} has none", entry.value);
            self.problems.error(entry.place, what, "declare a separate secret for this unit");
        }
        if has("{unit}") && instances {
            let what =
                format!("{{unit}} can't be used for {:?}, because references can't contain @", entry.value);
            self.problems.error(entry.place, what, "write {prefix} and {instance} in the reference");
        }
    }
}
