//! Secret references: `op://<vault>/<item>/[<section>/]<field>[?attribute=otp|?ssh-format=openssh]`.
//!
//! The grammar is the one of 1Password's own core, to the byte: integration/fixtures/op-reference-vectors.tsv holds 94 verdicts of it.
//! There is no URL decoding: what stands outside the alphabet is addressed by ID.

mod advice;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use advice::{Slip, slip};

/// Why a text is not a reference, and what to write instead. The message holds the text itself: a reference is not secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// The text does not begin with `op://`.
    #[error("{0:?} is not a secret reference: it does not begin with op:// (in lower case)")]
    Prefix(String),
    /// Not three or four segments, or not exactly one query parameter.
    #[error(
        "{0:?} is not a secret reference: its form is op://VAULT/ITEM/[SECTION/]FIELD, with at most one ?key=value at its end{advice}",
        advice = advice::of_format(.0)
    )]
    Format(String),
    /// A character that a reference can't hold.
    #[error(
        "{text:?} is not a secret reference: it can have letters, digits, spaces and any of _.- but not {found:?}; {advice}",
        advice = advice::of_character(.text, *.found)
    )]
    Character {
        /// The reference as it was given.
        text: String,
        /// The first character that can't stand in it.
        found: char,
    },
    /// A query key other than `attribute` and `ssh-format`.
    #[error(
        "{0:?} is not a secret reference: the query can be ?attribute=otp, ?attribute=totp or ?ssh-format=openssh"
    )]
    QueryKey(String),
    /// A value that its query key does not have.
    #[error(
        "{0:?} is not a secret reference: attribute can be otp or totp (other attributes have no value here), ssh-format can be openssh"
    )]
    QueryValue(String),
}

/// How a segment of a reference is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MatchBy {
    /// As 1Password does: by ID, or by title without regard to case.
    TitleOrId,
    /// By title alone: the text came out of a unit's name, which must not pick an ID.
    Title,
}

/// One segment of a reference: what it says, and how it is matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Segment {
    /// The text, within the alphabet of references.
    pub text: Box<str>,
    /// What it may match.
    pub by: MatchBy,
}

/// What of a field is wanted, besides its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Query {
    /// `?attribute=otp` (or `totp`): the current code of a one-time password field.
    Otp,
    /// `?ssh-format=openssh`: a private key in OpenSSH's format.
    OpenSsh,
}

/// The part of a reference that says which item: what is fetched, cached and checked as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemRef {
    /// The vault's title or ID.
    pub vault: Segment,
    /// The item's title or ID.
    pub item: Segment,
}

/// The part of a reference that says what is wanted of an item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FieldRef {
    /// The section's title or ID; an empty one matches a section without a title.
    pub section: Option<Segment>,
    /// The field's (or file's) label or ID.
    pub field: Segment,
    /// What of the field.
    pub query: Option<Query>,
}

/// A secret reference: an item, and what of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// Which item.
    pub item: ItemRef,
    /// What of it.
    pub field: FieldRef,
}

/// Whether a character may stand in a segment.
pub(crate) fn segment_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.- ".contains(c)
}

impl Reference {
    /// Reads a reference, by the core's grammar.
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

/// A reference with placeholders, as a rule has it: `op://Servers/{instance}/{credential}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceTemplate(String);

/// The placeholders of a [`ReferenceTemplate`], without their braces.
pub const PLACEHOLDERS: [&str; 4] = ["unit", "prefix", "instance", "credential"];

/// Why a template gives no reference for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// What the template would give is no reference.
    #[error(transparent)]
    Reference(#[from] BadReference),
    /// A placeholder that does not exist.
    #[error("{0:?} is no placeholder: there are {{unit}}, {{prefix}}, {{instance}} and {{credential}}")]
    Placeholder(String),
    /// A `{` without its `}`.
    #[error("a {{ in {0:?} is not closed; a placeholder is written like {{instance}}")]
    Open(String),
    /// What a placeholder stands for here is empty, `..`, or has characters that a reference can't hold.
    #[error(
        "{{{placeholder}}} would be {value:?}, and only letters, digits, spaces and any of _.- can stand in a reference"
    )]
    Value {
        /// The placeholder's name.
        placeholder: &'static str,
        /// What it would have stood for.
        value: String,
    },
}

impl ReferenceTemplate {
    /// Reads a template; what it gives with harmless values must be a reference.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let template = Self(text.to_owned());
        template.fill(&|_| "x".to_owned())?;
        Ok(template)
    }

    /// The reference for one request. `value` gives what a placeholder stands for; nothing that could leave its segment comes through,
    /// and a segment with a placeholder matches titles only.
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

    /// Reads one Python literal of the vectors' file.
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
