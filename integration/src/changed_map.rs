//! Checks `integration/changed.map`: everything that it names exists, and it covers every directory of the
//! sources.
use crate::installed::repository;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Directories that are not committed.
const BUILT: [&str; 5] = [".git", "target", "node_modules", "found", "artifacts"];

/// All files below a directory, as paths relative to the repository.
fn files(folder: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if !BUILT.iter().any(|built| path.ends_with(built)) {
                files(&path, all);
            }
        } else {
            all.push(path.strip_prefix(repository()).unwrap().display().to_string());
        }
    }
}

fn repository_files() -> Vec<String> {
    let mut all = Vec::new();
    files(repository(), &mut all);
    all
}

/// The pattern and words of each line.
fn lines(map: &str) -> Vec<(&str, Vec<&str>)> {
    let lines = map.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line| {
        let mut words = str::split_whitespace(line);
        (words.next().unwrap(), words.collect())
    };
    lines.map(split).collect()
}

/// Matches like a shell's `case`, in which `*` also matches slashes. Other wildcards are not used.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((start, rest)) => path.strip_prefix(start).is_some_and(|left| {
            (0..=left.len()).any(|at| left.is_char_boundary(at) && matches(rest, &left[at..]))
        }),
    }
}

/// The names after `marker` in a text, up to `end`.
fn names<'a>(text: &'a str, marker: &str, end: char) -> Vec<&'a str> {
    text.split(marker).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

fn wrong(map: &str, files: &[String], known: &BTreeSet<String>) -> Vec<String> {
    let (lines, mut wrong) = (lines(map), Vec::new());
    for (pattern, words) in &lines {
        if !files.iter().any(|file| matches(pattern, file)) {
            wrong.push(format!("no file matches {pattern}: write where its files are now"));
        }
        let unknown = words.iter().filter(|word| !known.contains(**word));
        wrong.extend(unknown.map(|word| format!("{pattern}: {word} is neither a step nor a theme")));
    }
    let sources = files.iter().filter(|file| file.starts_with("src/"));
    let folders: BTreeSet<&Path> = sources.filter_map(|file| Path::new(file).parent()).collect();
    for folder in folders.into_iter().filter(|folder| *folder != Path::new("src")) {
        let inside = |file: &&String| Path::new(file.as_str()).parent() == Some(folder);
        let is_known = |file: &String| lines.iter().any(|(pattern, _)| matches(pattern, file));
        if !files.iter().filter(inside).any(is_known) {
            wrong.push(format!("no line matches anything in {}: say what it concerns", folder.display()));
        }
    }
    wrong
}

/// All valid words: the themes in the files of cases, and the steps of integration/run.
fn known() -> BTreeSet<String> {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let run = read(repository().join("integration/run"));
    let mut known: BTreeSet<String> = ["all", "-"].map(str::to_owned).into();
    known.extend(names(&run, "check_if ", ' ').into_iter().map(str::to_owned));
    for file in repository_files() {
        if file.starts_with("integration/cases/") && file.ends_with(".rs") {
            known.extend(
                names(&read(repository().join(file)), "name: \"", '"').into_iter().map(str::to_owned),
            );
        }
    }
    known
}

#[test]
fn what_the_map_names_exists_and_every_folder_is_known() {
    let map = fs::read_to_string(repository().join("integration/changed.map")).unwrap();
    let known = known();
    assert!(known.contains("judges") && known.contains("sealed-alone"), "{known:?}");
    let wrong = wrong(&map, &repository_files(), &known);
    assert!(wrong.is_empty(), "integration/changed.map:\n{}", wrong.join("\n"));
}

#[test]
fn mistakes_in_a_map_are_found() {
    let files = ["src/lib.rs", "src/a/b.rs", "src/c/d/e.rs"].map(str::to_owned);
    let known = BTreeSet::from(["unit".to_owned()]);
    assert_eq!(wrong("# x\nsrc/a/* unit\n\nsrc/*/e* unit\n", &files, &known), Vec::<String>::new());
    let found = wrong("src/a/*\tunit typo\nsrc/x* unit\n", &files, &known).join("\n");
    for part in ["src/a/*: typo is neither", "no file matches src/x*", "no line matches anything in src/c/d:"]
    {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert!(!found.contains("src/a:"), "{found}");
}
