//! Files for `EnvironmentFile=`, read as systemd reads them: a variable with a placeholder in it is written anew in double quotes, in which
//! whatever an environment can hold has a form.

use super::split::Token;
use super::{Escape, Form, Mistake, Pieces, Quotes, Wiped};

/// What systemd takes for white space, and for the end of a line.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];
const NEWLINE: [char; 2] = ['\n', '\r'];
/// What has to stand behind a backslash within double quotes.
const ESCAPED: &[u8] = b"\"\\`$";
/// The most bytes that the kernel takes for one variable, its name and the = counted in.
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
    /// After a placeholder that stands for whole lines.
    Whole,
}

enum Bit {
    Char(char),
    Value { part: usize, json: Quotes },
}

struct Reader<'p> {
    state: State,
    line: usize,
    /// What was read and not written yet, as it stands.
    raw: String,
    /// How much of it is the name with its =.
    key: usize,
    value: Vec<Bit>,
    /// Where the white space at the value's end begins.
    blanks: Option<usize>,
    /// The first placeholder of the value.
    named: Option<String>,
    pieces: &'p mut Pieces,
}

/// Says how each value is written, by where it stands.
pub(super) fn arrange(tokens: &[Token<'_>], pieces: &mut Pieces) -> Result<(), Mistake> {
    let (raw, value) = (String::new(), Vec::new());
    let mut reader =
        Reader { state: State::Start, line: 1, raw, key: 0, value, blanks: None, named: None, pieces };
    for token in tokens {
        match token {
            Token::Text(text) => text.chars().try_for_each(|c| reader.char(c))?,
            Token::Value { part, name, filter, .. } => reader.placeholder(*part, name, *filter)?,
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
            (Start, '#' | ';') => Comment,
            (Start, _) if SPACE.contains(&c) => Start,
            (Start | Key, '=') => {
                self.key = self.raw.len();
                Before
            }
            (Start, _) => Key,
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
                    self.value.push(Bit::Char('\\'));
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
                let what = "a raw placeholder does not have its line to itself";
                return self.wrong(what, "put it on a line of its own, or remove the | raw");
            }
        };
        if self.state == Start {
            self.pieces.text(&self.raw);
            self.raw.clear();
        }
        self.line += usize::from(c == '\n');
        Ok(())
    }

    fn placeholder(&mut self, part: usize, name: &str, filter: Option<Form>) -> Result<(), Mistake> {
        let shown = format!("{{{{{name}}}}}");
        let raw = filter == Some(Form::Raw);
        match self.state {
            State::Start if raw => {
                self.pieces.text(&self.raw);
                self.raw.clear();
                self.pieces.value(part, Escape::default());
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
                let what = format!("{shown} stands where the name of a variable should be");
                let remedy = "write NAME={{…}}; a secret that holds whole lines goes as {{… | raw}} on a line of its own";
                return self.wrong(&what, remedy);
            }
        }
        self.blanks = None;
        self.named.get_or_insert(shown);
        let json = if filter == Some(Form::Json) { Quotes::Around } else { Quotes::None };
        self.value.push(Bit::Value { part, json });
        Ok(())
    }

    fn push(&mut self, c: char, state: State) -> State {
        self.value.push(Bit::Char(c));
        state
    }

    /// A variable has ended.
    fn assignment(&mut self, newline: char) -> Result<(), Mistake> {
        let name = self.raw[..self.key - 1].trim_matches(SPACE);
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid {
            let what = format!("systemd takes no variable by the name of {name:?}");
            return self.wrong(&what, "a name has letters, digits and _, and no digit first");
        }
        let value = std::mem::take(&mut self.value);
        let blanks = self.blanks.take();
        if self.named.take().is_none() {
            return Ok(()); // it stays as it was written
        }
        self.pieces.text(&self.raw[..self.key]);
        self.pieces.text("\"");
        for bit in value.iter().take(blanks.unwrap_or(value.len())) {
            match bit {
                Bit::Char(c) if c.is_ascii() && ESCAPED.contains(&(*c as u8)) => {
                    self.pieces.text(&format!("\\{c}"));
                }
                Bit::Char(c) => self.pieces.text(c.encode_utf8(&mut [0; 4])),
                Bit::Value { part, json } => {
                    self.pieces.value(*part, Escape { json: *json, env: Quotes::Around });
                }
            }
        }
        self.pieces.text("\"");
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
        let what = format!("the content is no environment file: {what} (line {})", self.line);
        Err(Mistake { what, remedy: remedy.to_owned() })
    }
}

/// Writes a value for double quotes.
pub(super) fn write(value: &[u8], quotes: bool, out: &mut Wiped) -> Result<(), &'static str> {
    let text =
        str::from_utf8(value).map_err(|_| "it is not UTF-8, as systemd wants of an environment file")?;
    if text.len() >= MOST {
        return Err("it is longer than a variable of the environment can be (128 KiB)");
    }
    for c in text.chars() {
        let code = u32::from(c);
        if c == '\0' {
            return Err("it holds a NUL byte, which no environment can hold");
        }
        if (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe {
            return Err("it holds a noncharacter of Unicode, for which systemd refuses the whole file");
        }
    }
    if quotes {
        out.push(b'"');
    }
    for byte in text.bytes() {
        if ESCAPED.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    if quotes {
        out.push(b'"');
    }
    Ok(())
}
