//! The data model of Connect: vaults and items, parsed leniently and wiped when dropped.
//!
//! Types and categories are text, because Connect sends more of them than its specification lists. None of
//! the types implements `Debug`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A vault in the list of vaults.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Vault {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) content_version: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    pub(crate) items: Option<u64>,
}

/// An item in the list of a vault's items, without secrets.
#[derive(Clone, Deserialize)]
pub(crate) struct ItemOverview {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) vault: Option<VaultId>,
    #[serde(default)]
    pub(crate) version: Option<u64>,
    #[serde(default)]
    pub(crate) state: Option<String>,
}

/// The vault that an item names as its own.
#[derive(Clone, Deserialize, Hash)]
pub(crate) struct VaultId {
    pub(crate) id: String,
}

/// A complete item.
#[derive(Deserialize, Hash)]
pub(crate) struct FullItem {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) vault: Option<VaultId>,
    #[serde(default)]
    pub(crate) version: Option<u64>,
    #[serde(default)]
    pub(crate) state: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) sections: Vec<Section>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) fields: Vec<Field>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) files: Vec<File>,
}

/// A section. Fields and files name the section that contains them.
#[derive(Deserialize, Hash)]
pub(crate) struct Section {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) label: String,
}

/// A field of an item.
#[derive(Deserialize, Hash)]
pub(crate) struct Field {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) section: Option<Section>,
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) purpose: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) label: String,
    #[serde(default)]
    pub(crate) value: Option<FieldValue>,
    #[serde(default)]
    pub(crate) totp: Option<FieldValue>,
}

/// A file of an item. Only a vault file contains its content.
#[derive(Deserialize, Hash)]
#[serde(rename_all = "camelCase")]
pub(crate) struct File {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) section: Option<Section>,
    #[serde(default)]
    pub(crate) content: Option<FieldValue>,
    #[serde(default)]
    pub(crate) content_base64: Option<FieldValue>,
}

/// The value of a field.
pub(crate) enum FieldValue {
    /// Text, or a number or boolean as JSON writes it.
    Text(Zeroizing<String>),
    /// Named parts, such as those of an address.
    Parts(Vec<(String, Zeroizing<String>)>),
    /// A nested structure, which references cannot express.
    Nested,
    /// A value that the backend does not return.
    Hidden,
}

impl Field {
    /// The value if it is text; a missing value is an empty text.
    pub(crate) fn text(&self) -> Option<&str> {
        self.value.as_ref().map_or(Some(""), FieldValue::text)
    }
}

impl Hash for FieldValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        mem::discriminant(self).hash(state);
        match self {
            Self::Text(text) => text.as_str().hash(state),
            Self::Parts(parts) => parts.iter().for_each(|(name, part)| (name, part.as_str()).hash(state)),
            Self::Nested | Self::Hidden => {}
        }
    }
}

impl FieldValue {
    /// The text, if the value is text.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Parts(_) | Self::Nested | Self::Hidden => None,
        }
    }
}

/// Whether a state means that an item is archived.
pub(crate) fn is_archived(state: Option<&str>) -> bool {
    state.is_some_and(|state| state.eq_ignore_ascii_case("ARCHIVED"))
}

/// Whether a state means that an item is deleted or archived. 1Password's SDK core treats both the same.
pub(crate) fn is_absent(state: Option<&str>) -> bool {
    is_archived(state) || state.is_some_and(|state| state.eq_ignore_ascii_case("DELETED"))
}

/// Parses JSON. The error contains the position but not the content, which serde's own message would quote.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    // serde checks UTF-8 only in the parts that it keeps; input with one invalid byte is not trusted at all
    let json = std::str::from_utf8(json).map_err(|_| "it is not UTF-8".to_owned())?;
    serde_json::from_str(json).map_err(|error| {
        // fixed beginnings of serde's messages; the rest of the message is never repeated
        let begins = |words| error.to_string().starts_with(words);
        let what = match error.classify() {
            _ if begins("duplicate ") => "it contains a key twice",
            _ if begins("recursion limit") => "it is nested too deeply",
            serde_json::error::Category::Eof => "it ends early",
            serde_json::error::Category::Data => "its structure is not that of a Connect response",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
        };
        let missing =
            missing_key(&error.to_string()).map(|key| format!(": {key:?} is missing")).unwrap_or_default();
        format!("{what}{missing} (line {}, column {})", error.line(), error.column())
    })
}

/// The key that serde reports as missing. It is one of ours, so it can be shown.
fn missing_key(error: &str) -> Option<&'static str> {
    let key = error.strip_prefix("missing field `")?.split('`').next()?;
    ["id", "name", "vaults"].into_iter().find(|known| *known == key)
}

/// Treats `null` as the default: Connect sends it for missing values.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(reader: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(reader)?.unwrap_or_default())
}

/// A count; `None` if it is not a number.
fn count<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Count {
        Known(u64),
        Other(IgnoredAny),
    }
    Ok(match Count::deserialize(reader)? {
        Count::Known(count) => Some(count),
        Count::Other(_) => None,
    })
}

impl<'de> Deserialize<'de> for FieldValue {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(ReadValue)
    }
}

struct ReadValue;

impl<'de> Visitor<'de> for ReadValue {
    type Value = FieldValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's value")
    }

    fn visit_str<E>(self, text: &str) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(Zeroizing::new(text)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(Zeroizing::new(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(Zeroizing::new(value.to_string())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(Zeroizing::new(value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(Zeroizing::new(value.to_string())))
    }

    fn visit_unit<E>(self) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(Zeroizing::default()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FieldValue, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(FieldValue::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldValue, A::Error> {
        let mut parts = Vec::<(String, Zeroizing<String>)>::new();
        let mut nested = false;
        while let Some(key) = map.next_key::<String>()? {
            if parts.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom("duplicate key"));
            }
            match map.next_value::<FieldValue>()? {
                FieldValue::Text(text) => parts.push((key, text)),
                FieldValue::Parts(_) | FieldValue::Nested | FieldValue::Hidden => nested = true,
            }
        }
        Ok(if nested { FieldValue::Nested } else { FieldValue::Parts(parts) })
    }
}

#[cfg(test)]
mod tests;
