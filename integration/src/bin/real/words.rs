//! Decides which words of an answer the report may show: keys, types and header names, but nothing that a
//! user has written.

use std::collections::BTreeSet;

use serde_json::Value;

/// Keys whose values 1Password chooses, not the user.
const CHOSEN: [&str; 9] =
    ["type", "purpose", "category", "state", "fieldType", "vaultType", "service", "status", "keyType"];
/// The longest word of an answer that is shown.
const LONGEST: usize = 40;

/// Everything received so far that a user may have written.
#[derive(Debug, Default)]
pub(crate) struct Words(BTreeSet<String>);

impl Words {
    /// Adds a text that the report must not contain, and its words.
    pub(crate) fn hide(&mut self, text: &str) {
        let text = text.trim().to_lowercase();
        self.0.extend(
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned),
        );
        self.0.insert(text);
    }

    /// Adds all texts of an answer.
    pub(crate) fn hide_all(&mut self, json: &Value) {
        match json {
            Value::String(text) => self.hide(text),
            Value::Array(values) => values.iter().for_each(|value| self.hide_all(value)),
            Value::Object(entries) => {
                for (key, value) in entries {
                    if !(value.is_string() && CHOSEN.contains(&key.as_str())) {
                        self.hide_all(value);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A key, a type or a header name as the report shows it.
    pub(crate) fn show<'a>(&self, word: &'a str) -> &'a str {
        let plain = word.bytes().all(|b| b.is_ascii_alphabetic() || b"-_".contains(&b));
        let is_word = plain && (1..=LONGEST).contains(&word.len());
        if is_word && !self.0.contains(&word.to_lowercase()) { word } else { "(a word that is not shown)" }
    }
}

/// A version such as `1.7.1`, which is shown unchanged.
pub(crate) fn version(text: &str) -> Option<&str> {
    let parts = text.split('.').collect::<Vec<_>>();
    let is_number = |part: &&str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (parts.len() == 3 && parts.iter().all(is_number)).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_a_user_wrote_is_shown() {
        let mut words = Words::default();
        words.hide_all(&json!([{ "title": "Payroll", "note": "head of payroll", "tags": ["secret-tag"], "type": "HOLOGRAM", "deep": { "label": "LABEL" } }]));
        for hidden in
            ["Payroll", "payroll", "secret-tag", "of", "LABEL", "two words", "a1", "", "é", &"a".repeat(41)]
        {
            assert_eq!(words.show(hidden), "(a word that is not shown)", "{hidden}");
        }
        for shown in ["HOLOGRAM", "lastEditedBy", "x-request-id"] {
            assert_eq!(words.show(shown), shown);
        }
    }

    #[test]
    fn a_chosen_key_hides_what_is_not_text() {
        let mut words = Words::default();
        words.hide_all(&json!({ "type": { "name": "inner" } }));
        assert_eq!(words.show("inner"), "(a word that is not shown)");
    }

    #[test]
    fn versions() {
        assert_eq!(version("1.17.0"), Some("1.17.0"));
        for other in ["", "1.7", "1.7.1.2", "1.7.x", "1..1", "12345.1.1", "1.7.1 secret"] {
            assert_eq!(version(other), None, "{other}");
        }
    }
}
