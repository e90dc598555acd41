//! The relation between the active configuration and the files, as reported by the provider.

use serde::Serialize;

use super::bus::ManagerProxy;
use crate::host::clock;

/// The relation between the active configuration and the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Configuration {
    /// `current`, `changed`, `rejected` or `none`.
    pub(super) state: String,
    /// Why the files cannot be used, if `rejected`.
    pub(super) error: Option<String>,
    /// When the active configuration was first loaded in this boot, in seconds since the Unix epoch.
    pub(super) loaded: Option<u64>,
}

impl Configuration {
    /// Asks the provider. `None` if it does not answer this: units may ask only about their own secrets, and
    /// older versions do not report it.
    pub(super) async fn ask(manager: &ManagerProxy<'_>) -> Option<Self> {
        Some(Self {
            state: manager.configuration_state().await.ok()?,
            error: manager.configuration_file_error().await.ok().filter(|error| !error.is_empty()),
            loaded: manager.configuration_loaded().await.ok().filter(|loaded| *loaded > 0),
        })
    }

    /// Whether the files cannot be used, so that an earlier configuration or none is active.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self.state.as_str(), "rejected" | "none")
    }

    /// A name of the active configuration by its time: `the configuration of 14:05 UTC`.
    pub(super) fn name(&self, now: u64) -> String {
        match self.loaded {
            Some(loaded) => format!("the configuration of {}", clock::time_of_day(loaded, now)),
            None => "the configuration before".to_owned(),
        }
    }

    /// What is wrong, and the consequence. Empty if the files are active, or no configuration is.
    pub(super) fn problem(&self, now: u64) -> Vec<String> {
        match self.state.as_str() {
            "rejected" => {
                let error = self.error.as_deref().unwrap_or("the files can't be used");
                vec![error.to_owned(), format!("{} stays active", self.name(now))]
            }
            "changed" => vec!["changed on disk since it was loaded; run: onecred reload".to_owned()],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_what_is_active() {
        let now = 20_000 * 86_400 + 50_000;
        let stands = |state: &str, error: Option<&str>| Configuration {
            state: state.into(),
            error: error.map(str::to_owned),
            loaded: Some(now - 60),
        };
        let error = "/etc/onecred/secrets.json:3:5: error: x; do y";
        let changed = "changed on disk since it was loaded; run: onecred reload";
        for (state, error, bad, problem) in [
            ("current", None, false, vec![]),
            ("none", None, true, vec![]),
            ("changed", None, false, vec![changed]),
            ("rejected", Some(error), true, vec![error, "the configuration of 13:52 UTC stays active"]),
        ] {
            let stands = stands(state, error);
            let said = stands.problem(now);
            assert_eq!(
                (stands.is_bad(), said),
                (bad, problem.into_iter().map(str::to_owned).collect()),
                "{state}"
            );
        }
    }
}
