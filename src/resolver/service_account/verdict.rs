//! Classifies the errors of the SDK core. Few of them have names, so their messages are parsed. An unknown
//! error counts as temporary, so that no secret is wrongly considered deleted.

use std::time::Duration;

use super::worker::Refused;
use crate::ipc::{Class, Failure};

/// How to react to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Return the failure to the asker.
    Tell,
    /// The session is over: log in again and retry.
    LogIn,
    /// A 403 is sometimes wrong: retry once.
    Doubt,
    /// Return the failure; the call did not reach 1Password, so it cost nothing.
    Unreached,
    /// The core is broken: retry with another worker.
    Replace,
}

pub(super) const NEW_TOKEN: &str = "set a valid token: onecred token set";
const REACH: &str = "check whether this host can reach the account's host, through a proxy if necessary";

/// Classifies an error. `what` was requested from `host`.
pub(super) fn of(host: &str, what: &str, refused: &Refused) -> (Failure, Then) {
    match refused {
        Refused::NoLibrary => (no_library(), Then::Tell),
        Refused::Library(why) => (library(why), Then::Tell),
        Refused::Broken(why) => (crashed(why), Then::Replace),
        Refused::Core { name, message } => said(host, what, name, message),
    }
}

fn said(host: &str, what: &str, name: &str, message: &str) -> (Failure, Then) {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let tell =
        |class, cause: String, remedy: &str| (Failure::new(class, cause, remedy).sanitized(), Then::Tell);
    if name == "RateLimitExceeded" || has(&["rate limit exceeded", "429"]) {
        return tell(
            Class::Limited,
            format!("1Password at {host}: rate limited"),
            "wait; to reduce calls, use fewer references, a longer maxAge or a Connect server",
        );
    }
    if has(&["invalid user auth parameters"]) {
        return malformed(host, what);
    }
    if has(&["failed to authenticate", "not authenticated", "bad credentials", "invalid client id", "401"]) {
        return (denied_token(host), Then::LogIn);
    }
    if name.contains("TokenParsing") || name == "InvalidConfiguration" && has(&["service account token"]) {
        let failure = Failure::new(Class::Denied, "1Password's SDK core can't read the token", NEW_TOKEN);
        return (failure.malformed_token(), Then::Tell);
    }
    if has(&["right permissions"]) {
        let cause = format!("1Password at {host} denied {what} to the token");
        return (
            Failure::new(Class::Denied, cause, "give the service account access to that vault"),
            Then::Doubt,
        );
    }
    if has(&["not in an active state"]) {
        let cause = format!("1Password does not have {what}: it is archived or deleted");
        return tell(Class::NotFound, cause, "restore it from the archive, or correct the reference");
    }
    if has(&["couldn't be found", "not in a valid format"]) {
        return tell(Class::NotFound, format!("1Password does not have {what}"), "correct the reference");
    }
    if has(&["decrypting", "deserializing", "BadEncoding", "data error", "verify"]) {
        return malformed(host, what);
    }
    if has(&["did not match any variant"]) {
        return tell(
            Class::Misconfigured,
            format!("1Password's SDK core is too old for {what}"),
            "install another version: onecred core install",
        );
    }
    if has(&["error sending request"]) {
        let cause = format!("1Password at {host} is away: it can't be reached, or does not answer");
        return (Failure::new(Class::Away, cause, REACH), Then::Unreached);
    }
    let why = match () {
        () if has(&["retrieving response contents"]) => "what it sent was truncated",
        () if has(&["internal server error"]) => "it has an internal error (500)",
        () => unquoted(message.rsplit(": ").next().unwrap_or(message)),
    };
    tell(Class::Away, format!("1Password at {host} is away: {why}"), REACH)
}

/// An unknown message, up to its first quotation: quoted text may be anything, even a token.
fn unquoted(words: &str) -> &str {
    let quote = words.find(['"', '`', '\'']).unwrap_or(words.len());
    let plain = &words[..words.floor_char_boundary(quote.min(120))];
    if plain.contains("ops_") || plain.trim().is_empty() {
        "the error message of the SDK core is not shown, because it may contain a token"
    } else {
        plain.trim_end()
    }
}

fn malformed(host: &str, what: &str) -> (Failure, Then) {
    let cause = format!("what 1Password at {host} sent for {what} is malformed");
    let remedy = "see whether something between this host and 1Password changes its answers";
    (Failure::new(Class::Malformed, cause, remedy), Then::Tell)
}

/// A rejected token.
pub(super) fn denied_token(host: &str) -> Failure {
    Failure::new(Class::Denied, format!("1Password at {host} denied the token"), NEW_TOKEN)
}

/// The SDK core has crashed, hung or violated its ABI.
pub(super) fn crashed(why: &str) -> Failure {
    let cause = format!("1Password is away: its core failed, {why}");
    let remedy = "if it does so again, install another version: onecred core install";
    Failure::new(Class::Away, cause, remedy).sanitized()
}

/// No answer in time.
pub(super) fn too_late(host: &str) -> Failure {
    Failure::new(Class::Away, format!("1Password at {host} is away: no answer came in time"), REACH)
}

fn no_library() -> Failure {
    let cause = "1Password's SDK core is not installed, and service accounts need it";
    let remedy = "install it: onecred core install FILE, or name it as the source's \"library\"";
    Failure::new(Class::Misconfigured, cause, remedy).retry_after(Duration::from_secs(2))
}

fn library(why: &str) -> Failure {
    let cause = format!("1Password's SDK core is not loaded: {why}");
    Failure::new(Class::Misconfigured, cause, "install a known version: onecred core install FILE")
        .sanitized()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_core_quotes_is_not_repeated() {
        for said in [
            "invalid type: string \"ops_canary\", expected a map",
            "bad config: ops_canary",
            "x: `ops_canary`",
            "\"ops_canary\"",
        ] {
            let (failure, _) =
                of("host", "a session", &Refused::Core { name: "Other".into(), message: said.into() });
            assert!(!failure.to_string().contains("canary"), "{failure}");
        }
        let known =
            of("host", "x", &Refused::Core { name: "Other".into(), message: "a: dns went wrong".into() });
        assert!(known.0.cause.ends_with("is away: dns went wrong"), "{}", known.0);
    }

    #[test]
    fn the_words_of_the_core() {
        // the messages of version 0.4.2
        let cases = [
            (
                "RateLimitExceeded",
                "performing a vault operation: rate limit exceeded",
                Class::Limited,
                Then::Tell,
            ),
            ("Auth", "authentication error: rate limit exceeded", Class::Limited, Then::Tell),
            ("Auth", "authentication error: you are not authenticated", Class::Denied, Then::LogIn),
            ("ItemApi", "bad credentials, please retry: failed to authenticate", Class::Denied, Then::LogIn),
            (
                "ItemApi",
                "you do not have the right permissions to perform this action: performing an item operation",
                Class::Denied,
                Then::Doubt,
            ),
            ("ItemApi", "item couldn't be found", Class::NotFound, Then::Tell),
            ("ItemApi", "item is not in an active state", Class::NotFound, Then::Tell),
            ("ItemApi", "internal server error", Class::Away, Then::Tell),
            ("ItemApi", "unlocking vault when listing items: internal server error", Class::Away, Then::Tell),
            ("ItemApi", "unexpected status code in response: 502 Bad Gateway", Class::Away, Then::Tell),
            ("ItemApi", "request timeout", Class::Away, Then::Tell),
            ("ItemApi", "error sending request for url (https://h/)", Class::Away, Then::Unreached),
            (
                "ItemApi",
                "when decrypting request body: Aes(Jweb(BadEncoding(<redacted json data error>)))",
                Class::Malformed,
                Then::Tell,
            ),
            (
                "Internal",
                "an internal error occurred, please contact 1Password: invalid client id",
                Class::Denied,
                Then::LogIn,
            ),
            ("ServiceAccountTokenParsing", "invalid service account token", Class::Denied, Then::Tell),
            ("", "something that no version has said yet", Class::Away, Then::Tell),
        ];
        for (name, message, class, then) in cases {
            let refused = Refused::Core { name: name.into(), message: message.into() };
            let (failure, done) = of("my.1password.com", "a thing", &refused);
            assert_eq!((failure.class, done), (class, then), "{name}: {message}");
        }
    }
}
