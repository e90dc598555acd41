//! Parses the URL of a Connect server and decides how to reach it, so that the token is sent only to that
//! server.

use std::path::Path;

use reqwest::Url;

use crate::ipc::{Class, Failure};

use super::Address;
use super::local::LocalAddress;

/// A base URL, and how to reach it.
#[derive(Debug)]
pub(super) struct Base {
    /// The URL without `/v1`. For a socket its host is `localhost`.
    pub(super) url: Url,
    /// The address on this host where a process of an allowed user must answer. `None` if TLS identifies the
    /// server, or `insecure` is set.
    pub(super) local: Option<LocalAddress>,
}

/// Parses the URL. `config` has already made the same checks.
pub(super) fn read(address: &Address) -> Result<Base, Failure> {
    let wrong = |why: &str, remedy: &str| {
        Failure::new(Class::Misconfigured, format!("the url of the Connect source {why}"), remedy)
    };
    let example = "write it like https://connect.example:8443";
    if let Some(path) = address.url.strip_prefix("unix:") {
        let path = Path::new(path);
        if !path.is_absolute() {
            return Err(wrong(
                "is not the absolute path of a socket",
                "write it like unix:/run/connect/api.sock",
            ));
        }
        let url = Url::parse("http://localhost/").map_err(|_| wrong("is no URL", example))?;
        return Ok(Base { url, local: Some(LocalAddress::Unix(path.to_owned())) });
    }
    let mut url = Url::parse(&address.url).map_err(|_| wrong("is no URL", example))?;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(wrong("has more than a scheme, a host, a port and a path", example));
    }
    let local = match url.scheme() {
        "https" => None,
        "http" if address.insecure => None,
        "http" => Some(LocalAddress::of(&url).ok_or_else(|| {
            wrong(
                "is plain http to another host, which would reveal token and secrets to the network",
                "use https, or set \"insecure\": true if you trust the network with both",
            )
        })?),
        _ => return Err(wrong("is neither https nor http", example)),
    };
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    url.set_path(&path);
    Ok(Base { url, local })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str, insecure: bool) -> Result<Base, Failure> {
        read(&Address { url: url.into(), insecure, users: Vec::new(), ca_file: None })
    }

    #[test]
    fn urls() {
        let loopback = |addresses: &[&str]| {
            Some(LocalAddress::Loopback(addresses.iter().map(|address| address.parse().unwrap()).collect()))
        };
        for (url, insecure, expected, local) in [
            ("http://127.0.0.1:8080", false, "http://127.0.0.1:8080/", loopback(&["127.0.0.1:8080"])),
            ("http://127.9.0.1", false, "http://127.9.0.1/", loopback(&["127.9.0.1:80"])),
            ("http://127.0.0.1:8080", true, "http://127.0.0.1:8080/", None),
            (
                "http://localhost:8080/v1/",
                false,
                "http://localhost:8080/",
                loopback(&["127.0.0.1:8080", "[::1]:8080"]),
            ),
            ("http://x.LocalHost:1", false, "http://x.localhost:1/", loopback(&["127.0.0.1:1", "[::1]:1"])),
            ("http://[::1]:8080", false, "http://[::1]:8080/", loopback(&["[::1]:8080"])),
            ("https://connect.example/under/v1", false, "https://connect.example/under", None),
            ("https://localhost", false, "https://localhost/", None),
            ("http://10.0.0.1:8080", true, "http://10.0.0.1:8080/", None),
            ("unix:/run/c.sock", false, "http://localhost/", Some(LocalAddress::Unix("/run/c.sock".into()))),
        ] {
            let base = base(url, insecure).expect(url);
            assert_eq!((base.url.as_str(), base.local), (expected, local), "{url}");
        }
        for wrong in [
            "",
            "connect.example",
            "ftp://localhost",
            "http://10.0.0.1:8080",
            "http://localhost.example",
            "http://notlocalhost",
            "unix:run/c.sock",
            "https://user:word@connect.example",
            "https://connect.example/?a=b",
        ] {
            let failure = base(wrong, false).expect_err(wrong);
            assert_eq!(failure.class, Class::Misconfigured);
            assert!(!failure.to_string().contains("word@"), "{failure}");
        }
    }
}
