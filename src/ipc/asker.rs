//! For whom something is asked, as far as the resolver learns it: a number for what is shared out of a budget, and a class. It never learns a unit's name.

use serde::{Deserialize, Deserializer, Serialize};

/// For whom something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Asker {
    /// Whose share of the budget is used: an opaque number for each unit and user. Zero is onecred itself and its administrators, who have no share.
    pub share: u64,
    /// What it is asked for.
    pub class: Purpose,
}

/// What something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A unit starts, and was not answered this before. What an older provider asks is taken for this.
    #[default]
    FirstStart,
    /// A unit starts again, or an administrator orders it.
    Start,
    /// A unit or user asks on the bus.
    Bus,
    /// No one waits for it.
    Background,
}

impl Asker {
    /// Reads who asks. What a newer provider says and this version does not know is read as if it said nothing.
    pub(super) fn tolerant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let asker = serde_json::Value::deserialize(deserializer)?;
        Ok(serde_json::from_value(asker).unwrap_or_default())
    }
}

/// What one consumer has spent of a source in the last 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spender {
    /// See [`Asker::share`].
    pub share: u64,
    /// Calls.
    pub calls: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Question {
        #[serde(default, deserialize_with = "Asker::tolerant")]
        asker: Asker,
    }

    #[test]
    fn what_another_version_says_is_read_as_far_as_it_is_known() {
        let bus = Asker { share: u64::MAX, class: Purpose::Bus };
        for (question, expected) in [
            (json!({}), Asker::default()),
            (json!({ "asker": { "share": u64::MAX, "class": "bus" } }), bus),
            (json!({ "asker": { "share": u64::MAX, "class": "bus", "weight": 3 } }), bus),
            (json!({ "asker": { "share": 7, "class": "emergency" } }), Asker::default()),
            (json!({ "asker": "someone" }), Asker::default()),
        ] {
            let read: Question = serde_json::from_value(question.clone()).unwrap();
            assert_eq!(read.asker, expected, "{question}");
        }
        let text = serde_json::to_string(&bus).unwrap();
        assert_eq!(serde_json::from_str::<Asker>(&text).unwrap(), bus, "{text}");
    }
}
