//! Environment files. The text of the template is parsed as systemd parses `EnvironmentFile=`, and each value
//! with a placeholder is written again.
//!
//! A value of harmless characters is written without quotes, so that systemd, shells and containers read the
//! same. Any other value is written in double quotes for systemd and shells, or literally for containers:
//! podman and docker treat quotes as part of the value.

use super::split::Token;
use super::{Bit, Escape, Form, Mistake, Pieces, Quotes, Wiped};

/// What systemd treats as whitespace, and the ends of lines.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];
const NEWLINE: [char; 2] = ['\n', '\r'];
/// The characters that a backslash must precede within double quotes.
const ESCAPED: &[u8] = b"\"\\`$";
/// The maximum size of one variable for the kernel in bytes, including its name and the =.
const MOST: usize = (128 << 10) - 1;

/// The states of systemd's own parser, and one more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Key,
    Before,
    Plain,
    PlainEscape,
    Single,
    Double,
    DoubleEscape,
    Comment,
    CommentEscape,
    /// After a placeholder whose value is complete lines.
    Whole,
}

/// A parsed part of a value.
enum Read {
    Char(char),
    Value { part: usize, escape: Escape },
}

struct Reader<'p> {
    state: State,
    line: usize,
    /// Text that was read but not written yet.
    raw: String,
    /// The length of the name with its =.
    key: usize,
    value: Vec<Read>,
    /// Where trailing whitespace of the value begins.
    blanks: Option<usize>,
    /// Whether the value has a placeholder.
    filled: bool,
    /// Whether the file is for containers.
    literal: bool,
    pieces: &'p mut Pieces,
}

/// Decides how to write each value, by its position.
pub(super) fn arrange(tokens: &[Token<'_>], literal: bool, pieces: &mut Pieces) -> Result<(), Mistake> {
    let mut reader = Reader {
        state: State::Start,
        line: 1,
        raw: String::new(),
        key: 0,
        value: Vec::new(),
        blanks: None,
        filled: false,
        literal,
        pieces,
    };
    for token in tokens {
        match token {
            Token::Text(text) => text.chars().try_for_each(|c| reader.char(c))?,
            Token::Value { part, name, filter, trim, .. } => {
                reader.placeholder(*part, name, *filter, *trim)?
            }
        }
    }
    reader.end()
}

impl Reader<'_> {
    fn char(&mut self, c: char) -> Result<(), Mistake> {
        use State::{
            Before, Comment, CommentEscape, Double, DoubleEscape, Key, Plain, PlainEscape, Single, Start,
            Whole,
        };
        self.raw.push(c);
        let newline = NEWLINE.contains(&c);
        self.state = match (self.state, c) {
            (Start, ';') if self.literal => {
                return self
                    .wrong("a comment starts with ;, which containers do not support", "start it with #");
            }
            (Start, '#' | ';') => Comment,
            (Start, _) if SPACE.contains(&c) => Start,
            (Start | Key, '=') => {
                self.key = self.raw.len();
                Before
            }
            (Start, _) => Key,
            (Key, _) if newline && self.literal => {
                let what =
                    "a line has no =: podman and docker then copy that variable from their own environment";
                return self.wrong(what, "write NAME=VALUE");
            }
            (Key, _) if newline => Start, // systemd ignores a line without =
            (Key, _) => Key,
            (Before, '\'') => Single,
            (Before, '"') => Double,
            (Before | Plain, '\\') => {
                self.blanks = None;
                PlainEscape
            }
            (Before | Plain, _) if newline => {
                self.assignment(c)?;
                Start
            }
            (Before, _) if SPACE.contains(&c) => Before,
            (Before | Plain, _) => {
                match SPACE.contains(&c) {
                    true => self.blanks = self.blanks.or(Some(self.value.len())),
                    false => self.blanks = None,
                }
                self.push(c, Plain)
            }
            (PlainEscape, _) if newline => Plain,
            (PlainEscape, _) => self.push(c, Plain),
            (Single | Double, '\'' | '"') if (self.state == Single) == (c == '\'') => Before,
            (Single, _) => self.push(c, Single),
            (Double, '\\') => DoubleEscape,
            (Double, _) => self.push(c, Double),
            (DoubleEscape, '\n') => Double,
            (DoubleEscape, _) => {
                if !(c.is_ascii() && ESCAPED.contains(&(c as u8))) {
                    self.value.push(Read::Char('\\'));
                }
                self.push(c, Double)
            }
            (Comment, '\\') => CommentEscape,
            (CommentEscape, _) if newline => {
                return self.wrong(
                    "a comment ends in \\, which versions of systemd read differently",
                    "end it otherwise",
                );
            }
            (Comment, _) if newline => Start,
            (Comment | CommentEscape, _) => Comment,
            (Whole, _) if newline => Start,
            (Whole, _) if SPACE.contains(&c) => Whole,
            (Whole, _) => {
                let what = "a raw placeholder is not alone on its line";
                return self.wrong(what, "put it on a separate line, or remove the | raw");
            }
        };
        if self.state == Start {
            self.pieces.text(&self.raw);
            self.raw.clear();
        }
        self.line += usize::from(c == '\n');
        Ok(())
    }

    fn placeholder(
        &mut self,
        part: usize,
        name: &str,
        filter: Option<Form>,
        trim: bool,
    ) -> Result<(), Mistake> {
        let shown = format!("{{{{{name}}}}}");
        let raw = filter == Some(Form::Raw);
        if matches!(filter, Some(Form::Yaml | Form::Toml)) {
            let what = format!("{shown} has an escape for another type of file");
            return self.wrong(&what, "after the |, use env, json or raw here");
        }
        match self.state {
            State::Start if raw => {
                self.pieces.text(&self.raw);
                self.raw.clear();
                self.pieces.value(part, Escape { trim, ..Escape::default() });
                self.state = State::Whole;
                return Ok(());
            }
            State::Before | State::Plain | State::Single | State::Double if raw => {
                let what = format!("{shown} can't be raw within a variable");
                return self.wrong(&what, "remove the | raw; whole lines can be raw, alone on their line");
            }
            State::Before => self.state = State::Plain,
            State::Plain | State::Single | State::Double => {}
            State::PlainEscape | State::DoubleEscape => {
                let what = format!("a \\ stands before {shown}");
                return self.wrong(&what, "remove it: values are escaped as they need it");
            }
            State::Comment | State::CommentEscape => {
                return self.wrong(&format!("{shown} stands in a comment"), "remove it there");
            }
            State::Start | State::Key | State::Whole => {
                let what = format!("{shown} is in the place of a variable name");
                let remedy = "write NAME={{…}}; for a secret that contains whole lines, write {{… | raw}} on a separate line";
                return self.wrong(&what, remedy);
            }
        }
        self.blanks = None;
        self.filled = true;
        let json = if filter == Some(Form::Json) { Quotes::Around } else { Quotes::None };
        self.value.push(Read::Value { part, escape: Escape { json, trim, ..Escape::default() } });
        Ok(())
    }

    fn push(&mut self, c: char, state: State) -> State {
        self.value.push(Read::Char(c));
        state
    }

    /// Ends a variable.
    fn assignment(&mut self, newline: char) -> Result<(), Mistake> {
        let name = self.raw[..self.key - 1].trim_matches(SPACE);
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid {
            let what = format!("systemd does not accept the variable name {name:?}");
            return self.wrong(&what, "a name has letters, digits and _, and does not begin with a digit");
        }
        let value = std::mem::take(&mut self.value);
        let blanks = self.blanks.take();
        let filled = std::mem::take(&mut self.filled);
        if !filled && !self.literal {
            return Ok(()); // it is written unchanged
        }
        let mut bits = Vec::new();
        for read in value.into_iter().take(blanks.unwrap_or(usize::MAX)) {
            match (read, bits.last_mut()) {
                (Read::Char(c), Some(Bit::Text(text))) => text.push(c),
                (Read::Char(c), _) => bits.push(Bit::Text(c.to_string())),
                (Read::Value { part, escape }, _) => bits.push(Bit::Value { part, escape }),
            }
        }
        let has_line = |bit: &Bit| matches!(bit, Bit::Text(text) if text.contains(NEWLINE));
        if self.literal && bits.iter().any(has_line) {
            let what = "a value has several lines, which an environment file for containers can't contain";
            return self.wrong(what, "write it in one line");
        }
        let key = if self.literal { format!("{}=", name) } else { self.raw[..self.key].to_owned() };
        self.pieces.text(&key);
        self.pieces.variable(bits, self.literal);
        self.raw = newline.to_string();
        Ok(())
    }

    fn end(mut self) -> Result<(), Mistake> {
        match self.state {
            State::Before | State::Plain | State::PlainEscape => {
                self.assignment('\n')?;
            }
            State::Single | State::Double | State::DoubleEscape => {
                return self.wrong("a quote is not closed before the content ends", "close it");
            }
            _ => {}
        }
        self.pieces.text(&self.raw);
        Ok(())
    }

    fn wrong(&self, what: &str, remedy: &str) -> Result<(), Mistake> {
        let what = format!("the content is not an environment file: {what} (line {})", self.line);
        Err(Mistake { what, remedy: remedy.to_owned() })
    }
}

/// Whether an environment file can contain a value.
pub(super) fn check(value: &[u8], literal: bool) -> Result<(), &'static str> {
    let text = str::from_utf8(value)
        .map_err(|_| "it is not UTF-8, which systemd requires in an environment file")?;
    if text.len() >= MOST {
        return Err("it is longer than a variable of the environment can be (128 KiB)");
    }
    for c in text.chars() {
        let code = u32::from(c);
        if c == '\0' {
            return Err("it contains a NUL byte, which an environment can't contain");
        }
        if (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe {
            return Err(
                "it contains a Unicode noncharacter, and systemd rejects the whole file because of it",
            );
        }
        if literal && NEWLINE.contains(&c) {
            return Err("it has several lines, which an environment file for containers can't contain");
        }
    }
    Ok(())
}

/// Writes the complete value of a variable: unchanged if every reader reads it as it is or if only containers
/// read it, otherwise in quotes.
pub(super) fn write_variable(value: &[u8], literal: bool, out: &mut Wiped) {
    match literal || value.iter().all(|byte| is_harmless(*byte)) {
        true => out.extend_from_slice(value),
        false => write_quoted(value, out),
    }
}

/// Whether systemd, shells and containers all read this byte literally in a value without quotes.
fn is_harmless(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:@%+,=^".contains(&byte)
}

/// Writes a value in double quotes.
pub(super) fn write_quoted(value: &[u8], out: &mut Wiped) {
    out.push(b'"');
    for &byte in value {
        if ESCAPED.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
