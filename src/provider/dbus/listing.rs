//! Lists secrets, templates and rules.

use std::sync::Arc;

use zbus::Variant;
use zbus::message::Header;

use super::Desk;
use super::dict::{Dict, entries, put};
use super::error::BusError;
use crate::config::Template;
use crate::domain::name::{CredentialId, UnitName};
use crate::domain::policy::{Deliverable, Rule};
use crate::domain::secret::Secret;
use crate::provider::base::limits::Form;
use crate::provider::dbus::authorization::{Action, Caller};
use crate::provider::fetch::broker::Broker;
use crate::provider::fetch::preview::{self, Preview};
use crate::provider::observe::secret_status::Unusable;

/// The maximum number of secrets of one page.
const PAGE: usize = 1000;

impl Desk {
    /// The properties of a template. With `only`, other units are left out of `Withheld` and `Outdated`.
    pub(super) fn describe_template(&self, template: &Template, only: Option<&UnitName>) -> Dict {
        let mut dict = describe_template(&self.context.broker, template);
        put(&mut dict, "Withheld", Variant::from(self.withheld(template.name.as_str(), only)));
        put(&mut dict, "Outdated", Variant::from(self.outdated(template.name.as_str(), only)));
        dict
    }

    /// All secrets; a unit without the permission sees its own.
    pub(super) async fn list_secrets(&self, header: &Header<'_>) -> Result<Vec<Dict>, BusError> {
        let caller = self.caller(header).await?;
        let active = self.active(&caller, Action::Inspect, header).await?;
        let policy = &active.settings.policy;
        let allowed = caller.may(Action::Inspect, header, &self.link).await;
        let own = |secret: &&Secret| allowed.is_ok() || caller.owns(secret, policy);
        let mut secrets: Vec<Dict> = Vec::new();
        let only = caller.unit.as_ref().filter(|_| allowed.is_err());
        for secret in policy.secrets().filter(own) {
            secrets.push(self.describe(secret, only));
            if secrets.len().is_multiple_of(64) {
                tokio::task::yield_now().await; // requests of units go first
            }
        }
        match allowed {
            Err(denied) if secrets.is_empty() => Err(denied),
            _ => Ok(secrets),
        }
    }

    /// Secrets in order of name, from the first after `after`, and the name to continue after; empty at the end.
    pub(super) async fn list_secrets_page(
        &self,
        after: &str,
        limit: u32,
        header: &Header<'_>,
    ) -> Result<(Vec<Dict>, String), BusError> {
        let caller = self.caller(header).await?;
        let active = self.active(&caller, Action::Inspect, header).await?;
        let policy = &active.settings.policy;
        let allowed = caller.may(Action::Inspect, header, &self.link).await;
        let mut own =
            active.secrets_after(after).filter(|secret| allowed.is_ok() || caller.owns(secret, policy));
        let limit = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => PAGE,
            limit => limit.min(PAGE),
        };
        let page: Vec<&Secret> = own.by_ref().take(limit).collect();
        let last = page.last().map(|secret| secret.name.to_string()).unwrap_or_default();
        let next = if own.next().is_some() { last } else { String::new() };
        let only = caller.unit.as_ref().filter(|_| allowed.is_err());
        let mut secrets = Vec::with_capacity(page.len());
        for secret in page {
            secrets.push(self.describe(secret, only));
            if secrets.len().is_multiple_of(64) {
                tokio::task::yield_now().await; // units that ask go first
            }
        }
        match allowed {
            Err(denied) if secrets.is_empty() && after.is_empty() => Err(denied),
            _ => Ok((secrets, next)),
        }
    }

    /// All templates; a unit without the permission sees its own.
    pub(super) async fn list_templates(&self, header: &Header<'_>) -> Result<Vec<Dict>, BusError> {
        let caller = self.caller(header).await?;
        let active = self.active(&caller, Action::Inspect, header).await?;
        let allowed = caller.may(Action::Inspect, header, &self.link).await;
        let templates = active.settings.templates.iter();
        let own = templates.filter(|template| allowed.is_ok() || caller.has_template(template));
        let only = caller.unit.as_ref().filter(|_| allowed.is_err());
        let mut templates: Vec<Dict> = Vec::new();
        for template in own {
            templates.push(self.describe_template(template, only));
            tokio::task::yield_now().await; // each template is rendered; requests of units go first
        }
        match allowed {
            Err(denied) if templates.is_empty() => Err(denied),
            _ => Ok(templates),
        }
    }

    /// All rules; a unit without the permission sees its own.
    pub(super) async fn list_rules(&self, header: &Header<'_>) -> Result<Vec<Dict>, BusError> {
        let caller = self.caller(header).await?;
        let active = self.active(&caller, Action::Inspect, header).await?;
        let allowed = caller.may(Action::Inspect, header, &self.link).await;
        let rules = active.settings.policy.rules().iter();
        let own = rules.filter(|rule| allowed.is_ok() || caller.has_rule(rule));
        let rules: Vec<Dict> = own.map(describe_rule).collect();
        match allowed {
            Err(denied) if rules.is_empty() => Err(denied),
            _ => Ok(rules),
        }
    }
}

/// What a request for a template at the plain socket would get, judged by the store.
pub(super) fn preview_of(broker: &Broker, template: &Template) -> Preview {
    let what = Deliverable::Template(Arc::clone(&template.filling));
    preview::of(broker, &what, Form::Plain, &ids(template))
}

/// Why the sealed socket refuses a template that the plain socket serves.
pub(super) fn sealed_error_of(broker: &Broker, template: &Template) -> Option<Unusable> {
    sealed_error(&preview_of(broker, template), template)
}

fn sealed_error(it: &Preview, template: &Template) -> Option<Unusable> {
    let size = it.size.filter(|_| it.refusal.is_none())?;
    preview::too_large(size, Form::Sealed, &ids(template))
}

fn ids(template: &Template) -> Vec<CredentialId> {
    template.grants.iter().map(|grant| grant.credential.clone()).collect()
}

fn describe_template(broker: &Broker, template: &Template) -> Dict {
    let it = preview_of(broker, template);
    let sealed_error = sealed_error(&it, template);
    let Preview { state, refusal, .. } = it;
    let references: Vec<String> =
        template.filling.parts.iter().map(|part| part.reference.to_string()).collect();
    let target = template.target.as_ref().map(|target| target.path.display().to_string());
    let error_name = refusal.as_ref().map(|why| BusError::name_of_kind(why.kind)).unwrap_or_default();
    dict([
        ("Name", Variant::from(template.name.as_str())),
        ("References", Variant::from(references)),
        ("Units", Variant::from(entries(template.name.as_str(), &template.grants))),
        ("State", Variant::from(state.as_str())),
        ("LastErrorName", Variant::from(error_name)),
        ("LastError", Variant::from(refusal.map(|why| why.text).unwrap_or_default())),
        ("SealedError", Variant::from(sealed_error.map(|error| error.to_string()).unwrap_or_default())),
        ("Target", Variant::from(target.unwrap_or_default())),
        ("DeclaredAt", Variant::from(template.declared_at.as_str())),
    ])
}

/// The properties of a rule.
fn describe_rule(rule: &Rule) -> Dict {
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
    /// Whether the caller's unit may load a template.
    pub(super) fn has_template(&self, template: &Template) -> bool {
        self.unit.as_ref().is_some_and(|unit| template.grants.iter().any(|grant| grant.units.matches(unit)))
    }

    /// Whether a rule applies to the caller's unit.
    pub(super) fn has_rule(&self, rule: &Rule) -> bool {
        self.unit.as_ref().is_some_and(|unit| rule.units.iter().any(|units| units.matches(unit)))
    }
}

fn dict<const N: usize>(values: [(&'static str, Variant<'_>); N]) -> Dict {
    // strings and lists of them contain no descriptor whose copy could fail
    let owned = values.into_iter().filter_map(|(key, value)| Some((key, value.try_to_owned().ok()?)));
    owned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::base::active_config::ActiveConfig;
    use crate::provider::fetch::broker::tests::Rig;

    #[tokio::test(start_paused = true)]
    async fn a_template_is_described_as_a_request_for_it_would_be_answered() {
        let huge = vec![b'v'; 1_048_570];
        let large = vec![b'v'; 900_000];
        let ours = "org.onecred.Error.";
        for (value, name, state, error, sealed) in [
            (&b"hunter2"[..], "conf", "fresh", "", ""),
            (&huge, "conf", "failing", "TooLarge", ""),
            // too large for an ID of 20 bytes, but not for an ID of 4 bytes
            (&huge, "long", "failing", "TooLarge", ""),
            (&huge, "short", "fresh", "", "too large for the sealed socket"),
            (&huge, "file", "fresh", "", ""),
            (&large, "conf", "fresh", "", "too large for the sealed socket"),
            (b"", "conf", "failing", "Empty", ""),
            (b"a\0b", "app.env", "failing", "Failed", ""),
        ] {
            let rig = Rig::with_store("1h", 16 << 20);
            let text = r#"{ "source": { "kind": "connect", "url": "https://one" }, "defaults": { "maxAge": "1h" },
                "secrets": [ { "name": "pass", "reference": "op://v/i/password", "units": ["app"] } ],
                "templates": [ { "name": "conf", "content": "P={{pass}}.....\n", "units": ["app"] },
                               { "name": "long", "content": "{{pass}}", "units": ["x/conf", "x/aaaaaaaaaaaaaaaaaaaa"] },
                               { "name": "short", "content": "{{pass}}", "units": ["y/conf"] },
                               { "name": "file", "content": "P={{pass}}.....\n", "target": "/run/secrets/file" },
                               { "name": "app.env", "content": "P={{pass}}", "units": ["app"] } ] }"#;
            let settings = crate::config::from_text(std::path::Path::new("s.json"), text).unwrap().settings;
            rig.broker.activate(ActiveConfig::new(settings));
            rig.script.fetch_gives(1, &[Ok(value)]);
            let active = rig.config.get();
            let _ = rig
                .broker
                .try_once(&active.secret("pass").unwrap().wanted, &crate::provider::base::asker::Asker::Admin)
                .await;
            let described = describe_template(&rig.broker, active.template(name).unwrap());
            let text = |key| String::try_from(described[key].try_clone().unwrap()).unwrap();
            let expected = if error.is_empty() { String::new() } else { format!("{ours}{error}") };
            let case = format!("{name}, {} bytes: {}", value.len(), text("LastError"));
            assert_eq!((text("State").as_str(), text("LastErrorName")), (state, expected), "{case}");
            assert_eq!(text("LastError").is_empty(), error.is_empty(), "{case}");
            assert!(text("SealedError").starts_with(sealed), "{case}");
            assert_eq!(text("SealedError").is_empty(), sealed.is_empty(), "{case}");
        }
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
