//! Converts an environment file with secret references, for `op run --env-file` or `op inject`, to a
//! template.
//!
//! Quotes, comments after values and `export` are parsed like in these programs, and written in the syntax of
//! systemd's `EnvironmentFile=`.

use std::path::Path;

use super::opnix::Imported;
use crate::domain::name::SecretName;
use crate::domain::reference::Reference;

const SCHEME: &str = "op://";
/// The characters that systemd expects after a backslash in double quotes.
const ESCAPED: [char; 4] = ['"', '\\', '`', '$'];

/// A variable of the file.
struct Variable<'t> {
    key: &'t str,
    value: String,
    /// The value without quotes, to find variables in it. Empty if quotes prevent that they are replaced.
    replaced: String,
}

/// Converts the text of such a file to a configuration with one template.
pub fn import_op_env(file: &Path, text: &str) -> Imported {
    let (mut content, mut notes) = (String::new(), Vec::new());
    let (mut rest, mut line) = (text.strip_prefix('\u{feff}').unwrap_or(text), 1);
    while !rest.is_empty() {
        let (entry, after) = entry(rest);
        let source = &rest[..rest.len() - after.len()];
        match entry {
            Entry::Nothing if source.trim().is_empty() => {}
            Entry::Nothing => {
                content.push_str(&comment(source.trim_start().trim_start_matches('#').trim_start()))
            }
            Entry::Wrong(why) => {
                notes.push(format!("line {line}: {why}"));
                content.push_str(&comment(source));
            }
            Entry::Variable(variable) => match written(&variable) {
                Ok((text, note)) => {
                    notes.extend(note.map(|note| format!("line {line}: {note}")));
                    content.push_str(&text);
                }
                Err(why) => {
                    notes.push(format!("line {line}: {}: {why}; its line became a comment", variable.key));
                    content.push_str(&comment(source));
                }
            },
        }
        content.push('\n');
        line += source.matches('\n').count();
        rest = after;
    }
    notes.push("no unit may load the template yet: add units to \"units\"".to_owned());
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let json = format!(
        "{{\n  \"templates\": [\n    {{\n      \"name\": {},\n      \"escape\": \"env\",\n      \"content\": {},\n      \"units\": []\n    }}\n  ]\n}}\n",
        quoted(&name(file)),
        quoted(&content)
    );
    Imported { json, notes }
}

/// The content of a line.
enum Entry<'t> {
    /// A comment, or an empty line.
    Nothing,
    Variable(Variable<'t>),
    Wrong(String),
}

/// Parses what begins at a line, and returns the rest.
fn entry(text: &str) -> (Entry<'_>, &str) {
    let end = text.find('\n').map_or(text.len(), |end| end + 1);
    let (first, after) = text.split_at(end);
    let start = first.trim_start();
    if start.trim_end().is_empty() || start.starts_with('#') {
        return (Entry::Nothing, after);
    }
    let Some((key, _)) = start.split_once('=') else {
        return (Entry::Wrong("a line without a = became a comment".into()), after);
    };
    let begin = text.len() - text.trim_start().len() + key.len() + 1;
    let key = key.trim();
    let key = key.strip_prefix("export ").unwrap_or(key).trim();
    let value = text[begin..].trim_start_matches([' ', '\t']);
    let (value, replaced, after) = match value.chars().next().filter(|quote| "\"'`".contains(*quote)) {
        Some(quote) => match in_quotes(&value[1..], quote) {
            Some((value, rest)) => {
                let replaced = if quote == '"' { value.clone() } else { String::new() };
                let end = rest.find('\n').map_or(rest.len(), |end| end + 1);
                let behind = rest[..end].trim();
                if !(behind.is_empty() || behind.starts_with('#')) {
                    let why =
                        format!("{key}: there is text after the closing quote; its line became a comment");
                    return (Entry::Wrong(why), &rest[end..]);
                }
                (value, replaced, &rest[end..])
            }
            None => {
                return (
                    Entry::Wrong(format!("{key}: a quote is not closed; its line became a comment")),
                    after,
                );
            }
        },
        None => {
            let value = text[begin..end.max(begin)].trim();
            let value = if value.starts_with('#') { "" } else { value };
            let value = value.split_once(" #").map_or(value, |(value, _)| value).trim_end();
            (value.to_owned(), value.to_owned(), after)
        }
    };
    (Entry::Variable(Variable { key, value, replaced }), after)
}

/// The text up to a quote, without escapes if they are supported, and the rest.
fn in_quotes(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((value, &text[at + c.len_utf8()..])),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c if "\"\\$`".contains(c) => value.push(c),
                c => value.extend(['\\', c]),
            },
            _ => value.push(c),
        }
    }
    None
}

/// A variable for the template, and a note about it. Fails if the variable cannot be converted.
fn written(variable: &Variable<'_>) -> Result<(String, Option<String>), String> {
    let Variable { key, value, replaced } = variable;
    let is_name = !key.is_empty()
        && !key.starts_with(|c: char| c.is_ascii_digit())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err("systemd does not accept this variable name".into());
    }
    let mut pieces = Vec::new();
    let mut rest = value.as_str();
    while let Some(at) = rest.find(SCHEME) {
        let braces = rest[..at].trim_end().ends_with("{{") && rest[at..].contains("}}");
        let end = match (braces, at == 0 && rest.len() == value.len()) {
            (true, _) => rest[at..].find("}}").map_or(rest.len(), |end| at + end),
            (false, true) => rest.len(), // the whole value, which may have spaces
            (false, false) => at + embedded(&rest[at..]),
        };
        let reference = percent_decoded(rest[at..end].trim_end());
        if let Some(name) = variable_in(&reference) {
            return Err(format!(
                "the reference has the variable {name}, which is not convertible: write its value"
            ));
        }
        Reference::parse(&reference).map_err(|error| error.to_string())?;
        let before = if braces { rest[..at].trim_end().trim_end_matches("{{") } else { &rest[..at] };
        pieces.push((before, Some(reference)));
        rest = if braces { &rest[(end + 2).min(rest.len())..] } else { &rest[end..] };
    }
    pieces.push((rest, None));
    let note = variable_in(replaced).filter(|_| !replaced.starts_with(SCHEME));
    let note = note.map(|name| format!("{key}: the variable {name} is not convertible, and stays unchanged"));
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=^".contains(c);
    let quote = if pieces.iter().all(|(text, _)| text.chars().all(is_harmless)) { "" } else { "\"" };
    let mut out = format!("{key}={quote}");
    for (text, reference) in pieces {
        let mut escaped = String::new();
        for c in text.chars() {
            if !quote.is_empty() && ESCAPED.contains(&c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        out.push_str(&literal(&escaped));
        if let Some(reference) = reference {
            out.push_str(&format!("{{{{{reference}}}}}"));
        }
    }
    out.push_str(quote);
    Ok((out, note))
}

/// Escapes text for a template. A brace directly before a placeholder would count as part of it.
fn literal(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        let (taken, written) = if rest.starts_with("{{") {
            (2, "{{{{")
        } else if rest.starts_with("{op://") {
            (6, "{{\"{op://\"}}")
        } else if rest.starts_with(SCHEME) {
            (SCHEME.len(), "{{\"op://\"}}")
        } else if rest == "{" {
            (1, "{{\"{\"}}")
        } else {
            (c.len_utf8(), &rest[..c.len_utf8()])
        };
        out.push_str(written);
        rest = &rest[taken..];
    }
    out
}

/// One or several lines as a comment.
fn comment(source: &str) -> String {
    let lines = source.trim_end_matches(['\r', '\n']).split('\n').map(|line| {
        let line = line.trim_end().replace('\r', " ");
        format!("# {}{}", literal(&line), if line.ends_with('\\') { " ." } else { "" })
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The length in bytes of the reference at the beginning of a text.
fn embedded(text: &str) -> usize {
    let mut end = 0;
    while let Some(c) = text[end..].chars().next() {
        let rest = &text[end..];
        let is_part = c.is_ascii_alphanumeric() || "_.-/:?=%$".contains(c);
        end += match rest.starts_with("${") {
            true => rest.find('}').map_or(rest.len(), |close| close + 1),
            false if is_part => 1,
            false => break,
        };
    }
    end
}

/// The first variable in a text: `$NAME` or `${NAME}`.
fn variable_in(text: &str) -> Option<String> {
    let (_, after) = text.split_once('$')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = match after.strip_prefix('{') {
        Some(after) => format!("${{{}}}", after.split('}').next().unwrap_or_default()),
        None => format!("${}", after.split(|c| !is_name(c)).next().unwrap_or_default()),
    };
    if name.len() > 1 { Some(name) } else { variable_in(after) }
}

/// A reference without URL encoding, which 1Password's programs accept.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, rest) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                out.push(hex(high).unwrap_or_default() << 4 | hex(low).unwrap_or_default());
                bytes = after;
            }
            _ => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The name of the template, from the name of the file.
fn name(file: &Path) -> String {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let whole = text(file.file_name()).unwrap_or_default();
    let stem = whole.trim_start_matches('.');
    let stem = stem.strip_prefix("env.").unwrap_or(stem);
    let stem = match stem {
        "" | "env" => text(file.parent().and_then(Path::file_name)).unwrap_or_else(|| "app".into()),
        stem => stem.strip_suffix(".env").unwrap_or(stem).to_owned(),
    };
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '-' };
    let name = format!("{}.env", stem.chars().take(100).map(allowed).collect::<String>());
    SecretName::parse(&name).map_or_else(|_| "app.env".to_owned(), |name| name.to_string())
}

#[cfg(test)]
mod tests;
