//! A reply before it is sent: complete and in memory, so that a fault can change it.

use serde_json::Value;

/// Status, headers and body.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(value: &Value) -> Reply {
        Reply::of(200, "application/json; charset=utf-8", value.to_string().into_bytes())
    }

    pub(crate) fn of(status: u16, content_type: &str, body: Vec<u8>) -> Reply {
        Reply { status, content_type: content_type.to_owned(), headers: Vec::new(), body }
    }
}
