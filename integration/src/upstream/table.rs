//! The table itself.
use super::{
    Cold::{Gets, Refused},
    How::{self, Changed, Faults},
    Row,
    Warm::{self, Stale},
};
use crate::fake_connect::{Fault, Kind, TlsFault};
use std::time::Duration;

/// A call and three retries, in each fetch during the eight-second deadline of a unit.
const WAITED: usize = 16;
/// A check: one call and three retries.
const CHECKED: usize = 4;
/// A final response: the lists that lead to it, and the response.
const FINAL: usize = 3;

const SERVER: &str = "check whether the Connect server works and can be reached from this host";
const URL: &str = "check whether the source's url is that of a Connect server";
const PROXY: &str = "check the `url`, and whether a proxy answers instead";
const NOTHING: &str = "nothing; if it lasts, check the server";

/// A temporary failure: units wait for its end.
const fn passing(name: &'static str, what: &'static str, how: How, line: &'static str) -> Row {
    Row {
        name,
        what,
        how,
        cold: Refused("away"),
        warm: Stale("away"),
        line,
        remedy: SERVER,
        todo: NOTHING,
        calls: (WAITED, CHECKED),
        ends: true,
    }
}

/// An invalid response that does not change within seconds.
const fn lasting(name: &'static str, what: &'static str, how: How, line: &'static str) -> Row {
    let row = passing(name, what, how, line);
    Row {
        cold: Refused("malformed"),
        warm: Stale("malformed"),
        remedy: URL,
        todo: PROXY,
        calls: (FINAL, 1),
        ..row
    }
}

const fn certificate(
    name: &'static str,
    what: &'static str,
    fault: TlsFault,
    line: &'static str,
    remedy: &'static str,
    todo: &'static str,
) -> Row {
    // no request is sent to such a server
    Row { remedy, todo, calls: (0, 0), ..passing(name, what, How::Tls(fault), line) }
}

fn body(code: u16, content_type: &str, text: &str) -> Fault {
    Fault::of(Kind::Body { code, content_type: content_type.into(), text: text.into() })
}

/// All failures.
pub const ROWS: &[Row] = &[
    Row {
        calls: (0, 0),
        ..passing("refused", "connections are refused", How::Gone, "it can't be reached (Connection refused")
    },
    Row {
        calls: (0, 0),
        ..passing(
            "no-name",
            "the host name cannot be resolved",
            How::Unknown,
            "it can't be reached (failed to lookup address",
        )
    },
    passing(
        "reset",
        "connections are reset",
        Faults(|| vec![Fault::of(Kind::Reset { at: 90 })]),
        "the connection broke",
    ),
    passing(
        "closed",
        "connections are closed",
        Faults(|| vec![Fault::of(Kind::Close { at: 0 })]),
        "the connection broke",
    ),
    passing(
        "cut",
        "responses are cut off",
        Faults(|| vec![Fault::of(Kind::Truncate { at: 30 })]),
        "the connection broke",
    ),
    Row {
        remedy: "reach", // the text depends on which process gives up first
        ..passing("hangs", "no response arrives", Faults(|| vec![Fault::of(Kind::Hang)]), "in time")
    },
    Row {
        remedy: "reach",
        ..passing(
            "drips",
            "responses arrive byte by byte and never end",
            Faults(|| vec![Fault::of(Kind::Drip { bytes: 1, ms: 40 })]),
            "in time",
        )
    },
    Row {
        cold: Gets,
        warm: Warm::Gets,
        todo: "nothing",
        ..passing("slow", "responses are slow", Faults(|| vec![Fault::delay(Duration::from_millis(500))]), "")
    },
    Row {
        cold: Gets,
        warm: Warm::Gets,
        todo: "nothing",
        ..passing(
            "hiccup",
            "two calls fail, the third succeeds",
            Faults(|| vec![Fault::status(503).times(2)]),
            "",
        )
    },
    certificate(
        "tls-expired",
        "the certificate has expired",
        TlsFault::Expired,
        "its certificate has expired",
        "renew the certificate of the Connect server",
        "renew the certificate, or set the clock",
    ),
    certificate(
        "tls-early",
        "the certificate is not valid yet",
        TlsFault::NotYetValid { seconds: 86_400 },
        "its certificate is not valid yet",
        "set the clock of this host",
        "nothing at boot, before the clock is synchronised; otherwise set the clock",
    ),
    certificate(
        "tls-host",
        "the certificate is for another host name",
        TlsFault::WrongHost,
        "its certificate is for another name",
        "use a name from the certificate",
        "correct the `url`",
    ),
    certificate(
        "tls-ca",
        "the certificate's issuer is unknown",
        TlsFault::UnknownCa,
        "its certificate comes from an authority that is not trusted",
        "caFile",
        "set `caFile` to the issuer's certificate",
    ),
    Row {
        remedy: "correct the url in the configuration",
        todo: "correct the `url`",
        ..lasting(
            "redirect",
            "the server redirects; onecred does not follow redirects",
            Faults(|| vec![Fault::of(Kind::Redirect { code: 302, to: "http://127.0.0.1:1/".into() })]),
            "redirects to",
        )
    },
    lasting(
        "page",
        "an HTML page instead of JSON",
        Faults(|| vec![Fault::of(Kind::ContentType { value: "text/html; charset=utf-8".into() })]),
        "it is not JSON, but text/html",
    ),
    Row {
        remedy: "check whether a proxy before the server compresses",
        ..lasting(
            "gzip",
            "responses are compressed",
            Faults(|| vec![Fault::of(Kind::Gzip)]),
            "it is compressed (gzip), although onecred did not request that",
        )
    },
    Row {
        remedy: "check whether a proxy before the server compresses",
        ..lasting(
            "bomb",
            "a response that would fill the memory when decompressed",
            Faults(|| vec![Fault::of(Kind::GzipBomb { mib: 1024 })]),
            "it is compressed (gzip), although onecred did not request that",
        )
    },
    Row {
        cold: Refused("too large"),
        warm: Stale("too large"),
        remedy: URL,
        ..lasting(
            "large",
            "a response of 100 MB",
            Faults(|| vec![Fault::of(Kind::Huge { bytes: 100 << 20, declared: true })]),
            "has over 16 MiB",
        )
    },
    Row {
        cold: Refused("too large"),
        warm: Stale("too large"),
        remedy: URL,
        ..lasting(
            "endless",
            "a response without an end",
            Faults(|| vec![Fault::of(Kind::Huge { bytes: 1 << 40, declared: false })]),
            "has over 16 MiB",
        )
    },
    lasting(
        "no-json",
        "a response that is not JSON",
        Faults(|| vec![Fault::of(Kind::MalformedJson)]),
        "it is not JSON (line",
    ),
    lasting(
        "letters",
        "a response that is not UTF-8",
        Faults(|| vec![Fault::of(Kind::InvalidUtf8)]),
        "it is not UTF-8",
    ),
    lasting(
        "deep",
        "deeply nested JSON",
        Faults(|| vec![Fault::of(Kind::Deep { depth: 1_000_000 })]),
        "its structure is not that of a Connect response",
    ),
    lasting(
        "doubled",
        "duplicate JSON keys",
        Faults(|| vec![Fault::of(Kind::DuplicateKeys)]),
        "it contains a key twice",
    ),
    lasting("empty", "an empty body", Faults(|| vec![body(200, "application/json", "")]), "it ends early"),
    Row {
        cold: Refused("denied"),
        warm: Stale("denied"),
        remedy: "give the token access to the vaults",
        todo: "grant access to the vaults",
        calls: (6, 3),
        ..lasting(
            "no-vaults",
            "the token has access to no vaults",
            Faults(|| vec![body(200, "application/json", "[]").exactly_on("/v1/vaults")]),
            "the token sees no vault",
        )
    },
    Row {
        warm: Warm::Gets,
        ..lasting(
            "other-item",
            "another item than the requested one",
            Faults(|| vec![Fault::of(Kind::OtherItem)]),
            "it is another item than was asked for",
        )
    },
    Row {
        cold: Gets,
        remedy: "wait until it has synchronised",
        todo: "nothing; if it lasts, check the server",
        ..passing(
            "behind",
            "the server returns an older version than before",
            How::Earlier,
            "but had already returned version",
        )
    },
    Row {
        warm: Warm::Refused("away"),
        calls: (WAITED, WAITED),
        ..passing(
            "changed",
            "the secret changed and cannot be fetched",
            Changed(|| vec![Fault::status(503).on("/v1/vaults/vaultmineaaaaaaaaaaaaaaaaa/items/")]),
            "answers with status 503",
        )
    },
    Row {
        warm: Warm::Refused("malformed"),
        calls: (FINAL, FINAL),
        ..lasting(
            "changed-other",
            "the secret changed, and the server returns another item",
            Changed(|| vec![Fault::of(Kind::OtherItem)]),
            "it is another item than was asked for",
        )
    },
    Row {
        calls: (FINAL, 2),
        ..lasting(
            "changed-list",
            "an item changed, and the list of items is not JSON",
            Changed(|| {
                vec![Fault::of(Kind::MalformedJson).exactly_on("/v1/vaults/vaultmineaaaaaaaaaaaaaaaaa/items")]
            }),
            "it is not JSON (line",
        )
    },
    Row {
        cold: Refused("not found"),
        warm: Warm::Refused("not found"),
        remedy: "correct the reference",
        todo: "correct the reference, or create the item",
        calls: (8, 8),
        ends: false,
        ..lasting("deleted", "the item was deleted", How::Deleted, "no item")
    },
    Row {
        cold: Refused("not found"),
        warm: Warm::Refused("not found"),
        remedy: "give the token",
        todo: "grant access again",
        calls: (8, 8),
        ends: false,
        ..lasting("unseen", "the token lost access to the vault", How::Denied, "no vault")
    },
    lasting(
        "s400",
        "400, and any other status up to 499 that is not listed here",
        Faults(|| vec![Fault::status(400)]),
        "answers with status 400",
    ),
    Row {
        cold: Refused("denied"),
        warm: Stale("denied"),
        remedy: "onecred token set",
        todo: "`onecred token set`",
        ..lasting(
            "s401",
            "401: the token is not accepted",
            Faults(|| vec![Fault::status(401)]),
            "does not accept the token (401)",
        )
    },
    Row {
        cold: Refused("denied"),
        warm: Stale("denied"),
        remedy: "give the token access",
        todo: "grant access to the vaults",
        calls: (6, 3),
        ..lasting("s403", "403, three times", Faults(|| vec![Fault::status(403)]), "denies the token access")
    },
    lasting(
        "s404",
        "404 for every request, in the format of Connect",
        Faults(|| vec![Fault::status(404)]),
        "the server knows no such list (404)",
    ),
    Row {
        remedy: URL,
        ..passing(
            "page404",
            "404 in the format of a proxy",
            Faults(|| vec![body(404, "text/html", "nope")]),
            "the 404 response is not in Connect's format",
        )
    },
    Row {
        remedy: "wait, or check whether the server reaches 1Password",
        ..passing("s408", "408", Faults(|| vec![Fault::status(408)]), "did not synchronise in time (408)")
    },
    Row {
        cold: Refused("too large"),
        warm: Stale("too large"),
        remedy: URL,
        todo: "store large data elsewhere; for a list, check whether a proxy answers instead",
        ..lasting("s413", "413", Faults(|| vec![Fault::status(413)]), "is larger than Connect at")
    },
    Row {
        cold: Refused("rate limited"),
        warm: Stale("rate limited"),
        remedy: "fewer references or a longer maxAge",
        ..passing("s429", "429", Faults(|| vec![Fault::status(429)]), "takes no more calls for now (429)")
    },
    Row {
        cold: Refused("rate limited"),
        warm: Stale("rate limited"),
        remedy: "fewer references or a longer maxAge",
        calls: (1, 1),
        ends: false,
        ..passing(
            "later",
            "429 with a time, which onecred waits for up to an hour",
            Faults(|| vec![Fault::retry_after(429, "3600")]),
            "takes no more calls for now (429)",
        )
    },
    passing("s500", "500 to 599", Faults(|| vec![Fault::status(500)]), "answers with status 500"),
    passing("s503", "", Faults(|| vec![Fault::status(503)]), "answers with status 503"),
];
