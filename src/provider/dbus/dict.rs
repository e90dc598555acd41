//! Dictionaries of named values, as D-Bus methods return them.

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant};

use crate::domain::secret::Grant;

/// A dictionary of named values, the D-Bus type `a{sv}`.
pub(super) type Dict = HashMap<&'static str, OwnedVariant>;

/// Adds a value to a dictionary.
pub(super) fn put(dict: &mut Dict, key: &'static str, value: Variant<'_>) {
    // numbers, strings and lists of them contain no descriptor whose copy could fail
    if let Ok(value) = value.try_to_owned() {
        dict.insert(key, value);
    }
}

/// The entries of `units` of a secret or template with this name.
pub(super) fn entries(name: &str, grants: &[Grant]) -> Vec<String> {
    let entry = |grant: &Grant| match grant.credential.as_str() == name {
        true => grant.units.glob().as_str().to_owned(),
        false => format!("{}/{}", grant.units.glob().as_str(), grant.credential),
    };
    grants.iter().map(entry).collect()
}
