//! Finds references without braces in the text of a template, as `op inject` accepts them. onecred would not
//! replace them.

use super::Mistake;
use crate::domain::reference::Reference;

const SCHEME: &str = "op://";
/// The maximum number of references that are searched for in one part of a text.
const MOST: usize = 20;
/// The maximum number of characters of a reference that are shown.
const SHOWN: usize = 120;

/// The references, each with its byte offset.
pub(super) fn find(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let found = text.match_indices(SCHEME).filter(|(at, _)| begins(&text[..*at])).take(MOST);
    found.map(|(at, _)| (at, extent(&text[..at], &text[at..])))
}

/// Whether a scheme can begin after this text. In `loop://` it cannot.
fn begins(before: &str) -> bool {
    !before.ends_with(|c: char| c.is_ascii_alphanumeric() || "+.-_".contains(c))
}

/// The length of a reference: up to the quote that ends it, or to whitespace or punctuation.
fn extent<'t>(before: &str, text: &'t str) -> &'t str {
    let quote = before.chars().next_back().filter(|c| "\"'`".contains(*c));
    let line = text.lines().next().unwrap_or_default();
    if let Some((quoted, _)) = quote.and_then(|quote| line.split_once(quote)) {
        return quoted;
    }
    let ends = |c: char| c.is_whitespace() || "\"'`<>(),;|\\".contains(c);
    let end = line.find(ends).unwrap_or(line.len());
    line[..end].trim_end_matches(['.', ':'])
}

/// The mistake and its remedy. `place` names the line.
pub(super) fn mistake(bare: &str, place: &str) -> Mistake {
    let shown: String = bare.chars().take(SHOWN).collect();
    let what = format!("the content holds {shown}{place} without braces, so it would not be replaced");
    let value = match Reference::parse(bare) {
        Ok(_) => format!("for the value write {{{{{bare}}}}}"),
        Err(_) if bare.contains('$') => {
            "for the value write {{op://VAULT/ITEM/FIELD}}, with names in place of variables such as ${NAME}"
                .to_owned()
        }
        Err(_) => "for the value write {{op://VAULT/ITEM/FIELD}}".to_owned(),
    };
    Mistake {
        what,
        remedy: format!("{value}; for the text itself write {{{{\"{SCHEME}\"}}}} in place of {SCHEME}"),
    }
}
