//! Globs as systemctl understands them: `*`, `?` and `[…]`. A backslash has no special meaning. Pure.
//!
//! They are not compiled before matching: a configuration may contain thousands, and each is used rarely.

/// Why a text is not a valid glob: the text, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a name nor a glob: {1}")]
pub struct BadPattern(pub String, pub String);

/// The characters of wildcards.
const WILD: [char; 4] = ['*', '?', '[', ']'];

/// A glob, or a text without wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: Box<str>,
    wild: bool,
}

impl Glob {
    /// Parses a glob, or a text without wildcards.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let wild = text.contains(['*', '?', '[']);
        if wild {
            check(text).map_err(|why| BadPattern(text.into(), why))?;
        }
        Ok(Self { text: text.into(), wild })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        if self.wild { matches(&self.text, text) } else { *self.text == *text }
    }

    /// The text, if it has no wildcards.
    pub fn literal(&self) -> Option<&str> {
        (!self.wild).then_some(&*self.text)
    }

    /// Whether this certainly matches everything that the other matches. False does not prove the contrary.
    pub fn covers(&self, other: &Self) -> bool {
        self.text == other.text
            || match (other.literal(), self.text.split_once('*')) {
                (Some(text), _) => self.matches(text),
                // All matches of the other start with its head and end with its tail, and these do not
                // overlap. They contain no wildcards, so neither do this head and tail if they compare equal.
                (None, Some((head, tail))) => other.head().starts_with(head) && other.tail().ends_with(tail),
                (None, None) => false,
            }
    }

    fn head(&self) -> &str {
        self.text.split(WILD).next().unwrap_or_default()
    }

    fn tail(&self) -> &str {
        self.text.rsplit(WILD).next().unwrap_or_default()
    }

    /// The glob as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The first piece of a glob: it matches one character of the text, or any number of them.
enum Piece<'g> {
    Many,
    Any,
    Only(char),
    /// The characters between the brackets, without `!`.
    Class {
        members: &'g str,
        others: bool,
    },
}

/// The first piece, and the rest. `None` at the end, and if a bracket is not closed.
fn first(glob: &str) -> Option<(Piece<'_>, &str)> {
    let c = glob.chars().next()?;
    let rest = &glob[c.len_utf8()..];
    match c {
        '*' => Some((Piece::Many, rest)),
        '?' => Some((Piece::Any, rest)),
        '[' => {
            let inner = rest.strip_prefix(['!', '^']);
            let (inside, others) = (inner.unwrap_or(rest), inner.is_some());
            // a bracket at the first position is a member
            let from = usize::from(inside.starts_with(']'));
            let end = from + inside.get(from..)?.find(']')?;
            Some((Piece::Class { members: &inside[..end], others }, &inside[end + 1..]))
        }
        c => Some((Piece::Only(c), rest)),
    }
}

/// The ranges of a class; a single character is a range of itself, and a dash at either end is a member.
fn ranges(members: &str) -> impl Iterator<Item = (char, char)> {
    let mut chars = members.chars();
    std::iter::from_fn(move || {
        let low = chars.next()?;
        let mut ahead = chars.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                chars = ahead;
                Some((low, high))
            }
            _ => Some((low, low)),
        }
    })
}

impl Piece<'_> {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Many | Self::Any => true,
            Self::Only(only) => *only == c,
            Self::Class { members, others } => {
                ranges(members).any(|(low, high)| (low..=high).contains(&c)) != *others
            }
        }
    }
}

fn check(glob: &str) -> Result<(), String> {
    if glob.contains(['{', '}']) {
        return Err("alternatives in {} are not supported; write one entry for each".into());
    }
    let mut rest = glob;
    while let Some((piece, after)) = first(rest) {
        if let Piece::Class { members, .. } = piece
            && let Some((low, high)) = ranges(members).find(|(low, high)| low > high)
        {
            return Err(format!("the range {low}-{high} is empty; put the lower character first"));
        }
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err("a [ has no ] after it; close it".into()) }
}

fn matches(glob: &str, text: &str) -> bool {
    let (mut glob, mut text) = (glob, text);
    // the glob after the last `*`, and the text that the `*` has not matched yet: whenever the rest does not
    // match, the `*` takes one more character
    let mut again: Option<(&str, &str)> = None;
    loop {
        let c = text.chars().next();
        match (first(glob), c) {
            (Some((Piece::Many, rest)), _) => {
                again = Some((rest, text));
                glob = rest;
                continue;
            }
            (Some((piece, rest)), Some(c)) if piece.takes(c) => {
                (glob, text) = (rest, &text[c.len_utf8()..]);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((rest, left)) = again else { return false };
        let Some(c) = left.chars().next() else { return false };
        let left = &left[c.len_utf8()..];
        again = Some((rest, left));
        (glob, text) = (rest, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards() {
        let matches = |glob: &str, text: &str| Glob::parse(glob).expect(glob).matches(text);
        for (glob, text) in [
            ("*", ""),
            ("a*c", "abcbc"),
            ("a**", "a"),
            ("?", "ä"),
            ("[a-c]x[!a-c]", "bxd"),
            ("[]]", "]"),
            ("[^]]", "a"),
            ("[a-]", "-"),
            (r"a\*", r"a\b"),
            ("a*b*c?", "axbxbxcd"),
        ] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in
            [("?", ""), ("a*c", "abcb"), ("[a-c]", "d"), ("[!a]", ""), ("a", "ab"), ("*a", "")]
        {
            assert!(!matches(glob, text), "{glob} {text}");
        }
        for wrong in ["[", "[]", "[!", "[!]", "a[b", "[b-a]", "{a,b}*"] {
            assert!(Glob::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Matches by the definition: tries every length for a `*`.
    fn slowly(glob: &str, text: &str) -> bool {
        match (first(glob), text.chars().next()) {
            (None, c) => c.is_none(),
            (Some((Piece::Many, rest)), c) => {
                slowly(rest, text) || c.is_some_and(|c| slowly(glob, &text[c.len_utf8()..]))
            }
            (Some((piece, rest)), Some(c)) => piece.takes(c) && slowly(rest, &text[c.len_utf8()..]),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(glob in "(\\PC|[\\[\\]!^*?a-]){0,8}", text in "\\PC{0,8}") {
            let _ = Glob::parse(&glob).map(|glob| glob.matches(&text));
        }

        #[test]
        fn as_defined(glob in "([ab*?]|\\[[!]?[ab]\\]){0,6}", text in "[abc]{0,8}") {
            prop_assert_eq!(Glob::parse(&glob).expect("valid").matches(&text), slowly(&glob, &text));
        }
    }
}
