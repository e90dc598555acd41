//! Classifies HTTP statuses and connection errors: the class of the failure, and whether to retry.

use std::error::Error;
use std::io;
use std::time::Duration;

use hyper_util::client::legacy;
use rustls::CertificateError;

use crate::host::clock;
use crate::ipc::{Class, Failure};

use super::super::calendar::http_date;
use super::local::{self, Unattested};

/// The failure of one attempt.
pub(super) struct FailedAttempt {
    pub(super) failure: Failure,
    pub(super) again: Again,
    /// Whether the server probably did not notice the attempt, so that frequent retries do not burden it.
    pub(super) unreached: bool,
}

/// Whether another attempt may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// No: the answer is final.
    No,
    /// A 403 is sometimes wrong, so it is believed only after three times.
    Doubtful,
    /// Yes, after a short pause.
    Soon,
    /// Yes, after this time.
    After(Duration),
}

impl FailedAttempt {
    pub(super) fn final_(failure: Failure) -> Self {
        Self { failure, again: Again::No, unreached: false }
    }

    fn passing(failure: Failure) -> Self {
        Self { failure, again: Again::Soon, unreached: false }
    }
}

const TOKEN: &str = "set a token of this server: onecred token set";
const SERVER: &str = "check whether the Connect server works and can be reached from this host";
const URL: &str = "check whether the source's url is that of a Connect server";

/// A status other than 200 and 404.
pub(super) fn of_status(
    server: &str,
    what: &str,
    status: u16,
    retry_after: Option<Duration>,
    location: Option<&str>,
) -> FailedAttempt {
    let failure = |class, cause: String, remedy: &str| Failure::new(class, cause, remedy);
    let mut trouble = match status {
        300..=399 => {
            let place = location.and_then(|l| l.split(['?', '#']).next()).unwrap_or("elsewhere");
            let cause =
                format!("Connect at {server} redirects to {place:?} ({status}), which is not followed");
            FailedAttempt::final_(failure(Class::Malformed, cause, "correct the url in the configuration"))
        }
        401 => FailedAttempt::final_(failure(
            Class::Denied,
            format!("Connect at {server} does not accept the token (401)"),
            TOKEN,
        )),
        403 => {
            let cause = format!("Connect at {server} denies the token access to {what} (403)");
            let remedy = "give the token access to that vault";
            FailedAttempt {
                again: Again::Doubtful,
                ..FailedAttempt::final_(failure(Class::Denied, cause, remedy))
            }
        }
        408 => {
            let cause = format!("Connect at {server} did not synchronise in time (408)");
            FailedAttempt::passing(failure(
                Class::Away,
                cause,
                "wait, or check whether the server reaches 1Password",
            ))
        }
        413 => FailedAttempt::final_(failure(
            Class::TooLarge,
            format!("{what} is larger than Connect at {server} allows (413)"),
            "keep large data elsewhere and only its key in 1Password",
        )),
        429 => FailedAttempt::passing(failure(
            Class::Limited,
            format!("Connect at {server} takes no more calls for now (429)"),
            "wait; to reduce calls, use fewer references or a longer maxAge",
        )),
        500..=599 => {
            let cause = format!("Connect at {server} answers with status {status}");
            FailedAttempt::passing(failure(Class::Away, cause, SERVER))
        }
        _ => FailedAttempt::final_(failure(
            Class::Malformed,
            format!("Connect at {server} answers with status {status} for {what}"),
            URL,
        )),
    };
    if let (Again::Soon, Some(wait)) = (trouble.again, retry_after) {
        trouble.again = Again::After(wait);
        trouble.failure = trouble.failure.retry_after(wait);
    }
    trouble
}

/// A 404. `own`: it comes from Connect itself.
pub(super) fn of_not_found(server: &str, what: &str, own: bool) -> FailedAttempt {
    if own {
        let cause = format!("Connect does not have {what} (404)");
        return FailedAttempt::final_(Failure::new(Class::NotFound, cause, "correct the reference"));
    }
    let cause = format!("no Connect server answers at {server}: the 404 response is not in Connect's format");
    FailedAttempt::passing(Failure::new(Class::Away, cause, URL))
}

/// An answer with the wrong content type.
pub(super) fn of_type(server: &str, what: &str, kind: &str, json: bool) -> FailedAttempt {
    let kind = if kind.is_empty() { "of no type" } else { kind };
    let not = if json { "not JSON" } else { "not a file" };
    let cause = format!("{what} from Connect at {server}: it is {not}, but {}", plain(kind));
    FailedAttempt::final_(Failure::new(Class::Malformed, cause, URL))
}

/// A compressed answer.
pub(super) fn of_encoding(server: &str, what: &str, encoding: &str) -> FailedAttempt {
    let cause = format!(
        "{what} from Connect at {server}: it is compressed ({}), although onecred did not request that",
        plain(encoding)
    );
    FailedAttempt::final_(Failure::new(
        Class::Malformed,
        cause,
        "check whether a proxy before the server compresses, and turn that off",
    ))
}

/// A header's value, made safe for one line of text.
fn plain(header: &str) -> String {
    header.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(60).collect()
}

/// A body that exceeds the limit.
pub(super) fn of_size(server: &str, what: &str, most: usize) -> FailedAttempt {
    let cause = format!("{what} from Connect at {server} has over {} MiB", most >> 20);
    FailedAttempt::final_(Failure::new(
        Class::TooLarge,
        cause,
        "keep large data elsewhere and only its key in 1Password",
    ))
}

/// A body without a length, which ends when the connection ends.
pub(super) fn of_unframed(server: &str, what: &str) -> FailedAttempt {
    let cause = format!("{what} from Connect at {server} was sent without a length");
    FailedAttempt::final_(Failure::new(
        Class::Malformed,
        cause,
        "check whether an HTTP/1.0 proxy is before the server",
    ))
}

/// An answer that ended before its announced length.
pub(super) fn of_cut(server: &str, what: &str) -> FailedAttempt {
    FailedAttempt::passing(Failure::new(
        Class::Away,
        format!("{what} from Connect at {server} was truncated"),
        SERVER,
    ))
}

/// A missing or incomplete answer.
pub(super) fn of_error(server: &str, error: &reqwest::Error) -> FailedAttempt {
    let away = |what: String, remedy: &str| {
        Failure::new(Class::Away, format!("Connect at {server}: {what}"), remedy)
    };
    if let Some(rustls::Error::InvalidCertificate(certificate)) = tls_error(error) {
        let (what, remedy, passes) = of_certificate(certificate);
        let again = if passes { Again::Soon } else { Again::No };
        return FailedAttempt { failure: away(what, remedy), again, unreached: true };
    }
    if error.is_timeout() {
        return FailedAttempt::passing(away("it does not answer in time".into(), SERVER));
    }
    let what = if error.is_connect() { "it can't be reached" } else { "the connection broke" };
    let failure = away(format!("{what} ({})", innermost(error)), SERVER);
    FailedAttempt { unreached: error.is_connect(), ..FailedAttempt::passing(failure) }
}

/// No complete answer within the time of one attempt.
pub(super) fn of_timeout(server: &str) -> FailedAttempt {
    let cause = format!("Connect at {server}: it does not answer in time");
    FailedAttempt::passing(Failure::new(Class::Away, cause, SERVER))
}

/// A missing or incomplete answer from a server on this host.
pub(super) fn of_local_error(server: &str, error: &legacy::Error) -> FailedAttempt {
    let Some(reason) = local::unattested(error) else {
        let cause = format!("Connect at {server}: the connection broke ({})", innermost(error));
        return FailedAttempt::passing(Failure::new(Class::Away, cause, SERVER));
    };
    of_unattested(server, reason)
}

/// A connection to a server on this host that was not attested.
pub(super) fn of_unattested(server: &str, reason: &Unattested) -> FailedAttempt {
    let away = |cause: String, remedy: &str| {
        let failure = Failure::new(Class::Away, format!("Connect at {server}: {cause}"), remedy);
        FailedAttempt { unreached: true, ..FailedAttempt::passing(failure) }
    };
    match reason {
        Unattested::Unreachable(error) => away(format!("it can't be reached ({error})"), SERVER),
        Unattested::NotAccepted => away(format!("{reason}, so the token was not sent"), SERVER),
        Unattested::OtherUser(_) => FailedAttempt {
            again: Again::No,
            ..away(
                format!("{reason}, so the token was not sent"),
                "if that user runs Connect, add the user to the source's \"connectUsers\"; otherwise find the process: ss -tlpen",
            )
        },
        Unattested::Redirected => FailedAttempt {
            again: Again::No,
            ..away(
                format!(
                    "{reason}, since the connection is redirected or leaves this network namespace; the token was not sent"
                ),
                "use https, or \"url\": \"unix:/run/connect/api.sock\"; or set \"insecure\": true if you trust all local users",
            )
        },
        Unattested::NoUser(user) => FailedAttempt::final_(Failure::new(
            Class::Misconfigured,
            format!("user {user:?} of \"connectUsers\" does not exist"),
            "correct the name, or write the numeric user ID, then: onecred reload",
        )),
    }
}

/// The root cause of an error.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// A rejected certificate: what is wrong, what to do, and whether the failure may be temporary. This says
/// nothing about items, so the class is always that of an unreachable server.
fn of_certificate(error: &CertificateError) -> (String, &'static str, bool) {
    use CertificateError as C;
    match error {
        C::NotValidYet | C::NotValidYetContext { .. } => (
            "its certificate is not valid yet, so this host's clock may not be set".into(),
            "set the clock of this host (systemd-timesyncd or chrony does it after boot)",
            true,
        ),
        C::Expired | C::ExpiredContext { .. } => (
            "its certificate has expired".into(),
            "renew the certificate of the Connect server, or set the clock of this host",
            false,
        ),
        C::NotValidForName | C::NotValidForNameContext { .. } => (
            "its certificate is for another name".into(),
            "use a name from the certificate in the url",
            false,
        ),
        // the latter if another authority has the same name but another key
        C::UnknownIssuer | C::BadSignature => (
            "its certificate comes from an authority that is not trusted".into(),
            "name the authority's PEM file as the source's caFile, or add it to this host's certificates",
            false,
        ),
        other => (
            format!("its certificate is not accepted ({other})"),
            "renew the certificate of the Connect server",
            false,
        ),
    }
}

/// The TLS error in an error chain.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| tls_error(inner)) {
            return Some(tls);
        }
        next = error.source();
    }
    None
}

/// Parses a `Retry-After` header: seconds or a date. Limits the result to an hour.
pub(super) fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => u64::try_from(http_date(text)?).ok()?.saturating_sub(clock::unix()),
    };
    Some(Duration::from_secs(seconds.min(3_600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_statuses() {
        let cases = [
            (301, Class::Malformed, Again::No),
            (400, Class::Malformed, Again::No),
            (401, Class::Denied, Again::No),
            (403, Class::Denied, Again::Doubtful),
            (408, Class::Away, Again::Soon),
            (413, Class::TooLarge, Again::No),
            (418, Class::Malformed, Again::No),
            (429, Class::Limited, Again::Soon),
            (500, Class::Away, Again::Soon),
            (503, Class::Away, Again::Soon),
            (204, Class::Malformed, Again::No),
        ];
        for (status, class, again) in cases {
            let trouble = of_status("http://x", "item \"i\"", status, None, Some("http://y/?token=z"));
            assert_eq!((trouble.failure.class, trouble.again), (class, again), "{status}");
            assert!(!trouble.failure.cause.contains("token=z"), "{}", trouble.failure);
        }
        let wait = Duration::from_secs(7);
        let trouble = of_status("http://x", "it", 429, Some(wait), None);
        assert_eq!((trouble.again, trouble.failure.retry_after), (Again::After(wait), Some(wait)));
        assert_eq!(of_status("http://x", "it", 401, Some(wait), None).again, Again::No);
        assert_eq!(of_not_found("http://x", "it", true).failure.class, Class::NotFound);
        assert_eq!(of_not_found("http://x", "it", false).failure.class, Class::Away);
    }

    #[test]
    fn certificates_are_never_a_denial() {
        let cases = [
            (CertificateError::NotValidYet, true, "not valid yet"),
            (CertificateError::Expired, false, "expired"),
            (CertificateError::NotValidForName, false, "another name"),
            (CertificateError::UnknownIssuer, false, "not trusted"),
            (CertificateError::BadSignature, false, "not trusted"),
            (CertificateError::Revoked, false, "not accepted"),
        ];
        for (error, passes, words) in cases {
            let (what, _, again) = of_certificate(&error);
            assert!(what.contains(words), "{what}");
            assert_eq!(again, passes, "{what}");
        }
        let hidden = io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Expired));
        let twice = io::Error::other(hidden);
        assert!(matches!(
            tls_error(&twice),
            Some(rustls::Error::InvalidCertificate(CertificateError::Expired))
        ));
    }

    #[test]
    fn waits_of_servers() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("86400"), Some(Duration::from_secs(3_600)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("Sun, 06 Nov 2094 08:49:37 GMT"), Some(Duration::from_secs(3_600)));
        assert_eq!(retry_after("soon"), None);
    }
}
