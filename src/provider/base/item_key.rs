//! The key by which the store finds items. All spellings of a title have one key, so they share a snapshot
//! and their fields have the same version. The key keeps the spelling for display.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::domain::name::SourceName;
use crate::domain::reference::{ItemRef, Segment};

/// The length of an ID. A segment of this length may be an ID, and IDs are case-sensitive.
const ID: usize = 26;

/// An item of a source. Different spellings of the same title are equal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemKey {
    /// The source.
    pub source: SourceName,
    /// The item in the spelling of the configuration.
    pub item: ItemRef,
}

impl ItemKey {
    /// Creates the key of an item.
    pub fn new(source: &SourceName, item: &ItemRef) -> Self {
        Self { source: source.clone(), item: item.clone() }
    }

    /// The item in a normal form that is the same for all spellings.
    pub(crate) fn folded(&self) -> ItemRef {
        let fold = |segment: &Segment| {
            let text = match segment.text.len() {
                ID => segment.text.clone(),
                _ => segment.text.to_ascii_lowercase().into(),
            };
            Segment { text, by: segment.by }
        };
        ItemRef { vault: fold(&self.item.vault), item: fold(&self.item.item) }
    }

    fn segments(&self) -> [&Segment; 2] {
        [&self.item.vault, &self.item.item]
    }
}

/// The bytes of a segment in the form of [`ItemKey::folded`], without allocating it.
fn bytes(segment: &Segment) -> impl Iterator<Item = u8> {
    let is_id = segment.text.len() == ID;
    segment.text.bytes().map(move |byte| if is_id { byte } else { byte.to_ascii_lowercase() })
}

fn order(one: &Segment, other: &Segment) -> Ordering {
    // most keys of a configuration are in one vault
    if one.text == other.text {
        return one.by.cmp(&other.by);
    }
    bytes(one).cmp(bytes(other)).then_with(|| one.by.cmp(&other.by))
}

/// Whether two segments are equal in normal form.
fn same(one: &Segment, other: &Segment) -> bool {
    let is_id = one.text.len() == ID;
    one.by == other.by && (one.text == other.text || !is_id && one.text.eq_ignore_ascii_case(&other.text))
}

impl Ord for ItemKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let [vault, item] = self.segments();
        let [other_vault, other_item] = other.segments();
        self.source
            .cmp(&other.source)
            .then_with(|| order(vault, other_vault))
            .then_with(|| order(item, other_item))
    }
}

impl PartialOrd for ItemKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ItemKey {
    fn eq(&self, other: &Self) -> bool {
        // not by `cmp`, which compares every byte: with many secrets, keys are compared often
        self.source == other.source
            && self.segments().into_iter().zip(other.segments()).all(|(one, other)| same(one, other))
    }
}

impl Eq for ItemKey {}

impl Hash for ItemKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
        for segment in self.segments() {
            bytes(segment).for_each(|byte| state.write_u8(byte));
            state.write_u8(0xff); // a byte that does not occur in text
            segment.by.hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;
    use crate::domain::reference::Reference;

    fn key(reference: &str) -> ItemKey {
        let reference = Reference::parse(reference).expect(reference);
        ItemKey::new(&SourceName::default_source(), &reference.item)
    }

    #[test]
    fn spellings_of_one_title_are_one_key() {
        let hasher = std::hash::RandomState::new();
        let (id, other_id) = ("abcdefghijklmnopqrstuvwxyz", "Abcdefghijklmnopqrstuvwxyz");
        for (one, other, same) in [
            ("op://My Vault/Db/p", "op://my vault/DB/q", true),
            ("op://My Vault/Db/p", "op://My Vault/Dc/p", false),
            ("op://a/bc/p", "op://ab/c/p", false),
            (&format!("op://v/{id}/p"), &format!("op://v/{other_id}/p"), false),
            (&format!("op://V/{id}/p"), &format!("op://v/{id}/p"), true),
        ] {
            let (one, other) = (key(one), key(other));
            assert_eq!(one == other, same, "{one:?} {other:?}");
            assert_eq!(one.folded() == other.folded(), same, "{one:?} {other:?}");
            assert_eq!(hasher.hash_one(&one) == hasher.hash_one(&other), same, "{one:?} {other:?}");
            assert_eq!(one.cmp(&other), other.cmp(&one).reverse());
            assert_eq!(one.cmp(&other).is_eq(), same, "{one:?} {other:?}");
        }
        assert_eq!(
            key("op://My Vault/Db/p").item.to_string(),
            "op://My Vault/Db",
            "it is shown as it was written"
        );
    }
}
