//! The result of each expectation, and the report.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// The result of an expectation. Details contain only words from [`crate::words`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    AsExpected,
    Differs(Vec<String>),
    NotSeen(&'static str),
}

impl Finding {
    /// The result, from the differences in everything that was examined.
    pub(crate) fn of(looked_at: usize, differences: Vec<String>, otherwise: &'static str) -> Finding {
        match (looked_at, differences.is_empty()) {
            (_, false) => Finding::Differs(differences),
            (0, true) => Finding::NotSeen(otherwise),
            (_, true) => Finding::AsExpected,
        }
    }
}

/// An expectation and its result.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) claim: &'static str,
    pub(crate) finding: Finding,
}

/// The whole report.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What is compared, and the versions.
    pub(crate) head: Vec<String>,
    pub(crate) lines: Vec<Line>,
    /// Further observations without expectations.
    pub(crate) also: Vec<String>,
    /// The table of observed fields.
    pub(crate) fields: Vec<String>,
}

impl Report {
    /// Whether anything differs.
    pub(crate) fn differs(&self) -> bool {
        self.lines.iter().any(|line| matches!(line.finding, Finding::Differs(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.head {
            writeln!(f, "{line}")?;
        }
        let (mut expected, mut differ, mut unseen) = (0, 0, 0);
        f.write_char('\n')?;
        for Line { name, claim, finding } in &self.lines {
            match finding {
                Finding::AsExpected => {
                    expected += 1;
                    writeln!(f, "as expected  {name}: {claim}")?;
                }
                Finding::Differs(details) => {
                    differ += 1;
                    writeln!(f, "differs      {name}: {claim}")?;
                    for (detail, times) in counted(details) {
                        writeln!(
                            f,
                            "             - {detail}{}",
                            if times > 1 { format!(" ({times} times)") } else { String::new() }
                        )?;
                    }
                }
                Finding::NotSeen(why) => {
                    unseen += 1;
                    writeln!(f, "not seen     {name}: {claim}: {why}")?;
                }
            }
        }
        for (title, lines) in [("also seen", &self.also), ("fields by type, lengths in bytes", &self.fields)]
        {
            if !lines.is_empty() {
                writeln!(f, "\n{title}:")?;
            }
            for line in lines {
                writeln!(f, "  {line}")?;
            }
        }
        writeln!(f, "\n{expected} as expected, {differ} differ, {unseen} not seen")
    }
}

fn counted(details: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for detail in details {
        *counts.entry(detail.as_str()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_more_than_what_was_looked_at() {
        assert_eq!(Finding::of(0, vec![], "why"), Finding::NotSeen("why"));
        assert_eq!(Finding::of(2, vec![], "why"), Finding::AsExpected);
        assert_eq!(Finding::of(0, vec!["x".into()], "why"), Finding::Differs(vec!["x".into()]));
    }

    #[test]
    fn equal_details_are_one_line() {
        let finding = Finding::Differs(vec!["b".into(), "a".into(), "b".into()]);
        let report = Report { lines: vec![Line { name: "n", claim: "c", finding }], ..Report::default() };
        let text = report.to_string();
        assert!(text.contains("differs      n: c\n             - a\n             - b (2 times)\n"), "{text}");
        assert!(report.differs() && text.ends_with("0 as expected, 1 differ, 0 not seen\n"));
    }
}
