//! A strict JSON parser that records the position of each value and key, with messages for people who write
//! JSON by hand.
//!
//! It parses only the structure; serde_json parses strings and numbers.

use serde_json::Number;

/// A value and the offset of its first byte.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) byte: usize,
    pub(crate) value: JsonValue,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JsonValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

/// A key with its value. A key may occur twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) byte: usize,
    pub(crate) key: String,
    pub(crate) value: Node,
}

/// Why a text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) byte: usize,
    pub(crate) what: String,
    pub(crate) remedy: &'static str,
}

/// How deep values may be nested. A configuration needs five levels.
const DEPTH: usize = 64;

/// Parses a whole text.
pub(crate) fn parse(text: &str) -> Result<Node, Mistake> {
    let mut reader = Reader { text, byte: 0, depth: 0 };
    reader.skip_space();
    if reader.peek().is_none() {
        return Err(reader.mistake("the file is empty", r#"write at least {}"#));
    }
    let node = reader.value()?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.unexpected("the end of the file")),
    }
}

struct Reader<'a> {
    text: &'a str,
    byte: usize,
    depth: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Node, Mistake> {
        let byte = self.byte;
        let value = match self.peek() {
            Some('{') => self.nested(Self::object)?,
            Some('[') => self.nested(Self::array)?,
            Some('"') => JsonValue::Text(self.text()?),
            Some('-' | '0'..='9') => JsonValue::Number(self.number()?),
            _ if self.take("null") => JsonValue::Null,
            _ if self.take("true") => JsonValue::Bool(true),
            _ if self.take("false") => JsonValue::Bool(false),
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { byte, value })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<JsonValue, Mistake>) -> Result<JsonValue, Mistake> {
        if self.depth == DEPTH {
            return Err(
                self.mistake("values are nested too deep", "no configuration needs more than 5 levels")
            );
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<JsonValue, Mistake> {
        let mut members = Vec::new();
        self.list('}', "an object", |reader| {
            let byte = reader.byte;
            if reader.peek() != Some('"') {
                return Err(reader.unexpected("a key"));
            }
            let key = reader.text()?;
            reader.skip_space();
            if !reader.take(":") {
                return Err(reader.unexpected("a : after the key"));
            }
            reader.skip_space();
            members.push(Member { byte, key, value: reader.value()? });
            Ok(())
        })?;
        Ok(JsonValue::Object(members))
    }

    fn array(&mut self) -> Result<JsonValue, Mistake> {
        let mut nodes = Vec::new();
        self.list(']', "a list", |reader| {
            nodes.push(reader.value()?);
            Ok(())
        })?;
        Ok(JsonValue::Array(nodes))
    }

    /// Parses entries with commas between them, from the opening to the closing bracket.
    fn list(
        &mut self,
        end: char,
        kind: &str,
        mut entry: impl FnMut(&mut Self) -> Result<(), Mistake>,
    ) -> Result<(), Mistake> {
        let start = self.byte;
        let mut comma: Option<usize> = None;
        self.byte += 1;
        for first in std::iter::once(true).chain(std::iter::repeat(false)) {
            self.skip_space();
            match (self.peek(), comma.take()) {
                (None, _) => {
                    let what = format!("{kind} is not closed: the file ends before its {end}");
                    return Err(Mistake {
                        byte: start,
                        what,
                        remedy: "close it, or restore the end of the file",
                    });
                }
                (Some(c), Some(byte)) if c == end => {
                    let what = format!("a comma at the end of {kind}");
                    return Err(Mistake { byte, what, remedy: "remove it" });
                }
                (Some(c), _) if c == end => break,
                (Some('"' | '{' | '['), None) if !first => {
                    return Err(self.mistake(
                        format!("a comma is missing between two entries of {kind}"),
                        "add a comma before this",
                    ));
                }
                (Some(_), None) if !first => {
                    return Err(self.unexpected(&format!("a comma or {end} in {kind}")));
                }
                _ => entry(self)?,
            }
            self.skip_space();
            let byte = self.byte;
            comma = self.take(",").then_some(byte);
        }
        self.byte += 1;
        Ok(())
    }

    fn text(&mut self) -> Result<String, Mistake> {
        let rest = &self.text[self.byte..];
        let mut escaped = false;
        let end = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let ends = !escaped && matches!(byte, b'"' | b'\n');
            escaped = !escaped && *byte == b'\\';
            ends
        });
        let Some((end, b'"')) = end else {
            return Err(self.mistake(
                "a string is not closed on its line",
                r#"close it with "; write \n for a line break"#,
            ));
        };
        self.leaf(end + 1)
    }

    fn number(&mut self) -> Result<Number, Mistake> {
        let rest = &self.text[self.byte..];
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(rest.len());
        self.leaf(end)
    }

    fn leaf<T: serde::de::DeserializeOwned>(&mut self, len: usize) -> Result<T, Mistake> {
        let token = &self.text[self.byte..self.byte + len];
        let value = serde_json::from_str(token).map_err(|error| {
            let message = error.to_string();
            let what =
                message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what).to_lowercase();
            self.mistake(format!("invalid value: {what}"), "write it in JSON syntax")
        })?;
        self.byte += len;
        Ok(value)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.text[self.byte..].starts_with(word);
        self.byte += if found { word.len() } else { 0 };
        found
    }

    fn peek(&self) -> Option<char> {
        self.text[self.byte..].chars().next()
    }

    fn skip_space(&mut self) {
        let rest = self.text[self.byte..].trim_start_matches([' ', '\t', '\n', '\r']);
        self.byte = self.text.len() - rest.len();
    }

    fn unexpected(&self, expected: &str) -> Mistake {
        let rest = &self.text[self.byte..];
        let remedy = match rest.chars().next() {
            Some('/' | '#') => r#"JSON has no comments; write a key "//" with the comment as its value"#,
            Some('\'') => "strings and keys need double quotes",
            Some('\u{feff}') => "save the file as UTF-8 without a byte order mark",
            Some(c) if c.is_alphabetic() => "strings and keys need double quotes",
            _ => "check brackets, quotes and commas",
        };
        match rest.chars().next() {
            Some(found) => self.mistake(format!("expected {expected}, found {found:?}"), remedy),
            None => self.mistake(format!("expected {expected}, found the end of the file"), remedy),
        }
    }

    fn mistake(&self, what: impl Into<String>, remedy: &'static str) -> Mistake {
        Mistake { byte: self.byte, what: what.into(), remedy }
    }
}

#[cfg(test)]
mod tests;
