//! Chooses which of several files to install: the newest known release for this machine. Pure.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use crate::resolver::service_account::install::Sum;

/// A file with a library for this machine.
pub(super) struct Candidate {
    /// The file.
    pub(super) path: PathBuf,
    /// The content of its library.
    pub(super) library: Vec<u8>,
    /// The identity of the library.
    pub(super) sum: Sum,
}

/// A file that is not installed, and why.
pub(super) type Unused = (PathBuf, String);

/// What to install, and why the other files are not installed.
pub(super) struct Choice {
    /// The file.
    pub(super) chosen: Candidate,
    /// The other files.
    pub(super) others: Vec<Unused>,
}

/// Chooses the newest known release, or if there is none, the library whose SHA-256 the administrator has
/// given. The error is that of the first candidate.
pub(super) fn choose(
    mut candidates: Vec<Candidate>,
    vouched: Option<&str>,
    unknown: impl Fn(&Candidate) -> String,
) -> Result<Choice, String> {
    let is_vouched =
        |candidate: &Candidate| vouched.is_some_and(|hex| hex.eq_ignore_ascii_case(&candidate.sum.sha256));
    // a library with the given SHA-256 comes first
    candidates.sort_by_key(|candidate| Reverse((is_vouched(candidate), candidate.sum.version.map(parts))));
    let mut rest = candidates.into_iter();
    let Some(chosen) = rest.next() else { return Err("no file is suitable".into()) };
    if chosen.sum.version.is_none() && !is_vouched(&chosen) {
        return Err(unknown(&chosen));
    }
    let others = rest.map(|other| {
        let why = match other.sum.version {
            _ if other.sum.sha256 == chosen.sum.sha256 => {
                format!("the same library as in {}", name(&chosen.path))
            }
            Some(version) => format!("another version, {version}"),
            None => format!("not a known release (SHA-256 {})", other.sum.sha256),
        };
        (other.path, why)
    });
    let others = others.collect();
    Ok(Choice { chosen, others })
}

/// The numbers of a version.
fn parts(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(path: &str, sha256: &str, version: Option<&'static str>) -> Candidate {
        Candidate { path: path.into(), library: Vec::new(), sum: Sum { sha256: sha256.into(), version } }
    }

    #[test]
    fn the_newest_known_release_is_chosen() {
        let unknown = |candidate: &Candidate| format!("{} is unknown", candidate.path.display());
        let all = || {
            vec![
                candidate("/d/other.so", "ff", None),
                candidate("/d/old.whl", "aa", Some("0.4.2")),
                candidate("/d/new.whl", "bb", Some("0.4.10")),
                candidate("/d/new.tar.gz", "bb", Some("0.4.10")),
            ]
        };
        let choice = choose(all(), None, unknown).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(choice.chosen.path, Path::new("/d/new.whl"));
        let others: Vec<(&str, &str)> =
            choice.others.iter().map(|(path, why)| (path.to_str().unwrap(), why.as_str())).collect();
        assert_eq!(
            others,
            [
                ("/d/new.tar.gz", "the same library as in new.whl"),
                ("/d/old.whl", "another version, 0.4.2"),
                ("/d/other.so", "not a known release (SHA-256 ff)"),
            ]
        );
        let choice = choose(all(), Some("FF"), unknown).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(choice.chosen.path, Path::new("/d/other.so"), "the administrator asked for this one");
        let refused = choose(vec![candidate("/d/other.so", "ff", None)], Some("00"), unknown).err();
        assert_eq!(refused.as_deref(), Some("/d/other.so is unknown"));
    }
}
