//! Faults: what goes wrong, where and how often. They are plain data, and JSON on the control endpoint.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One fault. It applies to requests whose path, including the query, starts with `path`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// The beginning of the request's path and query; empty matches all requests.
    #[serde(default = "everywhere")]
    pub path: String,
    /// Whether `path` must be the whole path. The query is ignored then.
    #[serde(default)]
    pub exact: bool,
    /// How many matching requests succeed first.
    #[serde(default)]
    pub after: u32,
    /// How many requests then fail; if `None`, all until the fault is removed.
    #[serde(default)]
    pub times: Option<u32>,
    /// What goes wrong.
    #[serde(rename = "do")]
    pub kind: Kind,
}

/// What goes wrong. Delays add up; of other faults, the first match counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Kind {
    /// An error status. `retry_after` is the header: seconds, a literal date, or `date+SECONDS`.
    Status { code: u16, retry_after: Option<String>, message: Option<String> },
    /// No answer at all.
    Hang,
    /// A late answer.
    Delay { ms: u64 },
    /// The body is sent in pieces of this size.
    Drip { bytes: usize, ms: u64 },
    /// The connection is closed after this many bytes of the reply, including headers.
    Close { at: usize },
    /// The same with a reset.
    Reset { at: usize },
    /// The body ends after this many bytes, although the Content-Length announces all.
    Truncate { at: usize },
    /// A body that is not JSON.
    MalformedJson,
    /// JSON whose first string has a byte that is not UTF-8.
    InvalidUtf8,
    /// The right body with another content type.
    ContentType { value: String },
    /// The answer without this header.
    WithoutHeader { name: String },
    /// A body of this size, with or without a declared length.
    Huge { bytes: u64, declared: bool },
    /// The body is compressed without a request for that.
    Gzip,
    /// A small body that would be this many MiB after decompression.
    GzipBomb { mib: u32 },
    /// A redirect.
    Redirect { code: u16, to: String },
    /// Arrays nested this deep.
    Deep { depth: usize },
    /// Every key of every object appears twice, the second time with another value.
    DuplicateKeys,
    /// Another item of the vault than the requested one.
    OtherItem,
    /// The service's proof that it knows the account's verifier is wrong (service account).
    WrongSignature,
    /// Data for the session is encrypted with another key (service account).
    WrongKey,
    /// The session ends: this and later requests of the session are not authenticated (service account).
    EndSession,
    /// An arbitrary answer.
    Body { code: u16, content_type: String, text: String },
}

impl Fault {
    /// A permanent fault for all requests; narrow it with the methods below.
    pub fn of(kind: Kind) -> Fault {
        Fault { path: everywhere(), exact: false, after: 0, times: None, kind }
    }

    /// An error status.
    pub fn status(code: u16) -> Fault {
        Fault::of(Kind::Status { code, retry_after: None, message: None })
    }

    /// An error status with a `Retry-After`: seconds, a date, or `date+SECONDS`.
    pub fn retry_after(code: u16, when: &str) -> Fault {
        Fault::of(Kind::Status { code, retry_after: Some(when.to_owned()), message: None })
    }

    /// A delay.
    pub fn delay(by: Duration) -> Fault {
        Fault::of(Kind::Delay { ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Limits the fault to paths with this beginning.
    pub fn on(self, path: &str) -> Fault {
        Fault { path: path.to_owned(), ..self }
    }

    /// Limits the fault to this path.
    pub fn exactly_on(self, path: &str) -> Fault {
        Fault { path: path.to_owned(), exact: true, ..self }
    }

    /// Limits the number of failing requests.
    pub fn times(self, times: u32) -> Fault {
        Fault { times: Some(times), ..self }
    }

    /// Lets this many matching requests succeed first.
    pub fn after(self, after: u32) -> Fault {
        Fault { after, ..self }
    }

    fn matches(&self, path: &str, query: &str) -> bool {
        if self.exact {
            return path.trim_end_matches('/') == self.path.trim_end_matches('/');
        }
        path.starts_with(&self.path) || format!("{path}?{query}").starts_with(&self.path)
    }

    /// Whether the fault applies to this matching request; counts the request.
    fn strikes(&mut self) -> bool {
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        match &mut self.times {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
}

fn everywhere() -> String {
    "/".to_owned()
}

/// What goes wrong with one request.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) delay: Duration,
    pub(super) kind: Option<Kind>,
}

/// Returns the faults that apply to a request, and removes those that are used up.
pub(super) fn strike(faults: &mut Vec<Fault>, path: &str, query: &str) -> Plan {
    let mut plan = Plan::default();
    for fault in faults.iter_mut().filter(|fault| fault.matches(path, query)) {
        let delay = if let Kind::Delay { ms } = fault.kind { Some(Duration::from_millis(ms)) } else { None };
        if (delay.is_some() || plan.kind.is_none()) && fault.strikes() {
            match delay {
                Some(delay) => plan.delay += delay,
                None => plan.kind = Some(fault.kind.clone()),
            }
        }
    }
    faults.retain(|fault| fault.times != Some(0));
    plan
}

#[cfg(test)]
mod tests {
    use super::{Fault, Kind, strike};

    #[test]
    fn a_fault_strikes_where_and_as_often_as_said() {
        let mut faults = vec![Fault::status(503).on("/v1/vaults/").after(1).times(2)];
        let mut struck = |path| strike(&mut faults, path, "").kind.is_some();
        assert!(!struck("/v1/vaults"));
        let then: Vec<bool> = (0..4).map(|_| struck("/v1/vaults/v")).collect();
        assert_eq!(then, [false, true, true, false]);
        assert!(faults.is_empty());
    }

    #[test]
    fn faults_are_json_and_strict() {
        let parse = |text| serde_json::from_str::<Fault>(text);
        let fault =
            parse(r#"{"path":"/v1","times":2,"do":{"status":{"code":429,"retryAfter":"1"}}}"#).unwrap();
        assert!(matches!(fault.kind, Kind::Status { code: 429, retry_after: Some(_), message: None }));
        assert!(matches!(parse(r#"{"do":"hang"}"#).unwrap().kind, Kind::Hang));
        assert!(parse(r#"{"do":"hang","tims":2}"#).is_err());
        assert!(parse(r#"{"do":{"delay":{"ms":2,"s":1}}}"#).is_err());
    }
}
