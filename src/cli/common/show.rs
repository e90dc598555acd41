//! Output of the verbs: text for people, JSON for programs, colours only on terminals.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::common::text::width;

/// How to format text for people: whether to use colours, and the maximum width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    colours: bool,
    width: usize,
}

impl Paint {
    #[cfg(test)]
    pub(crate) const NONE: Self = Self::plain(crate::cli::common::text::USUAL);

    #[cfg(test)]
    pub(crate) const fn plain(width: usize) -> Self {
        Self { colours: false, width }
    }

    #[cfg(test)]
    pub(crate) const fn coloured(width: usize) -> Self {
        Self { colours: true, width }
    }

    /// Settings for standard output. Uses colours if it is a terminal that supports them and they are not
    /// turned off (<https://no-color.org>).
    pub(crate) fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let colours = io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        Self { colours, width: width(&io::stdout()) }
    }

    /// The maximum width of a line in columns.
    pub(crate) fn width(self) -> usize {
        self.width
    }

    /// Formats a heading, or something to notice.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Formats a problem.
    pub(crate) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Formats something that is in order.
    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Removes control characters from foreign text, which a terminal would interpret.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Formats an age for people.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Formats `3 secrets` or `1 secret`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Writes a value as JSON.
pub(crate) fn json(out: &mut dyn Write, what: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, what)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        assert_eq!(
            [0, 119, 120, 7_199, 7_200, 172_800].map(age),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]
        );
    }
}
