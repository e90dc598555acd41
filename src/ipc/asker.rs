//! The asker on whose behalf the provider sends a question. The resolver receives only a number for the budget share and the
//! purpose, never the name of a unit.

use serde::{Deserialize, Deserializer, Serialize};

/// On whose behalf a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct ShareOwner {
    /// The budget share to charge: an opaque number per unit and user. Zero means onecred itself and its
    /// administrators, who have no share.
    pub share: u64,
    /// The purpose of the question.
    pub class: Purpose,
}

/// The purpose of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A unit starts and has not yet received this credential. Questions of an older provider count as this
    /// purpose.
    #[default]
    FirstStart,
    /// A unit starts again, or an administrator requests the value.
    Start,
    /// A unit or user asks on D-Bus.
    Bus,
    /// No one is waiting for the answer.
    Background,
}

impl ShareOwner {
    /// Parses the asker. A purpose that only a newer provider knows counts as missing.
    pub(super) fn tolerant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let asker = serde_json::Value::deserialize(deserializer)?;
        Ok(serde_json::from_value(asker).unwrap_or_default())
    }
}

/// The calls of one consumer to a source in the last 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spender {
    /// See [`ShareOwner::share`].
    pub share: u64,
    /// The number of calls.
    pub calls: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Question {
        #[serde(default, deserialize_with = "ShareOwner::tolerant")]
        asker: ShareOwner,
    }

    #[test]
    fn what_another_version_says_is_read_as_far_as_it_is_known() {
        let bus = ShareOwner { share: u64::MAX, class: Purpose::Bus };
        for (question, expected) in [
            (json!({}), ShareOwner::default()),
            (json!({ "asker": { "share": u64::MAX, "class": "bus" } }), bus),
            (json!({ "asker": { "share": u64::MAX, "class": "bus", "weight": 3 } }), bus),
            (json!({ "asker": { "share": 7, "class": "emergency" } }), ShareOwner::default()),
            (json!({ "asker": "someone" }), ShareOwner::default()),
        ] {
            let read: Question = serde_json::from_value(question.clone()).unwrap();
            assert_eq!(read.asker, expected, "{question}");
        }
        let text = serde_json::to_string(&bus).unwrap();
        assert_eq!(serde_json::from_str::<ShareOwner>(&text).unwrap(), bus, "{text}");
    }
}
