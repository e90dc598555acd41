//! Interprets a failed test of a token. A server that does not answer proves nothing about the token. Pure.

use crate::ipc::{Class, Failure};

/// The conclusion about a token whose test failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server rejects it, or it gives access to nothing.
    Rejected,
    /// It does not have the form of a token.
    MalformedToken,
    /// The token is missing.
    NoToken,
    /// The server or the resolver did not answer.
    Unreachable,
    /// Calls are limited for now.
    Limited,
    /// It was not tested: 1Password's SDK core is missing, or the source is configured wrongly.
    Misconfigured,
    /// The answer did not come from 1Password.
    Unclear,
}

impl Verdict {
    pub(super) fn of(failure: &Failure) -> Self {
        match failure.class {
            _ if failure.is_malformed_token => Self::MalformedToken,
            Class::Denied => Self::Rejected,
            Class::NoToken => Self::NoToken,
            Class::Away => Self::Unreachable,
            Class::Limited => Self::Limited,
            Class::Misconfigured => Self::Misconfigured,
            Class::NotFound | Class::Several | Class::Malformed | Class::TooLarge | Class::Store => {
                Self::Unclear
            }
        }
    }

    /// The identifier for JSON.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::MalformedToken => "malformed-token",
            Self::NoToken => "no-token",
            Self::Unreachable => "unreachable",
            Self::Limited => "limited",
            Self::Misconfigured => "misconfigured",
            Self::Unclear => "unclear",
        }
    }

    /// Whether the token itself is at fault; `None` if unknown.
    pub(super) fn is_of_token(self) -> Option<bool> {
        match self {
            Self::Rejected | Self::MalformedToken | Self::NoToken => Some(true),
            Self::Unreachable | Self::Limited | Self::Misconfigured | Self::Unclear => None,
        }
    }

    /// The beginning of a line about the token of a source.
    pub(super) fn of_source(self, source: &str) -> String {
        match self {
            Self::Rejected => format!("the token of source {source} is rejected"),
            Self::MalformedToken => format!("the token of source {source} is malformed"),
            Self::NoToken => format!("source {source} has no token"),
            Self::Unreachable => format!("the token of source {source} could not be checked: no answer"),
            Self::Limited => format!("the token of source {source} could not be checked: calls are limited"),
            Self::Misconfigured | Self::Unclear => {
                format!("the token of source {source} could not be checked")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_says_about_a_token() {
        let cases = [
            (Class::Denied, Verdict::Rejected, Some(true), "the token of source a is rejected"),
            (Class::NoToken, Verdict::NoToken, Some(true), "source a has no token"),
            (Class::Away, Verdict::Unreachable, None, "could not be checked: no answer"),
            (Class::Limited, Verdict::Limited, None, "could not be checked: calls are limited"),
            (Class::Misconfigured, Verdict::Misconfigured, None, "could not be checked"),
            (Class::Malformed, Verdict::Unclear, None, "could not be checked"),
            (Class::TooLarge, Verdict::Unclear, None, "could not be checked"),
        ];
        for (class, verdict, is_of_token, words) in cases {
            let failure = Failure::new(class, "cause", "fix");
            assert_eq!(Verdict::of(&failure), verdict, "{class:?}");
            assert_eq!(verdict.is_of_token(), is_of_token, "{class:?}");
            assert!(verdict.of_source("a").contains(words), "{class:?}");
            let malformed = Verdict::of(&failure.malformed_token());
            assert_eq!(
                (malformed, malformed.word()),
                (Verdict::MalformedToken, "malformed-token"),
                "{class:?}"
            );
        }
    }
}
