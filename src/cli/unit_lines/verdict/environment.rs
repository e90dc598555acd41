//! Judges `EnvironmentFile=` lines.

use super::{BY_RUN, Effect, LineVerdict, hidden};
use crate::cli::unit_lines::facts::{EnvironmentFiles, Unit};

/// Whether a path is in the unit's own credential directory, which exists only after the unit has its
/// credentials.
pub(super) fn is_own_credential(unit: &Unit, path: &str) -> bool {
    let directory =
        path.strip_prefix("/run/credentials/").and_then(|rest| rest.strip_prefix(unit.name.as_str()));
    directory.is_some_and(|rest| rest.starts_with('/'))
}

/// Judges `EnvironmentFile=` lines that make the unit fail, or may.
pub(in crate::cli::unit_lines) fn environment(unit: &Unit) -> Vec<LineVerdict> {
    let required = unit.environment.iter().filter(|file| !file.optional);
    let fails = |what: String| Some(LineVerdict::new(Effect::Fails, what));
    let verdicts = required.filter_map(|file| match is_own_credential(unit, &file.path) {
        true => fails(format!(
            "EnvironmentFile={} is read before systemd sets up credentials, and the unit fails; {BY_RUN}",
            file.path
        )),
        false => match &file.found {
            EnvironmentFiles::Nothing if file.path.contains(['*', '?', '[']) => fails(format!(
                "EnvironmentFile={0} matches no file, and the unit fails; create one, or, if the file is optional, write EnvironmentFile=-{0}",
                file.path
            )),
            EnvironmentFiles::Nothing => fails(format!(
                "EnvironmentFile={0} does not exist, and the unit fails; create it, or, if the file is optional, write EnvironmentFile=-{0}",
                file.path
            )),
            EnvironmentFiles::Directory(path) => fails(format!(
                "EnvironmentFile={}: {path} is a directory, and the unit fails; name files, for example {path}/*.env",
                file.path
            )),
            EnvironmentFiles::Unknown => Some(hidden(&format!("EnvironmentFile={}", file.path))),
            EnvironmentFiles::Files => None,
        },
    });
    verdicts.collect()
}
