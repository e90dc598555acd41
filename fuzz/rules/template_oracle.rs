//! How systemd and containers read an environment file, for tests.

use std::collections::BTreeMap;

/// What systemd makes of an environment file: its parser, written a second time and otherwise, so that the two have to agree.
pub(super) fn systemd(file: &str) -> BTreeMap<String, String> {
    let (mut variables, mut rest) = (BTreeMap::new(), file);
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        if rest.is_empty() {
            return variables;
        }
        let line = rest.find(['\n', '\r']).unwrap_or(rest.len());
        if rest.starts_with(['#', ';']) || !rest[..line].contains('=') {
            rest = &rest[line..];
            continue;
        }
        let Some((key, after)) = rest.split_once('=') else { return variables };
        let mut value = String::new();
        rest = after.trim_start_matches([' ', '\t']);
        while let Some(quote) = rest.chars().next().filter(|c| "'\"".contains(*c)) {
            let (mut chars, mut end) = (rest.char_indices().skip(1), rest.len());
            while let Some((at, c)) = chars.next() {
                if c == quote {
                    end = at + 1;
                    break;
                }
                match (quote, c) {
                    ('"', '\\') => match chars.next().map(|(_, c)| c) {
                        Some('\n') => {}
                        Some(c) if "\"\\`$".contains(c) => value.push(c),
                        Some(c) => value.extend(['\\', c]),
                        None => {}
                    },
                    _ => value.push(c),
                }
            }
            rest = rest[end..].trim_start_matches([' ', '\t']);
        }
        let (mut chars, mut end, mut kept) = (rest.char_indices(), rest.len(), value.len());
        while let Some((at, c)) = chars.next() {
            match c {
                '\n' | '\r' => {
                    end = at;
                    break;
                }
                '\\' => {
                    value.extend(chars.next().map(|(_, c)| c).filter(|c| !"\n\r".contains(*c)));
                    kept = value.len();
                }
                _ => {
                    value.push(c);
                    kept = if " \t".contains(c) { kept } else { value.len() };
                }
            }
        }
        value.truncate(kept);
        variables.insert(key.trim().to_owned(), value);
        rest = &rest[end..];
    }
}

/// What podman makes of an environment file: all that stands behind the first `=` of a line is the value.
pub(super) fn container(file: &str) -> BTreeMap<String, String> {
    let lines = file.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let variables = lines.filter_map(|line| line.split_once('='));
    variables.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
