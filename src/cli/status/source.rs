//! The state and quota of a source.

use serde::Serialize;

use crate::cli::bus::{self, Fault};
use crate::cli::common::show;

/// The state of a source.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SourceStatus {
    pub(super) name: String,
    /// `service-account`, `connect` or `file`.
    pub(super) kind: String,
    /// `ready`, `no-token`, `limited` or `refused`; `None` if the resolver does not answer.
    pub(super) state: Option<String>,
    /// Why the last call failed.
    pub(super) error: Option<String>,
    /// The time of the last successful call, in seconds since the Unix epoch.
    pub(super) last_success: Option<u64>,
    /// The quota, if calls are counted.
    pub(super) quota: Option<Quota>,
    /// The units and users that caused the most calls in the last 24 hours. Empty if the provider is older.
    pub(super) spenders: Vec<Consumer>,
}

/// A unit or user that caused calls.
#[derive(Debug, Serialize)]
pub(super) struct Consumer {
    name: String,
    calls: u32,
}

/// The quota of a source.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quota {
    pub(super) calls_today: u32,
    pub(super) budget: u32,
    pub(super) left: u32,
    /// Until when no calls are made, in seconds since the Unix epoch.
    pub(super) limited_until: Option<u64>,
}

impl SourceStatus {
    /// `most calls in 24 h: app.service 300, user 1000 12`, if any calls were counted.
    pub(super) fn spenders_line(&self) -> Option<String> {
        let words = self.spenders.iter().map(|it| format!("{} {}", it.name, it.calls)).collect::<Vec<_>>();
        (!words.is_empty()).then(|| format!("most calls in 24 h: {}", words.join(", ")))
    }

    /// Whether it can be used, as far as known.
    pub(super) fn is_fine(&self) -> bool {
        self.error.is_none() && self.state.as_deref() == Some("ready")
    }

    pub(super) async fn of(source: &bus::SourceProxy<'_>) -> Result<Self, Fault> {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let at = |seconds: u64| Some(seconds).filter(|seconds| *seconds > 0);
        let budget = source.budget().await?;
        let quota = match budget {
            0 => None,
            _ => Some(Quota {
                calls_today: source.calls_today().await?,
                budget,
                left: source.left().await?,
                limited_until: at(source.limited_until().await?),
            }),
        };
        Ok(Self {
            name: source.name().await?,
            kind: source.kind().await?,
            state: some(source.state().await?),
            error: some(source.last_error().await?),
            last_success: at(source.last_success().await?),
            quota,
            spenders: source.spenders().await.map(consumers).unwrap_or_default(),
        })
    }
}

impl Quota {
    /// `; 12 of 800 calls today`, and until when no calls are made.
    pub(super) fn words(&self, now: u64) -> String {
        let wait = self.limited_until.and_then(|until| until.checked_sub(now)).filter(|wait| *wait > 0);
        let wait = wait.map(|wait| format!(", none for another {}", show::age(wait))).unwrap_or_default();
        format!("; {} of {} calls today{wait}", self.calls_today, self.budget)
    }
}

/// Converts the consumers from D-Bus.
pub(super) fn consumers(spenders: Vec<(String, u32)>) -> Vec<Consumer> {
    spenders.into_iter().map(|(name, calls)| Consumer { name, calls }).collect()
}
