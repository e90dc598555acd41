//! Arguments of methods, which are bounded as they are read.

use std::collections::HashSet;

use crate::ipc::bounded;

/// Names of secrets, as callers give them. They are read before it is known whose they are, and short texts take more memory than in a
/// message.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Names(#[serde(deserialize_with = "bounded::vec")] pub(super) Vec<String>);

impl zbus::Type for Names {
    const SIGNATURE: &'static zbus::Signature = <Vec<String> as zbus::Type>::SIGNATURE;
}

/// Credentials that a unit asks for: each ID, and whether it asks at the sealed socket.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Requests(#[serde(deserialize_with = "bounded::vec")] pub(super) Vec<(String, bool)>);

impl zbus::Type for Requests {
    const SIGNATURE: &'static zbus::Signature = <Vec<(String, bool)> as zbus::Type>::SIGNATURE;
}

/// Each name once, in the order in which they come first.
pub(super) fn distinct(Names(mut names): Names) -> Vec<String> {
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_counts_once_where_it_comes_first() {
        let names = Names(["b", "a", "b", "c", "a"].map(str::to_owned).to_vec());
        assert_eq!(distinct(names), ["b", "a", "c"]);
    }
}
