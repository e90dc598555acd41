//! The URL of a Connect server: what sends a token makes sure where it goes.

use std::net::IpAddr;

use reqwest::Url;

use crate::ipc::{Class, Failure};

use super::Address;

/// Reads it. The configuration has been checked for the same.
pub(super) fn read(address: &Address) -> Result<Url, Failure> {
    let wrong = |why: &str, remedy: &str| {
        Failure::new(Class::Misconfigured, format!("the url of the Connect source {why}"), remedy)
    };
    let example = "write it like https://connect.example:8443";
    let mut url = Url::parse(&address.url).map_err(|_| wrong("is no URL", example))?;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(wrong("holds more than a scheme, a host, a port and a path", example));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback || address.insecure => {}
        "http" => {
            return Err(wrong(
                "is plain http beyond this host, which would show token and secrets to the network",
                "use https, or set \"insecure\": true for a network that you trust with both",
            ));
        }
        _ => return Err(wrong("is neither https nor http", example)),
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str, insecure: bool) -> Result<String, Failure> {
        read(&Address { url: url.into(), insecure, ca_file: None }).map(|url| url.to_string())
    }

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("http://localhost:8080/v1/", "http://localhost:8080/"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
            ("https://connect.example/under/v1", "https://connect.example/under"),
        ] {
            assert_eq!(base(url, false).expect(url), expected);
        }
        assert!(base("http://10.0.0.1:8080", true).is_ok());
        for wrong in [
            "",
            "connect.example",
            "ftp://localhost",
            "http://10.0.0.1:8080",
            "http://localhost.example",
            "https://user:word@connect.example",
            "https://connect.example/?a=b",
        ] {
            let failure = base(wrong, false).expect_err(wrong);
            assert_eq!(failure.class, Class::Misconfigured);
            assert!(!failure.to_string().contains("word@"), "{failure}");
        }
    }
}
