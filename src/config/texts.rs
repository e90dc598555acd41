//! The texts of a configuration's files. They are kept to load the same configuration again, and compared by
//! a digest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The texts in the order in which they are merged, with the names of their files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Texts(pub(super) Vec<(PathBuf, String)>);

impl Texts {
    /// The SHA-256 of names and texts, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes()); // lengths make the boundaries unambiguous
            context.update(bytes);
        };
        for (file, text) in &self.0 {
            part(file.as_os_str().as_encoded_bytes());
            part(text.as_bytes());
        }
        context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> Texts {
        Texts(files.iter().map(|(file, text)| (file.into(), (*text).to_owned())).collect())
    }

    #[test]
    fn the_digest_changes_with_any_part() {
        let all = [
            texts(&[]),
            texts(&[("a", "bc")]),
            texts(&[("ab", "c")]),
            texts(&[("a", "b"), ("c", "")]),
            texts(&[("a", ""), ("b", "c")]),
            texts(&[("b", "c"), ("a", "")]),
        ];
        let digests: std::collections::HashSet<String> = all.iter().map(Texts::digest).collect();
        assert_eq!(digests.len(), all.len());
        assert_eq!(all[1].digest(), texts(&[("a", "bc")]).digest());
    }
}
