//! Faults: what shall go wrong, where, how often. They are data, and JSON on the control endpoint.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One fault: it holds for requests whose path, query included, starts with `path`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// What the request's path and query begin with; all requests if left out.
    #[serde(default = "everywhere")]
    pub path: String,
    /// `path` is the whole path; a query is not looked at.
    #[serde(default)]
    pub exact: bool,
    /// So many matching requests are let through first.
    #[serde(default)]
    pub after: u32,
    /// Then so many fail; all, until cleared, if left out.
    #[serde(default)]
    pub times: Option<u32>,
    /// What goes wrong.
    #[serde(rename = "do")]
    pub kind: Kind,
}

/// What goes wrong. Delays add up; of the others the first that matches counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Kind {
    /// An error of that status. `retry_after` is the header: seconds, a date as it stands, or `date+SECONDS`.
    Status { code: u16, retry_after: Option<String>, message: Option<String> },
    /// No answer, ever.
    Hang,
    /// The answer comes later.
    Delay { ms: u64 },
    /// The body comes so many bytes at a time.
    Drip { bytes: usize, ms: u64 },
    /// The connection is closed after so many bytes of the reply, head included.
    Close { at: usize },
    /// The same with a reset.
    Reset { at: usize },
    /// The body ends after so many bytes, the Content-Length promised all.
    Truncate { at: usize },
    /// A body that is no JSON.
    MalformedJson,
    /// JSON with a byte that is no UTF-8 in its first string.
    InvalidUtf8,
    /// The right body under another content type.
    ContentType { value: String },
    /// The answer without this header.
    WithoutHeader { name: String },
    /// A body of so many bytes, its length declared beforehand or not.
    Huge { bytes: u64, declared: bool },
    /// The body is compressed, asked for or not.
    Gzip,
    /// A small body that would be so many MiB, were it decompressed.
    GzipBomb { mib: u32 },
    /// A redirect.
    Redirect { code: u16, to: String },
    /// Arrays in arrays, so many.
    Deep { depth: usize },
    /// Every key of every object appears twice, the second time with another value.
    DuplicateKeys,
    /// Another item of the vault than the one asked for.
    OtherItem,
    /// The proof that the service knows the account's verifier is wrong (service account).
    WrongSignature,
    /// What should be encrypted for the session is encrypted under another key (service account).
    WrongKey,
    /// The session ends: this request and later ones of the session are not authenticated (service account).
    EndSession,
    /// Any answer.
    Body { code: u16, content_type: String, text: String },
}

impl Fault {
    /// Always, everywhere; narrow it with the methods below.
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

    /// Only for paths that begin so.
    pub fn on(self, path: &str) -> Fault {
        Fault { path: path.to_owned(), ..self }
    }

    /// Only for this path.
    pub fn exactly_on(self, path: &str) -> Fault {
        Fault { path: path.to_owned(), exact: true, ..self }
    }

    /// Only so often.
    pub fn times(self, times: u32) -> Fault {
        Fault { times: Some(times), ..self }
    }

    /// Only after so many matching requests.
    pub fn after(self, after: u32) -> Fault {
        Fault { after, ..self }
    }

    fn matches(&self, path: &str, query: &str) -> bool {
        if self.exact {
            return path.trim_end_matches('/') == self.path.trim_end_matches('/');
        }
        path.starts_with(&self.path) || format!("{path}?{query}").starts_with(&self.path)
    }

    /// Whether it strikes this matching request; counts it.
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

/// Takes from the list what strikes a request; what is used up leaves the list.
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
