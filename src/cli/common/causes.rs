//! Groups secrets with the same problem, so that each problem is shown once.

use std::cmp::Reverse;

use super::text::wrap;
use crate::cli::common::show::{self, Paint};

/// The maximum number of names in a list.
const NAMES: usize = 8;
const INDENT: &str = "    ";

/// A problem, and the secrets that have it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Cause<'a> {
    /// The problem.
    pub(in crate::cli) message: &'a str,
    /// The names of the secrets.
    pub(in crate::cli) names: Vec<&'a str>,
}

/// Groups names by their messages. The most frequent message comes first.
pub(in crate::cli) fn group<'a>(problems: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Cause<'a>> {
    let mut causes: Vec<Cause<'a>> = Vec::new();
    for (name, message) in problems {
        match causes.iter_mut().find(|cause| cause.message == message) {
            Some(cause) => cause.names.push(name),
            None => causes.push(Cause { message, names: vec![name] }),
        }
    }
    causes.sort_by_key(|cause| Reverse(cause.names.len()));
    causes
}

/// The problems of templates, without those of their parts that are reported for secrets.
pub(in crate::cli) fn not_in<'a>(
    reported: &[(&str, &str)],
    problems: impl Iterator<Item = (&'a str, &'a str)>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    problems.filter(|(_, message)| {
        let is_part =
            |of_secret: &str| message.strip_suffix(of_secret).is_some_and(|rest| rest.ends_with(": "));
        !reported.iter().any(|(_, of_secret)| !of_secret.is_empty() && is_part(of_secret))
    })
}

impl Cause<'_> {
    /// `db-password: MESSAGE`, or `40 secrets: MESSAGE`.
    pub(in crate::cli) fn headline(&self) -> String {
        self.headline_of(self.message)
    }

    /// Like [`Self::headline`], but with the given message.
    pub(in crate::cli) fn headline_of(&self, message: &str) -> String {
        let subject = match self.names.as_slice() {
            [name] => (*name).to_owned(),
            names => show::count(names.len(), "secret"),
        };
        show::clean(&format!("{subject}: {message}"))
    }

    /// The names of the secrets, unless the headline has them: `a, b, c and 37 more`.
    pub(in crate::cli) fn which(&self) -> Option<String> {
        (self.names.len() > 1).then(|| show::clean(&names(&self.names)))
    }
}

/// Lists names up to the limit: `a, b, c and 37 more`.
pub(in crate::cli) fn names(names: &[&str]) -> String {
    match names.len().checked_sub(NAMES).filter(|more| *more > 1) {
        Some(more) => format!("{} and {more} more", names[..NAMES].join(", ")),
        None => names.join(", "),
    }
}

/// Formats the causes as lines that fit the terminal.
pub(in crate::cli) fn lines(causes: &[Cause<'_>], paint: Paint) -> String {
    let mut text = String::new();
    for cause in causes {
        for line in wrap(&cause.headline(), paint.width(), "", "  ") {
            text.push_str(&paint.red(&line));
            text.push('\n');
        }
        for line in cause.which().iter().flat_map(|which| wrap(which, paint.width(), INDENT, INDENT)) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_said_once() {
        let causes = group([("a", "gone: x"), ("b", "no token"), ("c", "no token")]);
        let expected = [
            Cause { message: "no token", names: vec!["b", "c"] },
            Cause { message: "gone: x", names: vec!["a"] },
        ];
        assert_eq!(causes, expected);
        assert_eq!(lines(&causes, Paint::NONE), "2 secrets: no token\n    b, c\na: gone: x\n");
        assert_eq!(lines(&[], Paint::NONE), "");
    }

    #[test]
    fn many_names_are_counted() {
        let many: Vec<String> = (0..40).map(|number| format!("secret-{number:02}")).collect();
        let message = "no token: there is none for source default; set one with: onecred token set";
        let causes = group(many.iter().map(|name| (name.as_str(), message)));
        let expected = "\
40 secrets: no token: there is none for source default; set one with: onecred
  token set
    secret-00, secret-01, secret-02, secret-03, secret-04, secret-05, secret-06,
    secret-07 and 32 more
";
        assert_eq!(lines(&causes, Paint::NONE), expected);
        let nine: Vec<&str> = many.iter().take(9).map(String::as_str).collect();
        assert!(names(&nine).ends_with("secret-08"), "\"and 1 more\" is not shorter than the name");
    }
}
