//! Arguments of methods, with limits that apply while they are read.

use std::collections::HashSet;

use crate::ipc::bounded;

/// Names of secrets, as sent by a caller. They are read before the caller is known, and short strings take
/// more memory than in the message.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Names(#[serde(deserialize_with = "bounded::vec")] pub(super) Vec<String>);

impl zbus::Type for Names {
    const SIGNATURE: &'static zbus::Signature = <Vec<String> as zbus::Type>::SIGNATURE;
}

/// Credentials that a unit requests: each ID, and whether it uses the sealed socket.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Requests(#[serde(deserialize_with = "bounded::vec")] pub(super) Vec<(String, bool)>);

impl zbus::Type for Requests {
    const SIGNATURE: &'static zbus::Signature = <Vec<(String, bool)> as zbus::Type>::SIGNATURE;
}

/// Removes repeated names and keeps the order.
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
