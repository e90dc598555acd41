//! Text that fits the terminal: its width, and messages wrapped between words.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// The width in columns if it is unknown.
pub(in crate::cli) const USUAL: usize = 80;
/// The minimum width in columns.
const NARROWEST: usize = 40;
/// The journal shows each message as one entry, so lines are not wrapped.
const UNLIMITED: usize = u16::MAX as usize;

/// The width of standard output or standard error: `COLUMNS` if set, otherwise that of the terminal,
/// otherwise 80.
pub(in crate::cli) fn width(stream: &(impl AsFd + IsTerminal)) -> usize {
    let columns = std::env::var("COLUMNS").ok();
    let terminal = stream.is_terminal().then(|| terminal_size::terminal_size_of(stream)).flatten();
    choose(columns.as_deref(), terminal.map(|(width, _)| width.0.into()), || is_journal(stream))
}

fn choose(columns: Option<&str>, terminal: Option<usize>, is_journal: impl FnOnce() -> bool) -> usize {
    let asked = columns.and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    match asked.or(terminal.filter(|width| *width > 0)) {
        Some(width) => width.clamp(NARROWEST, UNLIMITED),
        None if is_journal() => UNLIMITED,
        None => USUAL,
    }
}

/// Whether systemd has connected the stream to the journal (`JOURNAL_STREAM` in systemd.exec(5)).
fn is_journal(stream: &impl AsFd) -> bool {
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(stream).is_ok_and(|file| journal == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Wraps a text between words. A word that is longer than a line is not split, because it may be a path or a
/// command to copy.
pub(in crate::cli) fn wrap(text: &str, width: usize, first: &str, others: &str) -> Vec<String> {
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(others)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(text, options).into_iter().map(Into::into).collect()
}

/// A writer that wraps each line.
///
/// Text that is flushed before the end of its line (a prompt, a progress bar) is passed on unchanged.
pub(in crate::cli) struct Wrapping<W: Write> {
    inner: W,
    width: usize,
    line: Vec<u8>,
    /// Whether the beginning of this line was already passed on.
    begun: bool,
}

impl<W: Write> Wrapping<W> {
    /// Wraps lines at `width` columns.
    pub(in crate::cli) fn new(inner: W, width: usize) -> Self {
        Self { inner, width, line: Vec::new(), begun: false }
    }

    fn end_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let begun = std::mem::take(&mut self.begun);
        match std::str::from_utf8(&line) {
            Ok(text) if !begun && !text.contains(char::is_control) => {
                let indent = &text[..text.len() - text.trim_start_matches(' ').len()];
                let lines = wrap(&text[indent.len()..], self.width, indent, &format!("{indent}  "));
                writeln!(self.inner, "{}", lines.join("\n"))
            }
            _ => self.inner.write_all(&line).and_then(|()| self.inner.write_all(b"\n")),
        }
    }
}

impl<W: Write> Write for Wrapping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.line.extend(end);
                    self.end_line()?;
                }
                None => self.line.extend(piece),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.line.is_empty() {
            self.begun = true;
            self.inner.write_all(&std::mem::take(&mut self.line))?;
        }
        self.inner.flush()
    }
}

impl<W: Write> Drop for Wrapping<W> {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_what_was_asked_for_or_the_terminals() {
        let never = || panic!("not needed");
        for (columns, terminal, expected) in [
            (Some("120"), Some(90), 120),
            (None, Some(200), 200),
            (Some("0"), Some(90), 90),
            (Some("wide"), Some(90), 90),
            (Some("5"), None, NARROWEST),
            (None, Some(10), NARROWEST),
        ] {
            assert_eq!(choose(columns, terminal, never), expected, "{columns:?} {terminal:?}");
        }
        assert_eq!(choose(None, None, || false), 80);
        assert_eq!(choose(None, Some(0), || false), 80, "some serial consoles do not know their width");
        assert_eq!(choose(None, None, || true), UNLIMITED);
    }

    #[test]
    fn text_wraps_between_words_by_what_a_terminal_shows() {
        assert_eq!(wrap("one two three", 8, "", "  "), ["one two", "  three"]);
        assert_eq!(wrap("秘密 秘密 秘密", 9, "", ""), ["秘密 秘密", "秘密"], "two columns each");
        assert_eq!(wrap("a op://vault/item/field b", 10, "", ""), ["a", "op://vault/item/field", "b"]);
        assert_eq!(wrap("", 10, "", ""), [""]);
    }

    fn written(width: usize, pieces: &[&str]) -> String {
        let mut all = Vec::new();
        let mut wrapping = Wrapping::new(&mut all, width);
        for piece in pieces {
            wrapping.write_all(piece.as_bytes()).unwrap();
            if !piece.contains('\n') {
                wrapping.flush().unwrap();
            }
        }
        drop(wrapping);
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn lines_wrap_and_what_is_flushed_early_does_not() {
        assert_eq!(written(10, &["onecred: one two\n"]), "onecred:\n  one two\n");
        assert_eq!(written(10, &["  one two three\nx\n\n"]), "  one two\n    three\nx\n\n");
        assert_eq!(written(10, &["a prompt of words: "]), "a prompt of words: ");
        assert_eq!(written(10, &["a prompt: ", "answered by many\n"]), "a prompt: answered by many\n");
        assert_eq!(written(10, &["\r\x1b[Kone two three\n"]), "\r\x1b[Kone two three\n");
    }

    #[test]
    fn lines_that_come_in_pieces_are_one_line() {
        let mut all = Vec::new();
        let mut wrapping = Wrapping::new(&mut all, 10);
        for piece in ["one ", "two ", "three"] {
            wrapping.write_all(piece.as_bytes()).unwrap();
        }
        writeln!(wrapping).unwrap();
        drop(wrapping);
        assert_eq!(all, b"one two\n  three\n");
    }
}
