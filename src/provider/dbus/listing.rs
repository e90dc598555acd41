//! What is listed besides secrets: templates and rules.

use zbus::Variant;

use super::Desk;
use super::answer::{Dict, entries, error_name, last_error};
use crate::config::Template;
use crate::domain::policy::Rule;
use crate::provider::dbus::authorization::Caller;
use crate::provider::observe::secret_status::{Condition, State};

impl Desk {
    /// The properties of a template.
    pub(super) fn describe_template(&self, template: &Template) -> Dict {
        let parts: Vec<Condition> =
            template.filling.parts.iter().map(|part| self.server.broker.condition(part)).collect();
        let references: Vec<String> =
            template.filling.parts.iter().map(|part| part.reference.to_string()).collect();
        let failing = parts.iter().find(|part| part.state == State::Failing);
        let target = template.target.as_ref().map(|target| target.path.display().to_string());
        dict([
            ("Name", Variant::from(template.name.as_str())),
            ("References", Variant::from(references)),
            ("Units", Variant::from(entries(template.name.as_str(), &template.grants))),
            ("State", Variant::from(worst(parts.iter().map(|part| part.state)).as_str())),
            ("LastErrorName", Variant::from(failing.map(error_name).unwrap_or_default())),
            ("LastError", Variant::from(failing.map(last_error).unwrap_or_default())),
            ("Target", Variant::from(target.unwrap_or_default())),
            ("DeclaredAt", Variant::from(template.declared_at.as_str())),
        ])
    }
}

/// The properties of a rule.
pub(super) fn describe_rule(rule: &Rule) -> Dict {
    let units: Vec<String> = rule.units.iter().map(|units| units.glob().as_str().to_owned()).collect();
    let credentials: Vec<String> = rule.credentials.iter().map(|id| id.as_str().to_owned()).collect();
    dict([
        ("Reference", Variant::from(rule.reference.as_str())),
        ("Source", Variant::from(rule.wanted.source.as_str())),
        ("Units", Variant::from(units)),
        ("Credentials", Variant::from(credentials)),
        ("DeclaredAt", Variant::from(rule.declared_at.as_str())),
    ])
}

impl Caller {
    /// Whether a template is given to the caller's unit.
    pub(super) fn has_template(&self, template: &Template) -> bool {
        self.unit.as_ref().is_some_and(|unit| template.grants.iter().any(|grant| grant.units.matches(unit)))
    }

    /// Whether a rule is for the caller's unit.
    pub(super) fn has_rule(&self, rule: &Rule) -> bool {
        self.unit.as_ref().is_some_and(|unit| rule.units.iter().any(|units| units.matches(unit)))
    }
}

fn dict<const N: usize>(values: [(&'static str, Variant<'_>); N]) -> Dict {
    // a text or a list of such has no descriptor that could fail to be copied
    let owned = values.into_iter().filter_map(|(key, value)| Some((key, value.try_to_owned().ok()?)));
    owned.collect()
}

/// The state of a template is that of its worst part; one without parts is always complete.
fn worst(parts: impl Iterator<Item = State>) -> State {
    let rank = |state: &State| match state {
        State::Failing => 4,
        State::NeverFetched => 3,
        State::Stale => 2,
        State::Held => 1,
        State::Fresh => 0,
    };
    parts.max_by_key(rank).unwrap_or(State::Fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_as_good_as_its_worst_part() {
        let worst = |states: &[State]| worst(states.iter().copied());
        assert_eq!(worst(&[]), State::Fresh);
        assert_eq!(worst(&[State::Fresh, State::Held]), State::Held);
        assert_eq!(worst(&[State::Stale, State::Failing, State::NeverFetched]), State::Failing);
        assert_eq!(worst(&[State::Stale, State::NeverFetched, State::Fresh]), State::NeverFetched);
    }

    #[test]
    fn a_rule_is_described_as_it_was_written() {
        let text = r#"{ "rules": [ { "units": ["web@*"], "credentials": ["db-*"], "reference": "op://v/{instance}/f" } ] }"#;
        let loaded =
            crate::config::from_text(std::path::Path::new("/etc/onecred/secrets.json"), text).unwrap();
        let described = describe_rule(&loaded.settings.policy.rules()[0]);
        let text = |key| String::try_from(described[key].try_clone().unwrap()).unwrap();
        assert_eq!((text("Reference"), text("Source")), ("op://v/{instance}/f".into(), "default".into()));
        let list = |key| Vec::<String>::try_from(described[key].try_clone().unwrap()).unwrap();
        assert_eq!((list("Units"), list("Credentials")), (vec!["web@*.service".into()], vec!["db-*".into()]));
        assert_eq!(text("DeclaredAt"), "/etc/onecred/secrets.json:1");
    }
}
