//! The JSON output of `onecred token check`. Never contains the token.

use serde::Serialize;

use super::source::Chosen;
use super::verdict::Verdict;
use crate::ipc::{Failure, Probed, ProbedVault, Spent};

/// The result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    source: &'a str,
    /// `service-account`, `connect` or `file`.
    kind: &'static str,
    /// Whether the token is valid; `None` if unknown.
    good: Option<bool>,
    /// Why it is not valid, or why that is unknown.
    error: Option<Trouble<'a>>,
    /// Whether only root can read it.
    safe: bool,
    /// What it gives access to; `None` if it is not known to be valid.
    reach: Option<Reach<'a>>,
    /// Warnings.
    warnings: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct Trouble<'a> {
    /// For example `denied`, `no token`, `away`.
    class: &'static str,
    /// `rejected`, `malformed-token`, `no-token`, `unreachable`, `limited`, `misconfigured` or `unclear`.
    verdict: &'static str,
    message: &'a str,
    fix: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reach<'a> {
    /// The host of the account, or the URL of the server.
    at: &'a str,
    vaults: &'a [ProbedVault],
    /// Whether it can change anything.
    writes: Option<bool>,
    /// In seconds since the Unix epoch.
    expires: Option<u64>,
    calls: Option<Calls>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    last_hour: u32,
    last_day: u32,
    budget: u32,
    left: u32,
}

impl<'a> Report<'a> {
    /// `notes` has warnings, one per line.
    pub(super) fn new(
        chosen: &'a Chosen,
        probed: &'a Result<Probed, Failure>,
        safe: bool,
        notes: &'a str,
    ) -> Self {
        let error = probed.as_ref().err();
        let warning = |line: &'a str| {
            ["warning: ", "onecred: "].iter().find_map(|label| line.strip_prefix(label)).unwrap_or(line)
        };
        Self {
            source: chosen.name.as_str(),
            kind: chosen.source.kind.as_str(),
            good: match error.map(Verdict::of) {
                None => Some(true),
                Some(verdict) => verdict.is_of_token().map(|is_of_token| !is_of_token),
            },
            error: error.map(|failure| Trouble {
                class: failure.class.as_str(),
                verdict: Verdict::of(failure).word(),
                message: &failure.cause,
                fix: &failure.remedy,
            }),
            safe,
            reach: probed.as_ref().ok().map(Reach::of),
            warnings: notes.lines().map(warning).collect(),
        }
    }
}

impl<'a> Reach<'a> {
    fn of(probed: &'a Probed) -> Self {
        let calls = |Spent { hour, day, budget }| Calls {
            last_hour: hour,
            last_day: day,
            budget,
            left: budget.saturating_sub(day),
        };
        let Probed { at, vaults, writes, expires, spent } = probed;
        Self { at, vaults, writes: *writes, expires: *expires, calls: spent.map(calls) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::token::Where;
    use crate::ipc::Class;

    fn shown(probed: &Result<Probed, Failure>, notes: &str) -> serde_json::Value {
        let config = tempfile::tempdir().unwrap();
        let (config, socket) = (config.path().into(), "/nonexistent".into());
        let chosen = Chosen::find(&Where { source: None, config, socket, development: false }).unwrap();
        serde_json::to_value(Report::new(&chosen, probed, true, notes)).unwrap()
    }

    #[test]
    fn a_token_that_is_good() {
        let vaults = vec![ProbedVault { name: "Servers".into(), id: "id".into(), items: Some(2) }];
        let spent = Some(Spent { hour: 6, day: 40, budget: 800 });
        let probed =
            Probed { at: "my.1password.com".into(), vaults, writes: Some(false), expires: None, spent };
        let expected = serde_json::json!({
            "source": "default", "kind": "service-account", "good": true, "error": null, "safe": true,
            "reach": {
                "at": "my.1password.com", "vaults": [{ "name": "Servers", "id": "id", "items": 2 }],
                "writes": false, "expires": null,
                "calls": { "lastHour": 6, "lastDay": 40, "budget": 800, "left": 760 },
            },
            "warnings": ["the token expires soon"],
        });
        assert_eq!(shown(&Ok(probed), "warning: the token expires soon\n"), expected);
    }

    #[test]
    fn a_server_that_does_not_answer_says_nothing_about_the_token() {
        for (class, good, verdict) in [
            (Class::Denied, Some(false), "rejected"),
            (Class::NoToken, Some(false), "no-token"),
            (Class::Away, None, "unreachable"),
            (Class::Misconfigured, None, "misconfigured"),
        ] {
            let shown = shown(&Err(Failure::new(class, "cause", "fix")), "");
            assert_eq!(shown["good"], serde_json::json!(good), "{class:?}");
            let error = serde_json::json!({ "class": class.as_str(), "verdict": verdict, "message": "cause", "fix": "fix" });
            assert_eq!((&shown["error"], &shown["reach"]), (&error, &serde_json::Value::Null));
        }
    }
}
