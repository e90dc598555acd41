//! Problems of a configuration, with their positions and fixes. They are collected, so that all of them are
//! reported together.

use std::fmt;
use std::path::{Path, PathBuf};

use super::texts::Texts;

/// Whether a problem makes a configuration invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is valid, but probably not what was intended.
    Warning,
    /// The configuration is invalid.
    Error,
}

impl Severity {
    /// The name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A line and a column, both from 1. The column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A problem of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it is an error or a warning.
    pub severity: Severity,
    /// The file, or the directory if the problem concerns the directory.
    pub file: PathBuf,
    /// The position; `None` if the problem concerns the whole file.
    pub at: Option<Position>,
    /// What is wrong.
    pub what: String,
    /// How to fix it; empty if `what` says that.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}: {}", self.severity.as_str(), self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why a configuration is invalid: all problems, including warnings, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The problems. At least one is an error.
    pub problems: Vec<Problem>,
}

impl Report {
    /// The first error in one line, with its position and fix.
    pub fn first_error(&self) -> String {
        let first = self.problems.iter().find(|problem| problem.severity == Severity::Error);
        first.map(ToString::to_string).unwrap_or_default().replace('\n', " ")
    }

    /// The number of errors, without warnings.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|p| p.severity == Severity::Error).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// A position: the number of a file in [`Problems`], and a byte offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offset {
    pub(crate) file: usize,
    pub(crate) byte: usize,
}

/// The files that were read and the problems that were found, while a configuration is loaded.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    files: Vec<Text>,
    found: Vec<(Option<Offset>, Problem)>,
    errors: usize,
}

#[derive(Debug)]
struct Text {
    file: PathBuf,
    text: String,
    lines: Vec<usize>, // the offset of each line
}

impl Problems {
    /// Adds a file, and returns its number.
    pub(crate) fn add_file(&mut self, file: &Path, text: String) -> usize {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(index, _)| index + 1)).collect();
        self.files.push(Text { file: file.to_owned(), text, lines });
        self.files.len() - 1
    }

    /// Adds an error at a position.
    pub(crate) fn error(&mut self, place: Offset, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, place, what.into(), remedy.into());
    }

    /// Adds a warning at a position.
    pub(crate) fn warn(&mut self, place: Offset, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, place, what.into(), remedy.into());
    }

    /// Adds a problem that concerns a whole file or directory.
    pub(crate) fn about(
        &mut self,
        severity: Severity,
        file: &Path,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (what, remedy) = (what.into(), remedy.into());
        self.errors += usize::from(severity == Severity::Error);
        self.found.push((None, Problem { severity, file: file.to_owned(), at: None, what, remedy }));
    }

    fn add(&mut self, severity: Severity, place: Offset, what: String, remedy: String) {
        let (file, at) = (self.files[place.file].file.clone(), None); // see take_list
        self.errors += usize::from(severity == Severity::Error);
        self.found.push((Some(place), Problem { severity, file, at, what, remedy }));
    }

    /// Warns that no unit gets a value, at the first file, unless errors may be the reason.
    pub(crate) fn warn_of_nothing(&mut self) {
        if !self.files.is_empty() && self.errors() == 0 {
            let what = "no unit or file gets a secret: no secrets or rules are declared";
            self.warn(Offset { file: 0, byte: 0 }, what, "declare some in \"secrets\"");
        }
    }

    /// The number of errors so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// The text of a file.
    pub(crate) fn text(&self, file: usize) -> &str {
        &self.files[file].text
    }

    /// A position as `FILE:LINE:COLUMN`.
    pub(crate) fn show(&self, place: Offset) -> String {
        let Position { line, column } = self.position(place);
        format!("{}:{line}:{column}", self.files[place.file].file.display())
    }

    /// A position as `FILE:LINE`.
    pub(crate) fn line(&self, place: Offset) -> String {
        let Text { file, lines, .. } = &self.files[place.file];
        format!("{}:{}", file.display(), line(lines, place.byte))
    }

    fn position(&self, place: Offset) -> Position {
        let line = line(&self.files[place.file].lines, place.byte);
        let start = self.files[place.file].lines[line - 1];
        Position { line, column: 1 + self.characters(place.file, start, place.byte) }
    }

    fn characters(&self, file: usize, from: usize, to: usize) -> usize {
        self.files[file].text.get(from..to).map_or(to - from, |part| part.chars().count())
    }

    /// The texts of the files.
    pub(crate) fn into_texts(self) -> Texts {
        Texts(self.files.into_iter().map(|text| (text.file, text.text)).collect())
    }

    /// Returns all problems in the order of the files. Those that concern whole files come first.
    pub(crate) fn take_list(&mut self) -> Vec<Problem> {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|(place, _)| *place);
        let mut before: Option<(Offset, Position)> = None;
        for (place, problem) in &mut found {
            let Some(place) = *place else { continue };
            let at = match before {
                // The file may be one long line, so its columns are counted only once.
                Some((last, Position { line: same, column }))
                    if last.file == place.file && line(&self.files[place.file].lines, place.byte) == same =>
                {
                    Position {
                        line: same,
                        column: column + self.characters(place.file, last.byte, place.byte),
                    }
                }
                _ => self.position(place),
            };
            before = Some((place, at));
            problem.at = Some(at);
        }
        found.dedup_by(|a, b| a.1 == b.1);
        found.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// The line of a byte offset, from 1.
fn line(starts: &[usize], byte: usize) -> usize {
    starts.partition_point(|start| *start <= byte)
}
