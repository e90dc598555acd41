//! Whether the vault files that a configuration names are there and can be used, for `onecred check`.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::config::{Loaded, Position, Problem, Report, Severity, Source, SourceKind};
use crate::resolver::examine_vault_file;

/// Looks at the vault files of this machine. One that can't be used is an error of its source.
pub(super) fn checked(mut loaded: Loaded) -> Result<Loaded, Report> {
    let files = loaded.settings.sources.iter().filter_map(|(name, source)| match &source.kind {
        SourceKind::File { path } => Some((name, source, path)),
        _ => None,
    });
    let mut problems: Vec<Problem> =
        files.filter_map(|(name, source, path)| problem(name.as_str(), source, path)).collect();
    problems.append(&mut loaded.warnings);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Report { problems });
    }
    loaded.warnings = problems;
    Ok(loaded)
}

fn problem(name: &str, source: &Source, path: &Path) -> Option<Problem> {
    let unseen = File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let (severity, what, remedy) = if unseen && !nix::unistd::geteuid().is_root() {
        let what = format!("the vault file {} of source {name} was not checked", path.display());
        (Severity::Warning, what, "run this as root".to_owned())
    } else {
        let failure = examine_vault_file(path).err()?;
        (Severity::Error, format!("source {name}: {}", failure.cause), failure.remedy)
    };
    let (file, line) = source.declared_at.rsplit_once(':').unwrap_or((&source.declared_at, ""));
    let at = line.parse().ok().map(|line| Position { line, column: 1 });
    Some(Problem { severity, file: file.into(), at, what, remedy })
}
