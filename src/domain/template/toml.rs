//! TOML files: a placeholder within double quotes is a part of the string, and outside quotes it is a
//! complete string.

use super::split::Token;
use super::{Escape, Form, Mistake, Pieces, Quotes};

/// What the characters up to here are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not a string.
    Bare,
    Basic,
    BasicEscape,
    Literal,
    /// Three double quotes.
    Lines,
    LinesEscape,
    /// Three single quotes.
    LiteralLines,
    /// After a placeholder that is a string.
    After,
    Comment,
}
use State::{After, Bare, Basic, BasicEscape, Comment, Lines, LinesEscape, Literal, LiteralLines};

struct Reader {
    state: State,
    /// The number of open `[` and `{` of values.
    depth: usize,
    /// The last character that is not whitespace; outside brackets also a line break.
    last: char,
}

/// Decides how to write each value, by its position.
pub(super) fn arrange(tokens: &[Token<'_>], pieces: &mut Pieces) -> Result<(), Mistake> {
    let mut reader = Reader { state: Bare, depth: 0, last: '\n' };
    let mut whole: Option<(&str, usize)> = None;
    for token in tokens {
        match token {
            Token::Text(text) => {
                reader.read(text).map_err(|()| {
                    let (name, line) = whole.unwrap_or_default();
                    part_of_text(name, line)
                })?;
                pieces.text(text);
            }
            Token::Value { part, name, line, filter, trim } => {
                let quotes = reader.place(name, *line, *filter)?;
                whole = Some((*name, *line));
                pieces.value(*part, Escape { json: quotes, trim: *trim, ..Escape::default() });
            }
        }
    }
    Ok(())
}

fn part_of_text(name: &str, line: usize) -> Mistake {
    let what = format!("{{{{{name}}}}} is not a complete value (line {line} of the content)");
    Mistake { what, remedy: format!("put it in double quotes, as in key = \"a {{{{{name}}}}}\"") }
}

impl Reader {
    /// How to write a value here.
    fn place(&mut self, name: &str, line: usize, filter: Option<Form>) -> Result<Quotes, Mistake> {
        let wrong = |what: &str, remedy: &str| {
            let what = format!("{{{{{name}}}}} stands in {what} (line {line} of the content)");
            Err(Mistake { what, remedy: remedy.into() })
        };
        match filter {
            Some(Form::Raw) => {
                self.last = 'x';
                return Ok(Quotes::None);
            }
            Some(Form::Toml) | None => {}
            Some(_) => return wrong("a TOML file", "after the |, use toml or raw here"),
        }
        match self.state {
            Bare if "=,[".contains(self.last) => {
                (self.state, self.last) = (After, '"');
                Ok(Quotes::Own)
            }
            Bare | After => Err(part_of_text(name, line)),
            Basic | Lines => Ok(Quotes::Around),
            BasicEscape | LinesEscape => {
                wrong("a string behind a \\", "remove the \\: values are escaped as they need it")
            }
            Literal | LiteralLines => {
                wrong("single quotes", "write double quotes, in which values can be escaped")
            }
            Comment => wrong("a comment", "remove it: a value with several lines would end the comment"),
        }
    }

    /// Reads text. Fails if it does not allow a placeholder to be a complete value.
    fn read(&mut self, text: &str) -> Result<(), ()> {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let mut length = c.len_utf8();
            let run = |quote| rest.len() - rest.trim_start_matches(quote).len();
            self.state = match (self.state, c) {
                (After, ' ' | '\t' | '\r' | '\n' | ',' | ']' | '}' | '#') | (Bare, _) => {
                    let (state, taken) = self.bare(c, rest);
                    length = taken;
                    state
                }
                (After, _) => return Err(()),
                (Comment | Basic | BasicEscape | Literal, '\n') => self.bare(c, rest).0,
                (Basic, '\\') => BasicEscape,
                (Lines, '\\') => LinesEscape,
                (Basic, '"') | (Literal, '\'') => self.ended(),
                (Lines, '"') if run('"') >= 3 => {
                    length = run('"').min(5);
                    self.ended()
                }
                (LiteralLines, '\'') if run('\'') >= 3 => {
                    length = run('\'').min(5);
                    self.ended()
                }
                (BasicEscape, _) => Basic,
                (LinesEscape, _) => Lines,
                (state, _) => state,
            };
            rest = &rest[length..];
        }
        Ok(())
    }

    fn ended(&mut self) -> State {
        self.last = '"';
        Bare
    }

    /// Handles a character outside strings. Returns the next state, and how many bytes of the text it has
    /// read.
    fn bare(&mut self, c: char, rest: &str) -> (State, usize) {
        let begins_line = self.depth == 0 && self.last == '\n';
        match c {
            '"' if rest.starts_with("\"\"\"") => return (Lines, 3),
            '\'' if rest.starts_with("\'\'\'") => return (LiteralLines, 3),
            '"' => return (Basic, 1),
            '\'' => return (Literal, 1),
            '#' => return (Comment, 1),
            '\n' if self.depth == 0 => self.last = c,
            _ if c.is_whitespace() => {}
            // a table's header
            '[' if begins_line => self.last = 'x',
            '[' | '{' if "=,[{".contains(self.last) => {
                self.depth += 1;
                self.last = c;
            }
            ']' | '}' => {
                self.depth = self.depth.saturating_sub(1);
                self.last = c;
            }
            _ => self.last = c,
        }
        (Bare, c.len_utf8())
    }
}

#[cfg(test)]
mod tests;
