//! Suggests what to write instead of a text that is not a reference, or of a reference that can never match.
//! Pure.

use super::{Reference, segment_char};

/// What is wrong with the path of a reference that the grammar accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slip {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
    /// Whether it can never match anything in 1Password. Otherwise it may be intended.
    pub never_matches: bool,
}

/// Looks for empty segments: a slash at the end, or two slashes in a row. Also accepts the reference of a
/// rule.
pub fn slip(text: &str) -> Option<Slip> {
    let (path, query) = split(text)?;
    let parts: Vec<&str> = path.split('/').collect();
    let full = squeezed(path, query);
    let never = |what: &str| Some((format!("{text:?} {what}"), instead(&full), true));
    let (what, remedy, never_matches) = match *parts.as_slice() {
        [vault, item, ""] if !vault.is_empty() && !item.is_empty() => {
            let example = format!("op://{vault}/{item}/password");
            Some((
                format!("{text:?} ends in a slash, without a field"),
                format!("add it, for example {example:?}"),
                true,
            ))
        }
        [_, _, _, ""] => never("ends in a slash"),
        [_, _, _] if parts.contains(&"") => never("has an empty part"),
        ["", ..] | [_, "", ..] => never("has a slash too many"),
        [_, _, "", _] => Some((
            format!("{text:?} has two slashes in a row, which means a section without a title"),
            format!("{}, unless the field is in such a section", instead(&full)),
            false,
        )),
        _ => None,
    }?;
    Some(Slip { what, remedy, never_matches })
}

/// What to write instead of a text with too many or too few segments.
pub(super) fn of_format(text: &str) -> String {
    let Some((path, query)) = split(text) else { return String::new() };
    let full = squeezed(path, query);
    if full != text && Reference::parse(&full).is_ok() {
        return format!("; {}", instead(&full));
    }
    if path.matches('/').count() > 3 {
        return "; write a name that has a / in it as its ID".to_owned();
    }
    String::new()
}

/// What to write instead of a text with an invalid character.
pub(super) fn of_character(text: &str, found: char) -> String {
    const BY_ID: &str = "write the ID of what has other characters in its name (26 letters and digits; shown by: op item get)";
    match found {
        '%' => match decoded(text) {
            Some(plain) => format!("references are not URL-encoded; {}", instead(&plain)),
            None => format!("references are not URL-encoded; {BY_ID}"),
        },
        '$' => "variables such as ${NAME} are not replaced in references; write the name itself, \
                or use a rule, whose reference can have {instance}"
            .to_owned(),
        _ => BY_ID.to_owned(),
    }
}

/// The suggestion, if it is a complete reference.
fn instead(text: &str) -> String {
    let slashes = text.matches('/').count() - 2;
    if (2..=3).contains(&slashes) {
        format!("write {text:?}")
    } else {
        "write all of it: \"op://VAULT/ITEM/FIELD\"".to_owned()
    }
}

/// The path, and the query with its `?`.
fn split(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("op://")?;
    Some(rest.split_at(rest.find('?').unwrap_or(rest.len())))
}

/// A reference without its empty segments.
fn squeezed(path: &str, query: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("op://{}{query}", parts.join("/"))
}

/// A URL-encoded reference in decoded form, if that is valid.
fn decoded(text: &str) -> Option<String> {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('%') {
        let byte = u8::from_str_radix(after.get(..2)?, 16).ok()?;
        let decoded = char::from(byte);
        if !byte.is_ascii() || !segment_char(decoded) {
            return None; // also an encoded slash, which is part of a name
        }
        plain.push_str(before);
        plain.push(decoded);
        rest = after.get(2..)?;
    }
    plain.push_str(rest);
    Reference::parse(&plain).is_ok().then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_references() {
        let cases = [
            (
                "op://My%20Vault/My%20Item/f",
                "references are not URL-encoded; write \"op://My Vault/My Item/f\"",
            ),
            ("op://v/a%2Fb/f", "references are not URL-encoded; write the ID"),
            ("op://v/%zz/f", "references are not URL-encoded; write the ID"),
            ("op://v/%C3%BC/f", "references are not URL-encoded; write the ID"),
            ("op://v/i/f%", "references are not URL-encoded; write the ID"),
            ("op://v/i/f%2", "references are not URL-encoded; write the ID"),
            ("op://v/i/f%ü", "references are not URL-encoded; write the ID"),
            ("op://${APP_ENV}/i/f", "variables such as ${NAME} are not replaced"),
            ("op://$VAULT/i/f", "write the name itself"),
            ("op://v/Schlüssel/f", "write the ID of what has other characters"),
            ("op://v/i/s/f/", "; write \"op://v/i/s/f\""),
            ("op://v//i/s/f?attribute=otp", "; write \"op://v/i/s/f?attribute=otp\""),
            ("op://a/b/c/d/e", "write a name that has a / in it as its ID"),
            ("op://v/i", "op://VAULT/ITEM/[SECTION/]FIELD"),
        ];
        for (text, expected) in cases {
            let parsed = Reference::parse(text);
            let said = match parsed {
                Err(bad) => bad.to_string(),
                Ok(_) => panic!("{text:?} is a reference"),
            };
            assert!(said.contains(expected), "{text:?}: {said}");
            assert!(said.starts_with(&format!("{text:?} is not a secret reference: ")), "{said}");
        }
    }

    #[test]
    fn references_that_can_match_nothing() {
        let cases = [
            ("op://v/i/f/", true, "write \"op://v/i/f\""),
            ("op://v/i/f/?attribute=otp", true, "write \"op://v/i/f?attribute=otp\""),
            ("op://v/i/", true, "add it, for example \"op://v/i/password\""),
            ("op://v//i/f", true, "write \"op://v/i/f\""),
            ("op:///v/i/f", true, "write \"op://v/i/f\""),
            ("op://v//f", true, "write all of it"),
            ("op:///i/f", true, "write all of it"),
            ("op:////", true, "write all of it"),
            ("op://a//b/c/d/e", true, "write all of it"),
            ("op://v/i//", true, "write all of it"),
            ("op://v/i//f", false, "write \"op://v/i/f\", unless the field is in such a section"),
            ("op://v/{instance}//f", false, "write \"op://v/{instance}/f\""),
        ];
        for (text, never_matches, remedy) in cases {
            let slip = slip(text).unwrap_or_else(|| panic!("{text:?} is fine"));
            assert!(slip.remedy.contains(remedy), "{text:?}: {slip:?}");
            assert!(slip.what.starts_with(&format!("{text:?} ")), "{slip:?}");
            assert_eq!(slip.never_matches, never_matches, "{text:?}");
        }
        for text in ["op:///i/f", "op://v//f", "op:///i/", "op://v//"] {
            let what = slip(text).map(|slip| slip.what).unwrap_or_default();
            assert_eq!(what, format!("{text:?} has an empty part"));
        }
        for text in ["op://v//i/", "op://a//b", "op://v"] {
            assert_eq!(of_format(text), "", "{text:?}");
        }
        for fine in ["op://v/i/f", "op://v/i/s/f", "op://v/i/ ", "op://v/i/f?attribute=otp", "no reference"] {
            assert_eq!(slip(fine), None, "{fine:?}");
        }
    }
}
