//! A reply before it is sent: whole, in memory, so that a fault can spoil it.

use serde_json::{Value, json};

/// Status, headers and body.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn json(value: &Value) -> Reply {
        Reply::of(200, "application/json; charset=utf-8", value.to_string().into_bytes())
    }

    pub(super) fn of(status: u16, content_type: &str, body: Vec<u8>) -> Reply {
        Reply { status, content_type: content_type.to_owned(), headers: Vec::new(), body }
    }

    /// An error as Connect words them.
    pub(super) fn error(status: u16, message: impl Into<String>) -> Reply {
        let message: String = message.into();
        Reply { status, ..Reply::json(&json!({ "status": status, "message": message })) }
    }
}
