//! Formats the metrics as OpenMetrics text. Pure. The parser of Prometheus checks the text in
//! `integration/judges`.
//!
//! Uses only types that the older text format has too, because node_exporter reads files in that format: no
//! `info` or `stateset`.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::ipc::{QuotaStatus, SourceState, SourceStatus};
use crate::provider::observe::counters::{BOUNDS_USEC, Counts, Latency, Totals};
use crate::provider::observe::secret_status::SecretState;

/// A snapshot of all metrics.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// The version of onecred.
    pub version: &'static str,
    /// Whether the configuration and the store can be used.
    pub serves: bool,
    /// The totals.
    pub totals: Totals,
    /// The secrets and templates.
    pub secrets: Vec<SecretFigures>,
    /// Whether the resolver answers queries about its sources.
    pub resolver_answers: bool,
    /// The sources.
    pub sources: Vec<SourceFigures>,
    /// The store.
    pub store: StoreFigures,
}

/// The metrics of a secret or template.
#[derive(Debug, Clone, Default)]
pub struct SecretFigures {
    /// Its name.
    pub name: String,
    /// Its status. A template has the status of its parts.
    pub state: Option<SecretState>,
    /// The time since its value was known to be current.
    pub age: Option<Duration>,
    /// How often it was delivered and refused.
    pub counts: Counts,
}

/// The metrics of a source.
#[derive(Debug, Clone, Default)]
pub struct SourceFigures {
    /// Its name.
    pub name: String,
    /// Whether it answered the last time.
    pub answers: bool,
    /// The resolver's status of it.
    pub status: Option<SourceStatus>,
}

/// The metrics of the store.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreFigures {
    /// The number of items.
    pub items: usize,
    /// The size in bytes.
    pub bytes: u64,
    /// The limit in bytes.
    pub limit: u64,
}

/// The text, up to and including `# EOF`.
pub fn text(figures: &Figures) -> String {
    let mut text = Text(String::new());
    text.gauge("onecred_build_info", "The version of onecred.", "");
    text.sample("onecred_build_info", &[("version", figures.version)], 1);
    text.gauge("onecred_serves", "Whether the configuration and the store can be used.", "");
    text.sample("onecred_serves", &[], u8::from(figures.serves));
    totals(&mut text, &figures.totals);
    secrets(&mut text, &figures.secrets);
    text.gauge("onecred_resolver_answers", "Whether the resolver reports the status of its sources.", "");
    text.sample("onecred_resolver_answers", &[], u8::from(figures.resolver_answers));
    sources(&mut text, &figures.sources);
    let store = &figures.store;
    text.gauge("onecred_store_items", "Items in the store.", "");
    text.sample("onecred_store_items", &[], store.items);
    text.gauge("onecred_store_bytes", "The size of the items in the store.", "bytes");
    text.sample("onecred_store_bytes", &[], store.bytes);
    text.gauge("onecred_store_limit_bytes", "The limit of the size of the items in the store.", "bytes");
    text.sample("onecred_store_limit_bytes", &[], store.limit);
    text.0.push_str("# EOF\n");
    text.0
}

fn totals(text: &mut Text, totals: &Totals) {
    text.counter("onecred_answers", "Values that were delivered to units.", "");
    text.sample("onecred_answers_total", &[], totals.answers);
    text.counter("onecred_refusals", "Requests that were refused, by type of cause.", "");
    for (kind, count) in &totals.refusals {
        text.sample("onecred_refusals_total", &[("kind", kind)], count);
    }
    text.counter("onecred_stale_answers", "Values that were delivered unchecked.", "");
    text.sample("onecred_stale_answers_total", &[], totals.stale);
    text.counter("onecred_waits", "Requests whose wait was logged in the unit's journal.", "");
    text.sample("onecred_waits_total", &[], totals.waits);
    latency(text, &totals.latency);
}

fn latency(text: &mut Text, latency: &Latency) {
    const NAME: &str = "onecred_answer_latency_seconds";
    text.family(
        NAME,
        "histogram",
        "Time from the arrival of a request to the last byte of its value.",
        "seconds",
    );
    let bounds = BOUNDS_USEC.iter().map(|usec| format!("{:?}", Duration::from_micros(*usec).as_secs_f64()));
    let mut below = 0;
    for (count, bound) in latency.buckets.iter().zip(bounds.chain(["+Inf".to_owned()])) {
        below += count;
        text.sample(&format!("{NAME}_bucket"), &[("le", &bound)], below);
    }
    text.sample(&format!("{NAME}_sum"), &[], latency.sum.as_secs_f64());
    text.sample(&format!("{NAME}_count"), &[], below);
}

fn secrets(text: &mut Text, secrets: &[SecretFigures]) {
    text.gauge("onecred_secret_state", "The state of a secret: 1 for its current state.", "");
    for secret in secrets {
        for state in SecretState::ALL {
            let Some(present) = secret.state else { continue };
            let labels = [("secret", secret.name.as_str()), ("state", state.as_str())];
            text.sample("onecred_secret_state", &labels, u8::from(state == present));
        }
    }
    text.gauge("onecred_secret_age_seconds", "Time since a value was known to be current.", "seconds");
    for secret in secrets {
        if let Some(age) = secret.age {
            text.sample("onecred_secret_age_seconds", &[("secret", &secret.name)], age.as_secs());
        }
    }
    text.counter("onecred_secret_answers", "How often units received a secret or template.", "");
    for secret in secrets {
        text.sample("onecred_secret_answers_total", &[("secret", &secret.name)], secret.counts.answers);
    }
    text.counter("onecred_secret_refusals", "How often units were refused a secret or template.", "");
    for secret in secrets {
        text.sample("onecred_secret_refusals_total", &[("secret", &secret.name)], secret.counts.refusals);
    }
}

fn sources(text: &mut Text, sources: &[SourceFigures]) {
    text.gauge("onecred_source_answers", "Whether the last call to a source succeeded.", "");
    for source in sources {
        text.sample("onecred_source_answers", &[("source", &source.name)], u8::from(source.answers));
    }
    let told = || sources.iter().filter_map(|source| Some((source.name.as_str(), source.status.as_ref()?)));
    text.gauge("onecred_source_state", "The state of a source: 1 for its current state.", "");
    for (name, status) in told() {
        for state in SourceState::ALL {
            let labels = [("source", name), ("state", state.word())];
            text.sample("onecred_source_state", &labels, u8::from(state == status.state));
        }
    }
    let help = "Calls to 1Password since the resolver opened the source, by outcome.";
    text.counter("onecred_source_calls", help, "");
    for (name, status) in told() {
        for (outcome, count) in &status.calls {
            text.sample("onecred_source_calls_total", &[("source", name), ("outcome", outcome)], count);
        }
    }
    const SUCCESS: &str = "onecred_source_last_success_timestamp_seconds";
    text.gauge(SUCCESS, "The time of the last successful call to a source.", "seconds");
    for (name, status) in told() {
        if let Some(at) = status.last_success {
            text.sample(SUCCESS, &[("source", name)], at);
        }
    }
    const LIMITED: &str = "onecred_source_limited_until_timestamp_seconds";
    text.gauge(LIMITED, "Until when a source is not asked, if it is paused.", "seconds");
    for (name, status) in told() {
        if let Some(at) = status.quota.as_ref().and_then(|quota| quota.limited_until) {
            text.sample(LIMITED, &[("source", name)], at);
        }
    }
    let mut of_quota = |family: &str, help: &str, figure: fn(&QuotaStatus) -> u32| {
        text.gauge(family, help, "");
        for (name, status) in told() {
            if let Some(quota) = &status.quota {
                text.sample(family, &[("source", name)], figure(quota));
            }
        }
    };
    of_quota("onecred_source_budget", "The budget of a source: calls in 24 hours.", |quota| {
        quota.spent.budget
    });
    of_quota("onecred_source_budget_spent", "Calls in the last 24 hours.", |quota| quota.spent.day);
    of_quota("onecred_source_budget_left", "Calls that remain in the budget.", |quota| quota.left);
    of_quota(
        "onecred_source_budget_kept_back",
        "Calls that are reserved: checks may not use them.",
        |quota| quota.kept_back,
    );
}

/// A text under construction.
struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, unit: &str) {
        self.family(name, "gauge", help, unit);
    }

    /// Begins a counter, whose samples end in `_total`.
    fn counter(&mut self, name: &str, help: &str, unit: &str) {
        self.family(name, "counter", help, unit);
    }

    /// Begins a metric family. A unit must be the last part of the name.
    fn family(&mut self, name: &str, kind: &str, help: &str, unit: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
