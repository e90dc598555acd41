//! Collects the figures for the metrics from all parts of the provider.

use std::sync::Arc;

use crate::domain::name::SourceName;
use crate::domain::policy::Deliverable;
use crate::provider::base::limits::Form;
use crate::provider::context::Context;
use crate::provider::fetch::preview;
use crate::provider::observe::metrics::{Figures, SecretFigures, SourceFigures, StoreFigures};

/// How many secrets are examined before requests of units get a turn.
const AT_A_TIME: usize = 64;

/// Collects the current figures.
pub async fn gather(context: &Context) -> Figures {
    let (broker, active) = (&context.broker, context.config.get());
    let mut secrets = Vec::new();
    for secret in active.settings.policy.secrets() {
        let condition = broker.condition_for(&secret.wanted, &secret.ids());
        secrets.push(SecretFigures {
            name: secret.name.to_string(),
            state: Some(condition.state),
            age: condition.age,
            counts: context.counters.of(&secret.wanted.label),
        });
        if secrets.len().is_multiple_of(AT_A_TIME) {
            tokio::task::yield_now().await;
        }
    }
    for template in &active.settings.templates {
        let ids: Vec<_> = template.grants.iter().map(|grant| grant.credential.clone()).collect();
        let what = Deliverable::Template(Arc::clone(&template.filling));
        secrets.push(SecretFigures {
            name: template.name.to_string(),
            state: Some(preview::of(broker, &what, Form::Plain, &ids).state),
            age: None,
            counts: context.counters.of(template.name.as_str()),
        });
        tokio::task::yield_now().await; // this reads values
    }
    let told = context.statuses.get(broker).await;
    let status = |name: &SourceName| {
        told.as_ref().as_ref()?.sources.iter().find(|source| source.name == *name).cloned()
    };
    let sources = active.settings.sources.keys().map(|name| SourceFigures {
        name: name.to_string(),
        answers: broker.last_failure(name).is_none(),
        status: status(name),
    });
    let (items, bytes) = broker.size();
    Figures {
        version: env!("CARGO_PKG_VERSION"),
        serves: active.error.is_none(),
        totals: context.counters.totals(),
        secrets,
        resolver_answers: told.is_some(),
        sources: sources.collect(),
        store: StoreFigures { items, bytes, limit: active.settings.limits.store_bytes },
    }
}
