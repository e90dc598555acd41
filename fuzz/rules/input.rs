//! Bytes of the fuzzer, taken apart from their beginning.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is left of an input.
#[derive(Clone, Copy)]
pub(crate) struct Input<'d>(pub(crate) &'d [u8]);

impl<'d> Input<'d> {
    /// The next byte, or 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// What comes before the next such byte, which is passed over; else all.
    pub(crate) fn upto(&mut self, end: u8) -> &'d [u8] {
        let at = self.0.iter().position(|byte| *byte == end);
        let taken = &self.0[..at.unwrap_or(self.0.len())];
        self.0 = at.map_or(&[], |at| &self.0[at + 1..]);
        taken
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'d [u8] {
        self.0
    }
}

/// Bytes as text; what is none is replaced, so that no input is lost.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// What is read, written, and read again is the same.
pub(crate) fn again<T: Serialize + DeserializeOwned>(json: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(json).ok()?;
    let Ok(once) = serde_json::to_string(&value) else { panic!("what was read can't be written") };
    let twice =
        serde_json::from_str::<T>(&once).map(|value| serde_json::to_string(&value).unwrap_or_default());
    assert_eq!(twice.ok().as_ref(), Some(&once));
    Some(value)
}
