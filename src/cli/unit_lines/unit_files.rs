//! Finds credential lines in a unit's files that systemd ignores: it warns in the journal and starts the unit
//! without the credential.
//!
//! Pure: texts in, lines out. The rules are those of systemd's config_parse_load_credential().

use super::facts::{Directive, Ignored};
use crate::domain::name::{CredentialId, UnitName};
use crate::host::systemd::unit_type::ExecType;

/// The keys of credential lines, including those that are not judged here.
const KEYS: [&str; 5] = [
    "LoadCredential",
    "LoadCredentialEncrypted",
    "SetCredential",
    "SetCredentialEncrypted",
    "ImportCredential",
];

/// Finds ignored lines in one file.
pub(super) fn ignored(file: &str, text: &str, unit: &UnitName) -> Vec<Ignored> {
    let section = ExecType::of(unit.suffix()).map(ExecType::section);
    let mut current = "";
    let mut found = Vec::new();
    for (number, line) in logical_lines(text) {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = match header {
                "Service" => "Service",
                "Socket" => "Socket",
                "Mount" => "Mount",
                "Swap" => "Swap",
                _ => "another section",
            };
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        let Some(why) = why_ignored(key, value, current, section) else { continue };
        let (place, id) = (format!("{file}:{number}"), probable_id(value));
        let directive = match key.to_ascii_lowercase().contains("enc") {
            true => Directive::Encrypted,
            false => Directive::Plain,
        };
        found.push(Ignored { place, text: line, id, why, directive });
    }
    found
}

/// Why systemd ignores an assignment; `None` if it accepts it, or if the assignment is unrelated.
fn why_ignored(key: &str, value: &str, current: &str, section: Option<&str>) -> Option<String> {
    let Some(directive) = Directive::ALL.into_iter().find(|directive| directive.name() == key) else {
        let known =
            nearest_key(key).filter(|_| value.contains("/run/onecred/") || key.contains("Credential"))?;
        return Some(format!("there is no {key}=; it is {known}="));
    };
    if value.is_empty() {
        return None; // it clears the previous ones
    }
    if let Some(section) = section.filter(|section| *section != current) {
        return Some(format!("{}= belongs in [{section}]", directive.name()));
    }
    let value = without_specifiers(value);
    let (id, path) = value.split_once(':').map_or((value.as_str(), None), |(id, path)| (id, Some(path)));
    if CredentialId::parse(id).is_err() {
        return Some(match id.contains("/run/") {
            true => "a : stands between ID and path".to_owned(),
            false => format!("{id:?} is not a credential ID"),
        });
    }
    let path = path.filter(|path| !path.is_empty())?;
    match path.starts_with('/') {
        true if !is_normalized(path) => Some("the path contains //, /./ or /../".to_owned()),
        false if CredentialId::parse(path).is_err() || path.starts_with(['"', '\'', ' ']) => {
            Some("the path is not absolute".to_owned())
        }
        _ => None,
    }
}

/// Whether systemd accepts an absolute path unchanged (path_is_normalized()). One slash at the end is
/// allowed.
fn is_normalized(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
}

/// A value with every specifier replaced by text that is valid at any position.
fn without_specifiers(value: &str) -> String {
    let (mut out, mut rest) = (String::new(), value.chars());
    while let Some(c) = rest.next() {
        match c {
            '%' => match rest.next() {
                // specifiers that are absolute paths
                Some('t' | 'S' | 'C' | 'L' | 'E' | 'd' | 'h' | 'T' | 'V' | 'f' | 'y' | 'Y') => {
                    out.push_str("/x")
                }
                _ => out.push('x'),
            },
            other => out.push(other),
        }
    }
    out
}

/// The key that was probably meant.
fn nearest_key(key: &str) -> Option<&'static str> {
    if KEYS.contains(&key) {
        return None;
    }
    let lower = key.to_ascii_lowercase();
    let distance = |known: &str| strsim::osa_distance(&lower, &known.to_ascii_lowercase());
    let nearest = Directive::ALL.into_iter().map(Directive::name).min_by_key(|known| distance(known))?;
    (distance(nearest) <= 3).then_some(nearest)
}

/// The ID that a line probably means, despite its mistakes.
fn probable_id(value: &str) -> String {
    let value = value.trim_start_matches(['"', '\'']);
    let end = value.find([':', '=', '/', ' ', '\t']).unwrap_or(value.len());
    value[..end].trim_matches(['"', '\'']).to_owned()
}

/// The lines of a unit file without comments, each with its number. Lines that `\` continues are joined.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) || (trimmed.is_empty() && open.is_none()) {
            continue;
        }
        let (start, before) = open.take().unwrap_or((number + 1, String::new()));
        match trimmed.strip_suffix('\\') {
            Some(part) => open = Some((start, format!("{before}{part} "))),
            None => lines.push((start, format!("{before}{trimmed}"))),
        }
    }
    lines.extend(open.map(|(start, line)| (start, line.trim_end().to_owned())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, String)> {
        let unit = UnitName::parse("app.service").unwrap();
        ignored("f", text, &unit).into_iter().map(|line| (line.id, line.why)).collect()
    }

    #[test]
    fn lines_that_systemd_ignores() {
        // systemd 252, 257 and 262 were seen to ignore each of them, or not
        for (line, id, why) in [
            ("LoadCredential=db=/run/onecred/credential.sock", "db", "a : stands between ID and path"),
            ("LoadCredential=db /run/onecred/credential.sock", "db", "a : stands between ID and path"),
            ("LoadCredential=db:run/onecred/credential.sock", "db", "the path is not absolute"),
            ("LoadCredential=db: /run/onecred/credential.sock", "db", "the path is not absolute"),
            ("LoadCredential=db:\"/run/onecred/credential.sock\"", "db", "the path is not absolute"),
            (
                "LoadCredential=db:/run/onecred/../onecred/credential.sock",
                "db",
                "the path contains //, /./ or /../",
            ),
            ("LoadCredential=db:/run//onecred/credential.sock", "db", "the path contains //, /./ or /../"),
            (
                "LoadCredentials=db:/run/onecred/credential.sock",
                "db",
                "there is no LoadCredentials=; it is LoadCredential=",
            ),
            ("loadcredential=db:/x", "db", ""),
            (
                "LoadCredentialsEncrypted=db",
                "db",
                "there is no LoadCredentialsEncrypted=; it is LoadCredentialEncrypted=",
            ),
        ] {
            let expected = match why {
                "" => Vec::new(),
                why => vec![(id.to_owned(), why.to_owned())],
            };
            assert_eq!(found(&format!("[Service]\n{line}\n")), expected, "{line}");
        }
        for line in [
            "LoadCredential=db",
            "LoadCredential=db:x",
            "LoadCredential=db:/run/onecred/credential.sock",
            "LoadCredential=db:/run/onecred/credential.sock/",
            "LoadCredential=%n:%t/onecred/credential.sock",
            "LoadCredential=",
            "LoadCredential=db:/run/onecred/credential.sock:x",
            "SetCredential=db:a=/b",
            "ImportCredential=db",
            "ExecStart=/usr/bin/app --credential=/run/onecred/credential.sock",
            "Environment=A=/run/onecred/x",
        ] {
            assert_eq!(found(&format!("[Service]\n{line}\n")), [], "{line}");
        }
    }

    #[test]
    fn sections_comments_and_continued_lines() {
        let text = "[Unit]\n# LoadCredential=a=/x\nLoadCredential=a:/x\n[Service]\n; no\nLoadCredential=b\\\n=/run/x\n\n\
                    [Install]\nWantedBy=x\n";
        let unit = UnitName::parse("app.service").unwrap();
        let places: Vec<_> =
            ignored("f", text, &unit).into_iter().map(|line| (line.place, line.id)).collect();
        assert_eq!(places, [("f:3".into(), "a".into()), ("f:6".into(), "b".into())]);
        assert_eq!(found("[Unit]\nLoadCredential=a:/x\n")[0].1, "LoadCredential= belongs in [Service]");
    }
}
