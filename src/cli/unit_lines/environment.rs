//! Finds the files of an `EnvironmentFile=` line. systemd expands globs but not braces. If the line
//! matches nothing, or a directory, the unit fails.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::facts::EnvironmentFiles;
use crate::domain::glob::Glob;

/// The maximum number of paths that are examined.
const MOST: usize = 4096;

/// What a line finds on this machine.
pub(super) fn find(pattern: &str) -> EnvironmentFiles {
    let mut found = Vec::new();
    let mut hidden = false;
    expand(Path::new("/"), pattern.trim_start_matches('/'), &mut found, &mut hidden);
    match found.iter().find(|path| path.is_dir()) {
        Some(directory) => EnvironmentFiles::Directory(directory.display().to_string()),
        None if !found.is_empty() => EnvironmentFiles::Files,
        None if hidden => EnvironmentFiles::Unknown,
        None => EnvironmentFiles::Nothing,
    }
}

/// Expands a pattern from a directory. Sets `hidden` to true if a directory cannot be examined.
fn expand(directory: &Path, pattern: &str, found: &mut Vec<PathBuf>, hidden: &mut bool) {
    let (part, rest) = pattern.split_once('/').map_or((pattern, None), |(part, rest)| (part, Some(rest)));
    let mut follow = |path: PathBuf| match rest {
        Some(rest) => expand(&path, rest, found, hidden),
        None => match fs::metadata(&path) {
            Ok(_) if found.len() < MOST => found.push(path),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => *hidden = true,
            _ => {}
        },
    };
    let glob =
        Some(part).filter(|part| part.contains(['*', '?', '['])).and_then(|part| Glob::parse(part).ok());
    let Some(glob) = glob else { return follow(directory.join(without_escapes(part))) };
    match fs::read_dir(directory) {
        Ok(entries) => {
            let names = entries.flatten().take(MOST).filter_map(|entry| entry.file_name().into_string().ok());
            names
                .filter(|name| glob.matches(name) && (part.starts_with('.') || !name.starts_with('.')))
                .for_each(|name| follow(directory.join(name)));
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => *hidden = true,
        Err(_) => {}
    }
}

fn without_escapes(part: &str) -> String {
    let (mut out, mut rest) = (String::new(), part.chars());
    while let Some(c) = rest.next() {
        out.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_line_finds() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().to_str().unwrap();
        fs::create_dir_all(place.path().join("d/dir.env")).unwrap();
        for file in ["a.env", "b.env", ".hidden.env", "d/c.env"] {
            fs::write(place.path().join(file), "A=1\n").unwrap();
        }
        let directory = EnvironmentFiles::Directory(format!("{root}/d/dir.env"));
        for (pattern, expected) in [
            ("a.env", EnvironmentFiles::Files),
            ("none.env", EnvironmentFiles::Nothing),
            ("*.env", EnvironmentFiles::Files),
            ("?.env", EnvironmentFiles::Files),
            ("[ab].env", EnvironmentFiles::Files),
            ("x*.env", EnvironmentFiles::Nothing),
            ("h*.env", EnvironmentFiles::Nothing),
            (".h*.env", EnvironmentFiles::Files),
            ("*/c.env", EnvironmentFiles::Files),
            ("*/x.env", EnvironmentFiles::Nothing),
            ("a.env/x*", EnvironmentFiles::Nothing),
            ("{x,a}.env", EnvironmentFiles::Nothing),
            ("d/dir.env", directory.clone()),
            ("d/*.env", directory),
        ] {
            assert_eq!(find(&format!("{root}/{pattern}")), expected, "{pattern}");
        }
    }
}
