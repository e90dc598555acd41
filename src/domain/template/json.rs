//! JSON files: a placeholder within a string is a part of the string, and outside it is a complete string.

use serde::de::IgnoredAny;

use super::split::Token;
use super::{Escape, Form, Mistake, Pieces, Quotes, Wiped};

/// Characters that YAML treats as line breaks or does not allow.
const SPECIAL: [char; 5] = ['\u{2028}', '\u{2029}', '\u{feff}', '\u{fffe}', '\u{ffff}'];

/// Decides how to write each value, by its position.
pub(super) fn arrange(tokens: &[Token<'_>], pieces: &mut Pieces) -> Result<(), Mistake> {
    let (mut within, mut escaped) = (false, false);
    let mut sample = String::new();
    for token in tokens {
        match token {
            Token::Text(text) => {
                for c in text.chars() {
                    within ^= c == '"' && !escaped;
                    escaped = within && c == '\\' && !escaped;
                }
                sample.push_str(text);
                pieces.text(text);
            }
            Token::Value { name, line, .. } if escaped => {
                let what = format!("a \\ stands before {{{{{name}}}}} on line {line} of the content");
                return Err(Mistake { what, remedy: "remove it: values are escaped as they need it".into() });
            }
            Token::Value { name, line, filter: Some(Form::Env | Form::Yaml | Form::Toml), .. } => {
                let what = format!("{{{{{name}}}}} stands in a JSON file (line {line} of the content)");
                return Err(Mistake { what, remedy: "after the |, use json or raw here".into() });
            }
            Token::Value { part, filter, trim, .. } => {
                let raw = *filter == Some(Form::Raw);
                let json = match within {
                    _ if raw => Quotes::None,
                    true => Quotes::Around,
                    false => Quotes::Own,
                };
                sample.push_str(match within {
                    true => "x",
                    false if raw => "0",
                    false => "\"x\"",
                });
                pieces.value(*part, Escape { json, trim: *trim, ..Escape::default() });
            }
        }
    }
    serde_json::from_str::<IgnoredAny>(&sample).map(drop).map_err(|error| Mistake {
        what: format!("the content is not JSON: {error}"),
        remedy: "correct it; or set \"escape\": \"raw\", and write {{NAME | json}} within strings".into(),
    })
}

/// Writes a value as a JSON string, or as a part of one. YAML and TOML parse it alike: characters that one of
/// them does not allow unescaped are escaped.
pub(super) fn write(value: &[u8], quotes: bool, out: &mut Wiped) -> Result<(), &'static str> {
    let text = str::from_utf8(value).map_err(|_| "it is not UTF-8, which a JSON string must be")?;
    if quotes {
        out.push(b'"');
    }
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            _ if c.is_control() || SPECIAL.contains(&c) => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if quotes {
        out.push(b'"');
    }
    Ok(())
}
