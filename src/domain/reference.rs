//! Secret references: `op://<vault>/<item>/[<section>/]<field>[?attribute=otp|?ssh-format=openssh]`.
//!
//! The grammar is exactly that of 1Password's SDK core: integration/fixtures/op-reference-vectors.tsv
//! contains 94 of its verdicts. References are not URL-decoded: names with other characters are addressed by ID.

mod advice;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use advice::{Slip, slip};

/// Why a text is not a reference, and the remedy. The message contains the text, because a reference is not
/// secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// The text does not begin with `op://`.
    #[error("{0:?} is not a secret reference: it does not begin with op:// (in lower case)")]
    Prefix(String),
    /// It does not have three or four segments, or has more than one query parameter.
    #[error(
        "{0:?} is not a secret reference: its form is op://VAULT/ITEM/[SECTION/]FIELD, with at most one ?key=value at its end{advice}",
        advice = advice::of_format(.0)
    )]
    Format(String),
    /// It contains a character that references cannot contain.
    #[error(
        "{text:?} is not a secret reference: it can have letters, digits, spaces and any of _.- but not {found:?}; {advice}",
        advice = advice::of_character(.text, *.found)
    )]
    Character {
        /// The text.
        text: String,
        /// The first invalid character.
        found: char,
    },
    /// The query key is neither `attribute` nor `ssh-format`.
    #[error(
        "{0:?} is not a secret reference: the query can be ?attribute=otp, ?attribute=totp or ?ssh-format=openssh"
    )]
    QueryKey(String),
    /// The value is not valid for its query key.
    #[error(
        "{0:?} is not a secret reference: attribute can be otp or totp (other attributes have no value here), ssh-format can be openssh"
    )]
    QueryValue(String),
}

/// How a segment of a reference is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MatchBy {
    /// As 1Password does: by ID, or by title ignoring case.
    TitleOrId,
    /// Only by title: the text comes from the name of a unit, which must not select an ID.
    Title,
}

/// One segment of a reference: its text, and how it is matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Segment {
    /// The text, in the characters of references.
    pub text: Box<str>,
    /// What it may match.
    pub by: MatchBy,
}

/// What to return of a field instead of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Query {
    /// `?attribute=otp` (or `totp`): the current code of a one-time password field.
    Otp,
    /// `?ssh-format=openssh`: a private key in OpenSSH's format.
    OpenSsh,
}

/// The part of a reference that names the item, which is fetched, cached and checked as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemRef {
    /// The vault's title or ID.
    pub vault: Segment,
    /// The item's title or ID.
    pub item: Segment,
}

/// The part of a reference that names a field of the item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FieldRef {
    /// The section's title or ID; an empty one matches a section without a title.
    pub section: Option<Segment>,
    /// The field's (or file's) label or ID.
    pub field: Segment,
    /// What to return of the field.
    pub query: Option<Query>,
}

/// A secret reference: an item and one of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// The item.
    pub item: ItemRef,
    /// The field.
    pub field: FieldRef,
}

/// Whether a segment may contain a character.
pub(crate) fn segment_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.- ".contains(c)
}

impl Reference {
    /// Parses a reference by the grammar of the SDK core.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        Self::parse_with(text, &mut |segment| match segment.chars().find(|&c| !segment_char(c)) {
            Some(found) => Err(BadReference::Character { text: text.into(), found }),
            None => Ok(Segment { text: segment.into(), by: MatchBy::TitleOrId }),
        })
    }

    fn parse_with(
        text: &str,
        segment: &mut impl FnMut(&str) -> Result<Segment, BadReference>,
    ) -> Result<Self, BadReference> {
        let rest = text.strip_prefix("op://").ok_or_else(|| BadReference::Prefix(text.into()))?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (vault, item, section, field) = match *parts.as_slice() {
            [vault, item, field] => (vault, item, None, field),
            [vault, item, section, field] => (vault, item, Some(section), field),
            _ => return Err(BadReference::Format(text.into())),
        };
        let query = query.map(|query| read_query(text, query)).transpose()?;
        Ok(Self {
            item: ItemRef { vault: segment(vault)?, item: segment(item)? },
            field: FieldRef {
                section: section.map(&mut *segment).transpose()?,
                field: segment(field)?,
                query,
            },
        })
    }
}

fn read_query(text: &str, query: &str) -> Result<Query, BadReference> {
    let word = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    match query.split_once('=') {
        Some((key, value)) if word(key) && word(value) => match (key, value) {
            ("attribute", "otp" | "totp") => Ok(Query::Otp),
            ("ssh-format", "openssh") => Ok(Query::OpenSsh),
            ("attribute" | "ssh-format", _) => Err(BadReference::QueryValue(text.into())),
            _ => Err(BadReference::QueryKey(text.into())),
        },
        _ => Err(BadReference::Format(text.into())),
    }
}

impl fmt::Display for ItemRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op://{}/{}", self.vault.text, self.item.text)
    }
}

impl fmt::Display for FieldRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(section) = &self.section {
            write!(f, "{}/", section.text)?;
        }
        f.write_str(&self.field.text)?;
        match self.query {
            Some(Query::Otp) => f.write_str("?attribute=otp"),
            Some(Query::OpenSsh) => f.write_str("?ssh-format=openssh"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.item, self.field)
    }
}

/// A reference with placeholders, as in a rule: `op://Servers/{instance}/{credential}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceTemplate(String);

/// The placeholders of a [`ReferenceTemplate`], without their braces.
pub const PLACEHOLDERS: [&str; 4] = ["unit", "prefix", "instance", "credential"];

/// Why a template has no valid reference for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// The result is not a reference.
    #[error(transparent)]
    Reference(#[from] BadReference),
    /// A placeholder that does not exist.
    #[error(
        "{0:?} is not a placeholder: the placeholders are {{unit}}, {{prefix}}, {{instance}} and {{credential}}"
    )]
    Placeholder(String),
    /// A `{` without its `}`.
    #[error("a {{ in {0:?} is not closed; a placeholder is written like {{instance}}")]
    Open(String),
    /// The value of a placeholder is empty or `..`, or has characters that a reference cannot contain.
    #[error(
        "{{{placeholder}}} would be {value:?}, and only letters, digits, spaces and any of _.- can stand in a reference"
    )]
    Value {
        /// The name of the placeholder.
        placeholder: &'static str,
        /// Its value.
        value: String,
    },
}

impl ReferenceTemplate {
    /// Parses a template. With harmless values, the result must be a reference.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let template = Self(text.to_owned());
        template.fill(&|_| "x".to_owned())?;
        Ok(template)
    }

    /// The reference for one request. `value` returns the value of a placeholder. Values that could leave
    /// their segment are rejected, and a segment with a placeholder matches only titles.
    pub fn fill(&self, value: &dyn Fn(&'static str) -> String) -> Result<Reference, BadTemplate> {
        let mut problem = None;
        let result = Reference::parse_with(&self.0, &mut |segment| match fill_segment(segment, value) {
            Ok((text, filled)) => match text.chars().find(|&c| !segment_char(c)) {
                Some(found) => Err(BadReference::Character { text: self.0.clone(), found }),
                None => {
                    let by = if filled { MatchBy::Title } else { MatchBy::TitleOrId };
                    Ok(Segment { text: text.into(), by })
                }
            },
            Err(error) => {
                problem = Some(error);
                Err(BadReference::Format(self.0.clone()))
            }
        });
        match problem {
            Some(problem) => Err(problem),
            None => Ok(result?),
        }
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fill_segment(
    segment: &str,
    value: &dyn Fn(&'static str) -> String,
) -> Result<(String, bool), BadTemplate> {
    let (mut out, mut rest, mut filled) = (String::new(), segment, false);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| BadTemplate::Open(segment.into()))?;
        let placeholder = PLACEHOLDERS
            .into_iter()
            .find(|p| *p == name)
            .ok_or_else(|| BadTemplate::Placeholder(name.into()))?;
        let text = value(placeholder);
        if text.trim().is_empty() || text == "." || text == ".." || !text.chars().all(segment_char) {
            return Err(BadTemplate::Value { placeholder, value: text });
        }
        out.push_str(before);
        out.push_str(&text);
        (rest, filled) = (after, true);
    }
    out.push_str(rest);
    Ok((out, filled))
}

#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/rules/reference.rs"]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parses one Python literal in the file of test vectors.
    fn python(literal: &str) -> String {
        let inner = &literal[1..literal.len() - 1];
        inner.replace(r"\\", "\\").replace(r"\t", "\t").replace(r"\n", "\n").replace(r"\x00", "\0")
    }

    #[test]
    fn the_vectors_of_the_official_core() {
        let vectors = include_str!("../../integration/fixtures/op-reference-vectors.tsv");
        let mut seen = 0;
        for line in vectors.lines() {
            let (literal, verdict) = line.split_once('\t').expect("two columns");
            let text = python(literal);
            let got = match Reference::parse(&text) {
                Ok(_) => "ok",
                Err(BadReference::Prefix(_)) => "err: secret reference is not prefixed",
                Err(BadReference::Format(_)) => "err: secret reference has invalid format",
                Err(BadReference::Character { .. }) => "err: invalid character in secret reference",
                Err(BadReference::QueryKey(_)) => "err: secret reference has invalid query parameter key",
                Err(BadReference::QueryValue(_)) => "err: secret reference has invalid query parameter value",
            };
            assert!(verdict.starts_with(got), "{text:?}: {got}, but the core says {verdict}");
            seen += 1;
        }
        assert_eq!(seen, 94);
    }

    #[test]
    fn templates() {
        let fill = |template: &str, value: &str| {
            let value = value.to_owned();
            ReferenceTemplate::parse(template).expect(template).fill(&|_| value.clone())
        };
        let reference = fill("op://Servers/{prefix}-{instance}/{credential}", "a b").expect("fills");
        assert_eq!(reference.to_string(), "op://Servers/a b-a b/a b");
        assert_eq!((reference.item.vault.by, reference.item.item.by), (MatchBy::TitleOrId, MatchBy::Title));
        for value in ["", " ", "..", ".", "a/b", "a?b", "ä", "{unit}", "a\nb"] {
            assert!(matches!(fill("op://v/{unit}/f", value), Err(BadTemplate::Value { .. })), "{value:?}");
        }
        assert!(matches!(ReferenceTemplate::parse("op://v/{host}/f"), Err(BadTemplate::Placeholder(_))));
        assert!(matches!(ReferenceTemplate::parse("op://v/{unit/f"), Err(BadTemplate::Open(_))));
        assert!(matches!(ReferenceTemplate::parse("op://v/x}/f"), Err(BadTemplate::Reference(_))));
        assert!(matches!(ReferenceTemplate::parse("op://v/f"), Err(BadTemplate::Reference(_))));
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_reads_back(text in "(op://)?\\PC*") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(reference.to_string().replace("totp", "otp"), text.replace("totp", "otp"));
            }
            let _ = ReferenceTemplate::parse(&text);
        }

        #[test]
        fn a_placeholder_never_leaves_its_segment(value in "\\PC*") {
            let template = ReferenceTemplate::parse("op://v/{unit}/f").expect("valid");
            if let Ok(reference) = template.fill(&|_| value.clone()) {
                prop_assert_eq!(&*reference.item.item.text, value.as_str());
                prop_assert_eq!((&*reference.item.vault.text, &*reference.field.field.text), ("v", "f"));
            }
        }
    }
}
