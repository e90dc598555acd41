//! YAML files: a placeholder within double quotes is a part of the string, and outside quotes it is a
//! complete string. If a value would not remain one string, for example in a block scalar or between other
//! characters, the placeholder is a mistake.

use super::split::Token;
use super::{Escape, Form, Mistake, Pieces, Quotes};

/// What the characters up to here are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value can begin.
    Fresh,
    /// A `-`, `?` or `:` where a value can begin: an indicator if whitespace follows.
    Indicator,
    /// A tag, an anchor or an alias.
    Tag,
    /// Text without quotes.
    Plain,
    /// A `:` in text without quotes: ends it if whitespace follows.
    PlainColon,
    Single,
    Double,
    DoubleEscape,
    /// After a string in quotes, or a placeholder that is one.
    After,
    Comment,
    /// The header line of a `|` or `>` block.
    BlockHeader,
    /// A block scalar.
    Block,
    /// The start of a line after text without quotes or in a block scalar, which it may continue.
    PlainLine,
    BlockLine,
}
use State::{
    After, Block, BlockHeader, BlockLine, Comment, Double, DoubleEscape, Fresh, Indicator, Plain, PlainColon,
    PlainLine, Single, Tag,
};

struct Reader {
    state: State,
    /// The text of this line so far.
    line: String,
    /// The number of open `[` and `{`.
    flow: usize,
    /// A line that is indented more than this column continues the previous text without quotes, or the block
    /// scalar.
    outer: isize,
    /// Whether this line does.
    continues: bool,
    /// Whether the string in double quotes has a line break, and the placeholder in it.
    is_folded: bool,
    placed: Option<(String, usize)>,
}

/// Decides how to write each value, by its position.
pub(super) fn arrange(tokens: &[Token<'_>], pieces: &mut Pieces) -> Result<(), Mistake> {
    let mut reader = Reader {
        state: Fresh,
        line: String::new(),
        flow: 0,
        outer: -1,
        continues: false,
        is_folded: false,
        placed: None,
    };
    let mut last: Option<(&str, usize)> = None;
    for token in tokens {
        match token {
            Token::Text(text) => {
                for c in text.chars() {
                    if let Some((name, line)) = last.take()
                        && reader.state == After
                        && !ends_value(c)
                    {
                        return Err(part_of_text(name, line));
                    }
                    reader.read(c);
                    if let (true, Some((name, line))) = (reader.is_folded, &reader.placed) {
                        return Err(folded(name, *line));
                    }
                }
                pieces.text(text);
            }
            Token::Value { part, name, line, filter, trim } => {
                if last.is_some() && reader.state == After {
                    return Err(part_of_text(name, *line));
                }
                let quotes = reader.place(name, *line, *filter)?;
                last = (quotes == Quotes::Own).then_some((*name, *line));
                pieces.value(*part, Escape { json: quotes, trim: *trim, ..Escape::default() });
            }
        }
    }
    Ok(())
}

/// Whether a character can follow a string in quotes.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || ",]}".contains(c)
}

fn part_of_text(name: &str, line: usize) -> Mistake {
    let what = format!("{{{{{name}}}}} is a part of text without quotes (line {line} of the content)");
    Mistake { what, remedy: format!("put all of the text in double quotes, as in \"a {{{{{name}}}}}\"") }
}

/// The mistake of a placeholder in a folded string: whitespace at the line breaks would be lost.
fn folded(name: &str, line: usize) -> Mistake {
    let what = format!("{{{{{name}}}}} stands in a string of several lines (line {line} of the content)");
    Mistake { what, remedy: "write the string in one line, with \\n for line ends".into() }
}

impl Reader {
    /// How to write a value here.
    fn place(&mut self, name: &str, line: usize, filter: Option<Form>) -> Result<Quotes, Mistake> {
        self.begin_line();
        let wrong = |what: &str, remedy: String| {
            let what = format!("{{{{{name}}}}} stands in {what} (line {line} of the content)");
            Err(Mistake { what, remedy })
        };
        match filter {
            Some(Form::Raw) => {
                self.read('x');
                return Ok(Quotes::None);
            }
            Some(Form::Yaml) | None => {}
            Some(_) => return wrong("a YAML file", "after the |, use yaml or raw here".into()),
        }
        self.line.push('x');
        match self.state {
            Fresh => {
                self.state = After;
                Ok(Quotes::Own)
            }
            Double if self.is_folded => Err(folded(name, line)),
            Double => {
                self.placed = Some((name.to_owned(), line));
                Ok(Quotes::Around)
            }
            DoubleEscape => {
                wrong("a string behind a \\", "remove the \\: values are escaped as they need it".into())
            }
            Single => wrong("single quotes", "write double quotes, in which values can be escaped".into()),
            Comment => {
                wrong("a comment", "remove it: a value with several lines would end the comment".into())
            }
            Block | BlockHeader => {
                let remedy =
                    format!("write a string in double quotes, with \\n for line ends: \"{{{{{name}}}}}\\n\"");
                wrong("a block scalar, in which no value can be escaped", remedy)
            }
            Indicator | Tag | Plain | PlainColon | After | PlainLine | BlockLine => {
                Err(part_of_text(name, line))
            }
        }
    }

    fn read(&mut self, c: char) {
        if c == '\n' {
            return self.end_line();
        }
        if !c.is_whitespace() {
            self.begin_line();
        }
        let before = self.line.chars().next_back();
        let after_space = before.is_none_or(char::is_whitespace);
        self.state = match (self.state, c) {
            (Comment | BlockHeader | Block | PlainLine | BlockLine, _) => self.state,
            (Double, '\\') => DoubleEscape,
            (Double, '"') => {
                (self.is_folded, self.placed) = (false, None);
                After
            }
            (Single, '\'') => After,
            (DoubleEscape, _) => Double,
            (Single | Double, _) => self.state,
            (After, '\'') if before == Some('\'') => Single,
            (_, '#') if after_space => Comment,
            (Indicator | PlainColon, _) if c.is_whitespace() => Fresh,
            (Tag, _) if c.is_whitespace() => Fresh,
            (Plain | PlainColon | After | Fresh | Indicator | Tag, ',' | '[' | ']' | '{' | '}')
                if self.flow > 0 || self.state == Fresh =>
            {
                match c {
                    '[' | '{' => self.flow += 1,
                    ']' | '}' => self.flow = self.flow.saturating_sub(1),
                    _ => {}
                }
                if "]}".contains(c) { After } else { Fresh }
            }
            (Plain | PlainColon, ':') => PlainColon,
            (Plain | PlainColon, _) => Plain,
            (After, ':') if self.flow > 0 => Fresh,
            (After, ':') => Indicator,
            (Fresh | After, _) if c.is_whitespace() => self.state,
            (Fresh, '"') => Double,
            (Fresh, '\'') => Single,
            (Fresh, '-' | '?' | ':') => Indicator,
            (Fresh, '|' | '>') if self.flow == 0 => BlockHeader,
            (Fresh, '&' | '*' | '!') => Tag,
            (Tag, _) => Tag,
            (Fresh | Indicator | After, _) => Plain,
        };
        self.line.push(c);
    }

    /// Handles the first character of a line that is not whitespace: decides whether the line continues the
    /// previous text.
    fn begin_line(&mut self) {
        let inside = match self.state {
            PlainLine => Plain,
            BlockLine => Block,
            _ => return,
        };
        let indent = isize::try_from(self.line.chars().count()).unwrap_or(isize::MAX);
        self.continues = indent > self.outer;
        self.state = if self.continues { inside } else { Fresh };
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let is_first = !std::mem::take(&mut self.continues);
        let is_marker = ["---", "..."].contains(&line.trim_end());
        self.is_folded |= matches!(self.state, Double | DoubleEscape);
        self.state = match self.state {
            Single | Double | PlainLine | BlockLine => self.state,
            DoubleEscape => Double,
            Plain | After if self.flow > 0 => self.state,
            Plain if is_marker => Fresh,
            Plain | BlockHeader => {
                if is_first {
                    self.outer = column(&line);
                }
                if self.state == Plain { PlainLine } else { BlockLine }
            }
            Block => BlockLine,
            Fresh | Indicator | Tag | PlainColon | After | Comment => Fresh,
        };
    }
}

/// The column of the key or the last dash of a line with a value; -1 if it has neither.
fn column(line: &str) -> isize {
    let (mut column, mut dash) = (line.len() - line.trim_start().len(), -1);
    let mut rest = line.trim_start();
    while let Some(after) = rest.strip_prefix("- ").or_else(|| rest.strip_prefix("? ")) {
        dash = isize::try_from(column).unwrap_or(isize::MAX);
        column += rest.len() - after.trim_start().len();
        rest = after.trim_start();
    }
    if rest.contains(": ") { isize::try_from(column).unwrap_or(isize::MAX) } else { dash }
}

#[cfg(test)]
mod tests;
