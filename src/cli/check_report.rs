//! The JSON output of `onecred check`.

use std::path::Path;

use serde::Serialize;

use crate::config::{Loaded, Problem, Severity};

/// The configuration in the output of `--json`.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Configuration {
    /// Whether it has no errors.
    pub(super) valid: bool,
    /// The number of entries of each type.
    pub(super) summary: Summary,
    /// The errors and warnings, in the order of the files.
    pub(super) problems: Vec<Shown>,
}

/// Numbers of declarations, which are missing if the configuration has errors, and of problems.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub(super) struct Summary {
    secrets: Option<usize>,
    templates: Option<usize>,
    rules: Option<usize>,
    sources: Option<usize>,
    errors: usize,
    warnings: usize,
}

/// A problem.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Shown {
    /// `error` or `warning`.
    severity: &'static str,
    /// The file or directory; `None` for a problem of this host.
    file: Option<String>,
    /// The line, from 1; `None` for the whole file.
    line: Option<usize>,
    /// The column in characters, from 1.
    column: Option<usize>,
    /// What is wrong.
    pub(super) message: String,
    /// What to do, unless the message contains it.
    fix: Option<String>,
}

impl Configuration {
    /// The report of a valid configuration. `host` has its problems on this host.
    pub(super) fn valid(loaded: &Loaded, host: &[(Severity, String)]) -> Self {
        let settings = &loaded.settings;
        let of_host = host.iter().map(|(severity, message)| Shown {
            severity: severity.as_str(),
            file: None,
            line: None,
            column: None,
            message: message.clone(),
            fix: None,
        });
        let problems: Vec<Shown> = of_host.chain(loaded.warnings.iter().map(Shown::of)).collect();
        let summary = Summary {
            secrets: Some(settings.policy.secrets().count()),
            templates: Some(settings.templates.len()),
            rules: Some(settings.policy.rules().len()),
            sources: Some(settings.sources.len()),
            errors: problems.iter().filter(|problem| problem.severity == "error").count(),
            warnings: problems.iter().filter(|problem| problem.severity == "warning").count(),
        };
        Self { valid: true, summary, problems }
    }

    /// The report of a configuration with errors.
    pub(super) fn invalid(problems: &[Problem]) -> Self {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let summary = Summary { errors, warnings: problems.len() - errors, ..Summary::default() };
        Self { valid: false, summary, problems: problems.iter().map(Shown::of).collect() }
    }

    /// Removes the warnings, but keeps their count.
    pub(super) fn errors_only(mut self) -> Self {
        self.problems.retain(|problem| problem.severity == "error");
        self
    }
}

impl Shown {
    fn of(problem: &Problem) -> Self {
        let path = |path: &Path| path.display().to_string();
        Self {
            severity: problem.severity.as_str(),
            file: Some(path(&problem.file)),
            line: problem.at.map(|at| at.line),
            column: problem.at.map(|at| at.column),
            message: problem.what.clone(),
            fix: Some(problem.remedy.clone()).filter(|fix| !fix.is_empty()),
        }
    }
}
