//! Splits the text of a template at its placeholders: `{{NAME}}`, `{{ op://… }}`, `{{NAME | trim | json}}`.
//! `{{{{` means a literal `{{`, and `{{"TEXT"}}` means TEXT.

use super::bare;
use super::{Form, MAX_PLACEHOLDERS, MAX_TEXT, Mistake};

/// A part of the text.
#[derive(Debug)]
pub(super) enum Token<'t> {
    Text(&'t str),
    Value {
        part: usize,
        name: &'t str,
        filter: Option<Form>,
        /// Whether line breaks at the end of the value are removed.
        trim: bool,
        /// Its line, from 1.
        line: usize,
    },
}

/// Splits a text.
pub(super) fn split(text: &str) -> Result<Vec<Token<'_>>, Vec<Mistake>> {
    let (mut tokens, mut mistakes) = (Vec::new(), Vec::new());
    let mut names: Vec<&str> = Vec::new();
    if text.len() > MAX_TEXT {
        let what = format!("the content has {} bytes, and can have 1 MiB at most", text.len());
        return Err(vec![Mistake { what, remedy: "keep what is not secret in a separate file".into() }]);
    }
    let (mut rest, mut line, mut count) = (text, 1, 0);
    while let Some(start) = rest.find("{{") {
        let plain = &rest[..start];
        mistakes.extend(without_braces(plain, line, text));
        tokens.push(Token::Text(plain));
        line += lines(plain);
        rest = &rest[start..];
        if rest.starts_with("{{{{") {
            tokens.push(Token::Text(&rest[..2]));
            rest = &rest[4..];
            continue;
        }
        let Some(end) = rest.find("}}") else {
            let what = format!("a {{{{ in the content is not closed{}", on(line, text));
            mistakes.push(Mistake { what, remedy: REMEDY.into() });
            rest = "";
            break;
        };
        let inner = &rest[2..end];
        if let Some(literal) = literal(inner) {
            tokens.push(Token::Text(literal));
            rest = &rest[end + 2..];
            continue;
        }
        count += 1;
        match read(inner, line, text) {
            Ok((name, filter, trim)) => {
                let part = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                tokens.push(Token::Value { part, name, filter, trim, line });
            }
            Err(mistake) => mistakes.push(mistake),
        }
        line += lines(inner);
        rest = &rest[end + 2..];
    }
    mistakes.extend(without_braces(rest, line, text));
    tokens.push(Token::Text(rest));
    if count > MAX_PLACEHOLDERS {
        let what = format!("the content has {count} placeholders, and can have {MAX_PLACEHOLDERS} at most");
        mistakes.push(Mistake { what, remedy: "split it into several templates".into() });
    }
    if mistakes.is_empty() { Ok(tokens) } else { Err(mistakes) }
}

const REMEDY: &str = "write a placeholder like {{db-password}}, and {{{{ for {{ itself";

/// The references without braces in a part of the text that begins on this line.
fn without_braces(part: &str, line: usize, text: &str) -> impl Iterator<Item = Mistake> {
    bare::find(part).map(move |(at, bare)| bare::mistake(bare, &on(line + lines(&part[..at]), text)))
}

/// The literal text of `{{"TEXT"}}`.
fn literal(inner: &str) -> Option<&str> {
    let text = inner.trim().strip_prefix('"')?.strip_suffix('"')?;
    Some(text).filter(|text| !text.is_empty() && !text.contains(['"', '\n', '\r']))
}

fn read<'t>(inner: &'t str, line: usize, text: &str) -> Result<(&'t str, Option<Form>, bool), Mistake> {
    let mut words = inner.split('|').map(str::trim);
    let name = words.next().unwrap_or_default();
    if name.is_empty() || name.contains(['{', '}', '\n']) {
        let what =
            format!("the content holds {{{{{inner:.80}}}}}{}, which does not name a secret", on(line, text));
        return Err(Mistake { what, remedy: REMEDY.into() });
    }
    let (mut filter, mut trim) = (None, false);
    for word in words {
        match Form::by_word(word) {
            _ if word == "trim" && !trim => trim = true,
            Some(form) if filter.is_none() => filter = Some(form),
            _ => {
                let what = format!(
                    "the content holds {{{{{inner:.80}}}}}{}: {word:?} is not valid here",
                    on(line, text)
                );
                let remedy = "after the |, use trim, or one of env, json, yaml, toml and raw, or both";
                return Err(Mistake { what, remedy: remedy.into() });
            }
        }
    }
    Ok((name, filter, trim))
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Names the line, if there are several.
fn on(line: usize, text: &str) -> String {
    if text.trim_end().contains('\n') { format!(" (line {line} of it)") } else { String::new() }
}

/// The names in the placeholders, each once.
pub(super) fn names(tokens: &[Token<'_>]) -> Vec<String> {
    let mut names = Vec::new();
    for token in tokens {
        if let Token::Value { part, name, .. } = token
            && *part == names.len()
        {
            names.push((*name).to_owned());
        }
    }
    names
}
